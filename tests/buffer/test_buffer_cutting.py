"""Every stored sample fits into any message, whatever a device sends."""

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.buffer.cutting import MAX_SAMPLE_BYTES, MAX_VALUE_BYTES, cut
from gateway.model import Meta, Sample

TEXT = st.text(max_size=300) | st.integers(0, 40_000).map("ä".__mul__) | st.integers(0, 9_000).map("x".__mul__)
VALUES = st.lists(
    st.floats(allow_nan=False, allow_infinity=False)
    | st.integers(-(2**63), 2**64 - 1)
    | st.booleans()
    | TEXT
    | st.lists(TEXT, max_size=3),
    max_size=12,
)


def wide(tags: int, code: str = "*") -> Meta:
    """Give a meta with names that are long, and not all ASCII."""
    return Meta("9c01d2ab", "press-1", "t", tuple(f"tag-ø-{n}" for n in range(tags)), (code,) * tags)


def as_sent(meta: Meta, sample: Sample) -> bytes:
    """Give the largest JSON that the sample can become."""
    values = {meta.names[column]: value for column, value in zip(sample.columns, sample.values, strict=True)}
    head: dict[str, Any] = {"seq": 2**63 - 1, "ts": sample.ts, "rx": 2**63 - 1, "clock": "corrected"}
    return orjson.dumps({**head, "values": values, "quality": dict(sample.quality)})


@st.composite
def samples(draw: st.DrawFn) -> tuple[Meta, Sample]:
    """Give samples with values of all sizes, some of them uncertain, and tags that are bad."""
    values = [value for value in draw(VALUES) for _ in range(draw(st.integers(1, 5)))]
    bad = draw(st.integers(0, 300))
    meta = wide(len(values) + bad)
    uncertain = draw(st.sets(st.integers(0, max(0, len(values) - 1)))) if values else set()
    quality = {meta.names[at]: "uncertain:UncertainLastUsableValue" for at in uncertain}
    quality |= {meta.names[at]: f"bad:{'long-' * 20}" for at in range(len(values), len(values) + bad)}
    if draw(st.booleans()):
        quality["*"] = "bad:connection-lost"
    return meta, Sample(-(2**62), tuple(range(len(values))), tuple(values), len(values) + bad + 17, quality)


@settings(max_examples=200, deadline=None)
@given(samples())
def test_every_piece_fits_and_nothing_is_lost_or_doubled(made: tuple[Meta, Sample]) -> None:
    meta, sample = made
    pieces = cut(meta, [sample])
    assert all(len(as_sent(meta, piece)) <= MAX_SAMPLE_BYTES for piece in pieces)
    assert {piece.ts for piece in pieces} == {sample.ts}
    assert sum(piece.readings for piece in pieces) == sample.readings
    told = [(column, value) for piece in pieces for column, value in zip(piece.columns, piece.values, strict=True)]
    small = [
        (column, value)
        for column, value in zip(sample.columns, sample.values, strict=True)
        if len(orjson.dumps(value)) <= MAX_VALUE_BYTES
    ]
    assert told == small
    qualities = [entry for piece in pieces for entry in piece.quality.items()]
    assert len(dict(qualities)) == len(qualities)
    large = {meta.names[column] for column in sample.columns} - {meta.names[column] for column, _ in small}
    assert dict(qualities) == {**sample.quality, **dict.fromkeys(large, "bad:too-large")}


def test_a_quality_travels_in_the_piece_that_holds_its_value() -> None:
    meta = wide(6)
    quality = dict.fromkeys(meta.names, "uncertain:SubNormal")
    pieces = cut(meta, [Sample(1, tuple(range(6)), tuple("x" * 5000 for _ in range(6)), 6, quality)])
    assert len(pieces) == 2
    for piece in pieces:
        assert set(piece.quality) == {meta.names[column] for column in piece.columns}


@pytest.mark.parametrize(
    ("code", "value"), [("H", 65535), ("d", -2.2250738585072014e-308), ("*", "short"), ("j", {"a": [1, 2]})]
)
def test_a_sample_that_fits_is_left_alone(code: str, value: object) -> None:
    sample = Sample.good(1, tuple(range(100)), (value,) * 100)
    assert cut(wide(100, code), [sample])[0] is sample


def test_a_sample_for_a_whole_device_is_left_alone() -> None:
    sample = Sample.bad(1, "connection-lost", 5000)
    assert cut(wide(5000, "f"), [sample]) == [sample]


def test_a_value_over_8_kib_is_bad_too_large_and_costs_no_other_tag() -> None:
    fits, too_large = "x" * (MAX_VALUE_BYTES - 2), "x" * (MAX_VALUE_BYTES - 1)
    (piece,) = cut(wide(2), [Sample.good(1, (0, 1), (fits, too_large))])
    assert (piece.columns, piece.values, dict(piece.quality)) == ((0,), (fits,), {"tag-ø-1": "bad:too-large"})


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, "\ud800", {1: 2}], ids=repr)
def test_a_value_that_json_has_no_form_for_is_bad_and_costs_no_other_tag(value: object) -> None:
    (piece,) = cut(wide(2), [Sample.good(1, (0, 1), (value, 5))])
    assert (piece.columns, piece.values, dict(piece.quality)) == ((1,), (5,), {"tag-ø-0": "bad:not-storable"})
    assert piece.readings == 2


def test_ten_thousand_floats_are_cut_into_pieces_in_their_order() -> None:
    meta = Meta("9c", "press-1", "t", tuple(f"tag-{n}" for n in range(10_000)), ("d",) * 10_000)
    pieces = cut(meta, [Sample.good(1, tuple(range(10_000)), tuple(n / 7 for n in range(10_000)))])
    assert [column for piece in pieces for column in piece.columns] == list(range(10_000))
    assert max(len(as_sent(meta, piece)) for piece in pieces) <= MAX_SAMPLE_BYTES
