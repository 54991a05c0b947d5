"""How readings with timestamps become samples."""

from gateway.drivers.opcua.samples import in_samples
from gateway.drivers.opcua.types.values import DataValue, Unusable
from gateway.model import Sample

NAMES = ("a", "b", "c")


def good(value: object, source: int | None, server: int | None = None) -> DataValue:
    return DataValue(value, 0, source, server)


def test_each_source_millisecond_is_a_sample_in_ascending_order() -> None:
    readings = [(2, good("z", 7)), (0, good(1, 9)), (1, good(2, 7))]
    assert in_samples(readings, NAMES, "source", 20) == (
        Sample(7, (1, 2), (2, "z"), 2, rx=20),
        Sample(9, (0,), (1,), 1, rx=20),
    )


def test_a_second_value_in_the_same_millisecond_opens_another_sample_and_keeps_its_place() -> None:
    readings = [(0, good(1, 7)), (0, good(2, 7)), (1, good(5, 7)), (0, good(3, 7))]
    assert in_samples(readings, NAMES, "source", 20) == (
        Sample(7, (0, 1), (1, 5), 2, rx=20),
        Sample(7, (0,), (2,), 1, rx=20),
        Sample(7, (0,), (3,), 1, rx=20),
    )


def test_a_bad_value_is_named_and_not_among_the_values_and_an_uncertain_one_is_both() -> None:
    readings = [(0, DataValue(1, 0x808C0000, 7, None)), (1, DataValue(2, 0x40900000, 7, None)), (2, good(3, 7))]
    quality = {"a": "bad:BadSensorFailure", "b": "uncertain:UncertainLastUsableValue"}
    assert in_samples(readings, NAMES, "source", 20) == (Sample(7, (1, 2), (2, 3), 3, quality, rx=20),)


def test_a_good_status_without_a_value_is_bad() -> None:
    readings = [(0, good(Unusable("no-value"), 7))]
    assert in_samples(readings, NAMES, "source", 20) == (Sample(7, (), (), 1, {"a": "bad:no-value"}, rx=20),)


def test_without_a_source_timestamp_the_servers_counts_and_then_our_own() -> None:
    readings = [(0, good(1, None, 8)), (1, good(2, None, None))]
    assert in_samples(readings, NAMES, "source", 20) == (Sample(8, (0,), (1,), 1, rx=20), Sample(20, (1,), (2,), 1))


def test_the_section_chooses_whose_clock_counts() -> None:
    readings = [(0, good(1, 7, 8))]
    assert in_samples(readings, NAMES, "server", 20) == (Sample(8, (0,), (1,), 1, rx=20),)
    assert in_samples(readings, NAMES, "gateway", 20) == (Sample(20, (0,), (1,), 1),)


def test_our_own_stamp_is_kept_apart_from_the_plcs_even_in_the_same_millisecond() -> None:
    """A sample without `rx` is one whose stamp may need correcting once our clock is right."""
    readings = [(0, good(1, 20)), (1, good(2, None))]
    assert in_samples(readings, NAMES, "source", 20) == (Sample(20, (1,), (2,), 1), Sample(20, (0,), (1,), 1, rx=20))
