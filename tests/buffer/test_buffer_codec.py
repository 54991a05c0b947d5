"""A batch is read back from its blob exactly as it was, or not at all (P3, P5)."""

import random
import struct

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.buffer import codec
from gateway.model import Gap, Meta, Sample

NAME = {"epoch": "5f0c2a9e", "device": "press-1", "seq": 1041}

JSON = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
VALUES = {
    "?": st.booleans(),
    "b": st.integers(-(2**7), 2**7 - 1),
    "B": st.integers(0, 2**8 - 1),
    "h": st.integers(-(2**15), 2**15 - 1),
    "H": st.integers(0, 2**16 - 1),
    "i": st.integers(-(2**31), 2**31 - 1),
    "I": st.integers(0, 2**32 - 1),
    "q": st.integers(-(2**63), 2**63 - 1),
    "Q": st.integers(0, 2**64 - 1),
    "f": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "d": st.floats(allow_nan=False, allow_infinity=False),
    "j": JSON,
    "*": JSON,
}


def meta(codes: tuple[str, ...]) -> Meta:
    """Give a meta whose tags have these codes."""
    return Meta("9c01d2ab", "press-1", "factory/press-1", tuple(f"t{n}" for n in range(len(codes))), codes)


@st.composite
def samples(draw: st.DrawFn) -> tuple[Meta, list[Sample]]:
    """Give samples of any columns and any values that their codes allow."""
    subject = meta(tuple(draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=12))))
    places = st.sets(st.integers(0, len(subject.names) - 1))
    made = []
    for _ in range(draw(st.integers(1, 4))):
        columns = tuple(sorted(draw(places)))
        values = tuple(draw(VALUES[subject.codes[column]]) for column in columns)
        quality = draw(st.dictionaries(st.sampled_from([*subject.names, "*"]), st.text(), max_size=3))
        moment = st.integers(-(2**53), 2**53)
        rx, clock = draw(st.none() | moment), draw(st.sampled_from([None, "unsynced", "corrected"]))
        made.append(Sample(draw(moment), columns, values, draw(st.integers(0, 2**40)), quality, rx, clock))
    return subject, made


def kinds(value: object) -> object:
    """Give a value with the types of all that is in it: True is not 1, and 1 is not 1.0."""
    if isinstance(value, dict):
        return {key: kinds(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [kinds(inner) for inner in value]
    return type(value), repr(value)


@given(samples())
def test_samples_come_back_as_they_were_with_their_types(made: tuple[Meta, list[Sample]]) -> None:
    subject, stored = made
    read = codec.unpack(codec.pack(subject, stored), subject)
    assert list(read) == stored
    assert kinds([sample.values for sample in read]) == kinds([sample.values for sample in stored])


@given(samples(), st.data())
def test_a_flipped_bit_anywhere_in_a_blob_never_decodes(made: tuple[Meta, list[Sample]], data: st.DataObject) -> None:
    blob = codec.seal(codec.pack(*made), **NAME)
    bit = data.draw(st.integers(0, len(blob) * 8 - 1))
    flipped = bytearray(blob)
    flipped[bit // 8] ^= 1 << bit % 8
    with pytest.raises(codec.CorruptBlobError):
        codec.unseal(bytes(flipped), **NAME)


def test_no_single_flipped_bit_and_no_missing_end_of_a_blob_decodes() -> None:
    subject = meta(("f", "H", "?", "j"))
    blob = codec.seal(codec.pack(subject, [Sample.good(1, (0, 1, 2, 3), (0.5, 7, True, "on"))]), **NAME)
    for bit in range(len(blob) * 8):
        flipped = bytearray(blob)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(codec.CorruptBlobError):
            codec.unseal(bytes(flipped), **NAME)
    for length in range(len(blob)):
        with pytest.raises(codec.CorruptBlobError):
            codec.unseal(blob[:length], **NAME)


@given(st.text(max_size=8), st.text(max_size=8), st.integers(1, 2**62))
def test_a_blob_does_not_decode_under_another_name(epoch: str, device: str, seq: int) -> None:
    blob = codec.seal(b"frame", **NAME)
    assert codec.unseal(blob, **NAME) == b"frame"
    for other in ({**NAME, "epoch": epoch}, {**NAME, "device": device}, {**NAME, "seq": seq}):
        if other != NAME:
            with pytest.raises(codec.CorruptBlobError):
                codec.unseal(blob, **other)


@given(st.binary(max_size=200))
def test_a_frame_of_anything_is_corrupt_and_not_a_crash(frame: bytes) -> None:
    for unpack in (lambda: codec.unpack(frame, meta(("f",))), lambda: codec.unpack_gap(frame)):
        with pytest.raises(codec.CorruptBlobError):
            unpack()


@pytest.mark.parametrize(
    ("codes", "columns", "values"),
    [
        (("H",), (0,), (70_000,)),
        (("H",), (0,), ("text",)),
        (("f",), (0,), (1e300,)),
        (("H", "H"), (0, 1), (1,)),
        (("H", "H"), (1, 0), (1, 2)),
        (("H",), (1,), (1,)),
        (("*",), (0,), (object(),)),
        (("*",), (0,), (2**64,)),
    ],
)
def test_what_no_format_fits_is_refused_not_bent(
    codes: tuple[str, ...], columns: tuple[int, ...], values: tuple[object, ...]
) -> None:
    with pytest.raises(codec.UNSTORABLE):
        codec.pack(meta(codes), [Sample.good(1, columns, values)])


def test_a_gap_and_a_meta_come_back_as_they_were() -> None:
    gap = Gap(7, "buffer-full", {"first_seq": 1, "last_seq": 9, "readings": 90, "from": 1, "to": 5})
    assert codec.unpack_gap(codec.pack_gap(gap)) == gap
    told = Meta("9c", "press-1", "f/press-1", ("tü", "b"), ("f", "*"), {"site": "oslo"}, orjson.dumps({"v": 1}))
    assert codec.unpack_meta(codec.pack_meta(told)) == told


@pytest.mark.parametrize("at", [0, 5, 40, -1])
def test_a_damaged_meta_never_decodes(at: int) -> None:
    blob = bytearray(codec.pack_meta(meta(("f", "f"))))
    blob[at] ^= 1
    with pytest.raises(codec.CorruptBlobError):
        codec.unpack_meta(bytes(blob))


def test_a_thousand_random_floats_take_little_more_than_their_own_bytes() -> None:
    chance = random.Random(7)
    subject = meta(("f",) * 1000)
    noise = struct.unpack("<1000f", struct.pack("<1000f", *(chance.uniform(0, 100) for _ in range(1000))))
    assert len(codec.pack(subject, [Sample.good(1, tuple(range(1000)), noise)])) < 4100
