"""What of a read is sent: deadband, heartbeat, quality; and that the consumer is never left with an untruth."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drivers.base import Percent
from gateway.model import ALL_TAGS, Sample
from gateway.shaping import Shaper
from tests.scripted import ScriptedTag, scripted, scripted_tag

HEARTBEAT_S = 60.0


def shaper_of(*tags: ScriptedTag) -> Shaper:
    """Make a shaper for a device that is read once a second."""
    return Shaper(scripted(tags=tags, heartbeat=HEARTBEAT_S))


def tag(deadband: Decimal | float | str | None = None, **keys: Any) -> ScriptedTag:
    """Make a tag as a config would."""
    return scripted_tag(deadband=deadband, **keys)


def read(value: Any, quality: str = "") -> Sample:
    """Read the one tag `level`: good, uncertain with a value, or bad without."""
    if quality.startswith("bad:"):
        return Sample(1000, (), (), 1, {"level": quality})
    return Sample(1000, (0,), (value,), 1, {"level": quality} if quality else {})


def sent(shaper: Shaper, values: Iterable[Any], every: float = 1.0) -> list[Any]:
    """Give what is sent of a series of values."""
    outs = [shaper.shape(read(value), number * every) for number, value in enumerate(values)]
    return [value for out in outs if out is not None for value in out.values]


def test_without_a_deadband_every_read_is_sent() -> None:
    assert sent(shaper_of(tag()), [1, 1, 1, 2, 2]) == [1, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("deadband", "values", "wanted"),
    [
        (0, [1, 1, 2, 2, 1], [1, 2, 1]),
        (0, [0.1, 0.1, 0.1000001], [0.1, 0.1000001]),
        (0, ["on", "on", "off"], ["on", "off"]),
        (0, [True, True, False], [True, False]),
        (0, [[1, 2], [1, 2], [1, 3]], [[1, 2], [1, 3]]),
        (0, [{"a": 1}, {"a": 1}, {"a": 2}], [{"a": 1}, {"a": 2}]),
        (0, [2**64 - 1, 2**64 - 1, 2**64 - 2], [2**64 - 1, 2**64 - 2]),
        (2, [10, 12, 8, 13, 11, 10], [10, 13, 10]),
        (2, [-1, 1, 2, 0], [-1, 2]),
        (0.5, [1.0, 1.5, 1.51, 1.2, 1.0], [1.0, 1.51, 1.0]),
        (0.5, [10.0, 10.4, 10.8, 11.2], [10.0, 10.8]),  # creeping does not escape it
        (0.5, ["a", "a", "b"], ["a", "b"]),
        (0.5, [True, False, False, True], [True, False, True]),
        (5, [True, False], [True, False]),
        (5, [[1], [1], [2]], [[1], [2]]),
    ],
)
def test_a_deadband_lets_through_what_left_it(deadband: float, values: list[Any], wanted: list[Any]) -> None:
    assert sent(shaper_of(tag(deadband)), values) == wanted


@pytest.mark.parametrize("deadband", [0, 5])
@pytest.mark.parametrize(
    ("one", "other"), [(1, True), (1, 1.0), (1, "1"), (0, False), ([1], [True]), ([1], [1.0]), ({"a": 1}, {"a": True})]
)
def test_a_change_of_type_is_a_change(deadband: float, one: Any, other: Any) -> None:
    values = sent(shaper_of(tag(deadband)), [one, other, other, one])
    assert list(map(repr, values)) == list(map(repr, [one, other, one]))


@pytest.mark.parametrize(
    ("text", "bounds"), [("2%", (0, 100)), ("1%", (-100, 100)), ("100%", (3, 5)), ("0.5%", (0, 400))]
)
def test_a_percentage_is_of_the_range(text: str, bounds: tuple[int, int]) -> None:
    shaper = shaper_of(tag(text, range=bounds))
    assert isinstance(tag(text, range=bounds).deadband, Percent)
    assert sent(shaper, [50.0, 52.0, 48.0, 52.01, 52.01]) == [50.0, 52.01]


def test_a_step_of_just_the_percentage_is_none_however_floats_round() -> None:
    for start in range(1000):
        values = [start / 10, (start + 1) / 10, (start + 2) / 10]
        assert sent(shaper_of(tag("1%", range=(0, 10))), values) == [values[0], values[2]]


@given(st.integers(-(10**6), 10**6), st.integers(1, 1000), st.integers(0, 4), st.sampled_from([1, -1]))
def test_a_step_of_just_the_deadband_is_none_however_floats_round(
    start: int, deadband: int, places: int, sign: int
) -> None:
    unit = Decimal(1).scaleb(-places)
    values = [float((start + step) * unit) for step in (0, sign * deadband, sign * (deadband + 1))]
    assert sent(shaper_of(tag(deadband * unit)), values) == [values[0], values[2]]


def test_a_value_that_stays_is_sent_again_at_each_heartbeat() -> None:
    shaper = shaper_of(tag(0))
    times = [second for second in range(200) if shaper.shape(read(7), float(second)) is not None]
    assert times == [0, 60, 120, 180]


def test_reads_that_come_a_little_early_do_not_put_off_the_heartbeat() -> None:
    shaper = shaper_of(tag(0, interval=HEARTBEAT_S, heartbeat=HEARTBEAT_S))
    assert sent(shaper, [7, 7, 7, 7], every=HEARTBEAT_S - 0.01) == [7, 7, 7, 7]


def test_a_tag_has_its_own_heartbeat() -> None:
    shaper = shaper_of(tag(0, heartbeat=10.0))
    times = [second for second in range(25) if shaper.shape(read(7), float(second)) is not None]
    assert times == [0, 10, 20]


def test_a_bad_quality_is_sent_at_once_once_and_at_heartbeats() -> None:
    for deadband in (None, 0, 5):
        shaper = shaper_of(tag(deadband))
        shaper.shape(read(7), 0.0)
        told = [second for second in range(1, 130) if shaper.shape(read(None, "bad:timeout"), float(second))]
        assert told == [1, 61, 121]


def test_another_reason_is_another_quality() -> None:
    shaper = shaper_of(tag())
    outs = [shaper.shape(read(None, quality), 1.0) for quality in ("bad:timeout", "bad:timeout", "bad:device-busy")]
    assert [out and dict(out.quality) for out in outs] == [{"level": "bad:timeout"}, None, {"level": "bad:device-busy"}]


@pytest.mark.parametrize("deadband", [None, 0, 5])
def test_a_tag_that_recovers_sends_its_value_though_it_has_not_changed(deadband: float | None) -> None:
    shaper = shaper_of(tag(deadband))
    shaper.shape(read(7), 0.0)
    shaper.shape(read(None, "bad:timeout"), 1.0)
    assert shaper.bad == {"level": "bad:timeout"}
    out = shaper.shape(read(7), 2.0)
    assert out == read(7)
    assert shaper.bad == {}


def test_a_bad_tag_carries_no_value_not_even_the_last_good_one() -> None:
    shaper = shaper_of(tag(0))
    shaper.shape(read(7), 0.0)
    out = shaper.shape(read(None, "bad:timeout"), 1.0)
    assert out == Sample(1000, (), (), 1, {"level": "bad:timeout"})


def test_an_uncertain_value_carries_its_quality_whenever_it_is_sent() -> None:
    shaper = shaper_of(tag(2))
    outs = [shaper.shape(read(value, "uncertain:old"), 1.0) for value in (10, 11, 13)]
    assert [out and (out.values, dict(out.quality)) for out in outs] == [
        ((10,), {"level": "uncertain:old"}), None, ((13,), {"level": "uncertain:old"}),
    ]  # fmt: skip
    assert shaper.bad == {"level": "uncertain:old"}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "uncertain:old"),
        ("uncertain:old", ""),
        ("uncertain:old", "uncertain:new"),
        ("bad:timeout", "uncertain:old"),
        ("uncertain:old", "bad:timeout"),
    ],
)
def test_a_change_of_quality_is_sent_though_the_value_is_the_same(before: str, after: str) -> None:
    shaper = shaper_of(tag(5))
    shaper.shape(read(7, before), 0.0)
    assert shaper.shape(read(7, before), 1.0) is None
    assert shaper.shape(read(7, after), 2.0) == read(7, after)
    assert shaper.shape(read(7, after), 3.0) is None


def test_one_tags_failure_costs_no_other_its_value() -> None:
    shaper = shaper_of(tag(name="level"), tag(0, name="flow"))
    shaper.shape(Sample.good(1000, (0, 1), (1, 2)), 0.0)
    out = shaper.shape(Sample(2000, (0,), (1,), 2, {"flow": "bad:timeout"}), 1.0)
    assert out == Sample(2000, (0,), (1,), 2, {"flow": "bad:timeout"})
    out = shaper.shape(Sample(3000, (0,), (1,), 2, {"flow": "bad:timeout"}), 2.0)
    assert out == Sample(3000, (0,), (1,), 1)


def test_p4_what_is_sent_says_how_many_readings_it_holds() -> None:
    shaper = shaper_of(tag(0, name="level"), tag(0, name="flow"), tag(0, name="on"), tag(0, name="off"))
    shaper.shape(Sample.good(1000, (0, 1, 2, 3), (1, 2, 3, 4)), 0.0)
    raw = Sample(2000, (0, 1, 2), (1, 20, 30), 4, {"on": "uncertain:old", "off": "bad:timeout"})
    wanted = Sample(2000, (1, 2), (20, 30), 3, {"on": "uncertain:old", "off": "bad:timeout"})
    assert shaper.shape(raw, 1.0) == wanted


def test_clear_sends_everything_again_and_still_knows_who_is_bad() -> None:
    shaper = shaper_of(tag(0, name="level"), tag(0, name="flow"))
    sample = Sample(1000, (0,), (1,), 2, {"flow": "bad:timeout"})
    assert shaper.shape(sample, 0.0) == sample
    assert shaper.shape(sample, 1.0) is None
    shaper.clear()
    assert shaper.bad == {"flow": "bad:timeout"}
    assert shaper.shape(sample, 2.0) == sample
    assert shaper.shape(sample, 3.0) is None


def test_a_device_that_is_lost_is_told_once_and_at_heartbeats() -> None:
    shaper = shaper_of(tag(), tag(name="flow"))
    told = [second for second in range(0, 130, 5) if shaper.all_bad(1000, "timeout", float(second)) is not None]
    assert told == [0, 60, 120]
    assert shaper.bad == {ALL_TAGS: "bad:timeout"}


def test_a_read_that_is_bad_as_a_whole_is_told_once_like_a_lost_device() -> None:
    shaper = shaper_of(tag(name="level"), tag(name="speed"))
    told = [shaper.shape(Sample.bad(1000, "guard", 2), at) for at in (0.0, 1.0, HEARTBEAT_S)]
    assert told == [Sample.bad(1000, "guard", 2), None, Sample.bad(1000, "guard", 2)]
    assert shaper.bad == {ALL_TAGS: "bad:guard"}
    assert shaper.shape(Sample.good(2000, (0, 1), (7, 8)), 90.0) == Sample.good(2000, (0, 1), (7, 8))
    assert shaper.bad == {}


def test_the_shortest_heartbeat_among_its_tags_is_that_of_a_lost_device() -> None:
    shaper = shaper_of(tag(heartbeat=10.0), tag(name="flow"))
    told = [second for second in range(0, 30, 5) if shaper.all_bad(1000, "timeout", float(second)) is not None]
    assert told == [0, 10, 20]


def test_a_lost_device_says_how_many_readings_and_why() -> None:
    shaper = shaper_of(tag(), tag(name="flow"))
    assert shaper.all_bad(1000, "timeout", 0.0) == Sample(1000, (), (), 2, {"*": "bad:timeout"})
    assert shaper.all_bad(2000, "connection-lost", 1.0) == Sample(2000, (), (), 2, {"*": "bad:connection-lost"})


@pytest.mark.parametrize("deadband", [None, 0, 5])
@pytest.mark.parametrize("quality", ["", "uncertain:old", "bad:device-failure"])
def test_after_a_loss_the_next_read_is_sent_whole(deadband: float | None, quality: str) -> None:
    shaper = shaper_of(tag(deadband))
    shaper.shape(read(7, quality), 0.0)
    shaper.all_bad(1000, "timeout", 1.0)
    assert shaper.shape(read(7, quality), 2.0) == read(7, quality)
    assert shaper.bad == ({"level": quality} if quality else {})
    assert shaper.all_bad(1000, "timeout", 3.0) is not None


@pytest.mark.parametrize("raw", ["text", True, [1, 2]])
@pytest.mark.parametrize("quality", ["", "uncertain:old"])
def test_a_value_that_cannot_be_scaled_is_bad_and_costs_no_other(raw: Any, quality: str) -> None:
    shaper = shaper_of(
        tag(name="level", type=None, scale="0.1"), tag(name="flow", type=None, scale="0.1"), tag(name="on")
    )
    out = shaper.shape(Sample(1000, (0, 1, 2), (raw, 214, True), 3, {"level": quality} if quality else {}), 0.0)
    assert out == Sample(1000, (1, 2), (21.4, True), 3, {"level": "bad:type-mismatch"})


def test_a_scaled_value_without_a_float_is_out_of_range() -> None:
    shaper = shaper_of(tag(name="level", type="float64", scale="1e100"))
    out = shaper.shape(read(1e300), 0.0)
    assert out == Sample(1000, (), (), 1, {"level": "bad:out-of-range"})


def test_a_deadband_is_in_the_unit_that_leaves_the_gateway() -> None:
    assert sent(shaper_of(tag(0.2, scale="0.1")), [214, 215, 216, 217]) == [21.4, 21.7]


@pytest.mark.parametrize("deadband", [None, 5])
def test_a_device_that_notifies_has_its_silent_tags_read_after_a_heartbeat(deadband: float | None) -> None:
    shaper = shaper_of(tag(deadband, name="level"), tag(deadband, name="flow"))
    shaper.follows = True
    assert shaper.stale(0.0) == (0, 1)
    shaper.shape(Sample.good(1000, (0, 1), (1, 2)), 0.0)
    shaper.shape(Sample.good(1000, (0,), (100,)), 50.0)
    assert shaper.stale(40.0) == ()
    assert shaper.stale(60.0) == (1,)
    shaper.clear()
    assert shaper.stale(60.0) == (0, 1)
