"""Data and meta messages as JSON: what a consumer reads is what was stored."""

import json
import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.buffer.stored import Stored
from gateway.model import Gap, Sample
from gateway.publisher.payload import Message
from gateway.publisher.payload.floats import shortest
from gateway.publisher.payload.json import encode_sample, messages, payload_limit
from gateway.publisher.payload.meta import parts
from tests.publisher.line import meta, sample

float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


def pack(*rows: Stored, max_bytes: int = 131072, historical: bool = False) -> list[Message]:
    return messages(rows, gateway="hall-3", historical=historical, max_bytes=max_bytes)


def row(number: int, *samples: Sample | Gap, first_seq: int = 1, **of: Any) -> Stored:
    epoch = of.pop("epoch", "5f0c2a9e")
    readings = sum(one.readings for one in samples if isinstance(one, Sample))
    return Stored(number, epoch, meta(**of), first_seq, samples, readings)


@pytest.mark.parametrize(
    ("stored", "text"),
    [
        (sample(5), '{"seq":7,"ts":1763843000123,"values":{"count":5}}'),
        (sample(5, rx=1763843000200), '{"seq":7,"ts":1763843000123,"rx":1763843000200,"values":{"count":5}}'),
        (sample(5, clock="unsynced"), '{"seq":7,"ts":1763843000123,"clock":"unsynced","values":{"count":5}}'),
        (
            Sample.bad(1763843000123, "connection-lost", 1),
            '{"seq":7,"ts":1763843000123,"values":{},"quality":{"*":"bad:connection-lost"}}',
        ),
        (
            sample(5, quality={"count": "uncertain:clamped"}),
            '{"seq":7,"ts":1763843000123,"values":{"count":5},"quality":{"count":"uncertain:clamped"}}',
        ),
        (
            Gap(1763843002120, "buffer-lost", {"previous_epoch": None, "last_seq": None}),
            '{"seq":7,"ts":1763843002120,"gap":{"reason":"buffer-lost","previous_epoch":null,"last_seq":null}}',
        ),
    ],
)
def test_a_sample_is_encoded_field_for_field(stored: Sample | Gap, text: str) -> None:
    assert encode_sample(meta(), stored, 7).decode() == text


@pytest.mark.parametrize(
    ("code", "value", "text"),
    [
        ("f", struct.unpack("f", struct.pack("f", 0.1))[0], "0.1"),
        ("f", struct.unpack("f", struct.pack("f", 16777216.0))[0], "16777216.0"),
        ("f", struct.unpack("f", struct.pack("f", 3.4028235e38))[0], "3.4028235e+38"),
        ("f", struct.unpack("f", struct.pack("f", 1e-45))[0], "1.401298e-45"),
        ("d", 21.4, "21.4"),
        ("d", 0.10000000149011612, "0.10000000149011612"),
        ("H", 65535, "65535"),
        ("Q", 2**64 - 1, "18446744073709551615"),
        ("?", True, "true"),
        ("j", "Ø 12 µm", '"Ø 12 µm"'),
        ("j", {"a": [1, 2.5]}, '{"a":[1,2.5]}'),
    ],
)
def test_a_value_is_printed_as_its_type(code: str, value: Any, text: str) -> None:
    encoded = encode_sample(meta(codes=(code,)), sample(value), 1)
    assert encoded.decode() == f'{{"seq":1,"ts":1763843000123,"values":{{"count":{text}}}}}'


@given(st.lists(float32s, min_size=1, max_size=30))
def test_a_32_bit_float_reads_back_and_has_at_most_nine_digits(values: list[float]) -> None:
    """P5."""
    for value, printed in zip(values, shortest(values), strict=True):
        assert struct.pack("f", printed) == struct.pack("f", value)
        digits = f"{printed:.17g}".partition("e")[0] if printed == 0 else repr(printed).lower().partition("e")[0]
        assert len(digits.replace(".", "").replace("-", "").strip("0")) <= 9


@given(st.lists(st.one_of(float32s, st.integers(0, 65535)), min_size=1, max_size=20))
def test_columns_of_all_types_keep_their_names(values: list[float | int]) -> None:
    names = tuple(f"tag-{number}" for number in range(len(values)))
    mixed = meta(names=names, codes=tuple("f" if isinstance(value, float) else "H" for value in values))
    read = json.loads(encode_sample(mixed, sample(*values), 1))["values"]
    assert list(read) == list(names)
    assert all(math.isclose(read[name], value, rel_tol=1e-6) for name, value in zip(names, values, strict=True))


def test_a_part_of_the_columns_is_named_rightly() -> None:
    wide = meta(names=("a", "b", "c"), codes=("H", "f", "f"))
    one = Sample(1, (0, 2), (7, 0.5), 2)
    assert json.loads(encode_sample(wide, one, 1))["values"] == {"a": 7, "c": 0.5}


def test_labels_and_historical_stand_only_where_they_are_true() -> None:
    (plain,) = pack(row(1, sample(1)))
    (full,) = pack(row(1, sample(1), labels={"site": "oslo"}), historical=True)
    assert list(json.loads(plain.payload)) == ["v", "gateway", "device", "epoch", "meta", "samples"]
    assert json.loads(full.payload)["labels"] == {"site": "oslo"}
    assert json.loads(full.payload)["historical"] is True


def test_devices_epochs_and_metas_never_share_a_message() -> None:
    packed = pack(
        row(1, sample(1)),
        row(2, sample(1), device="saw-2"),
        row(3, sample(2), first_seq=2),
        row(4, sample(3), first_seq=3, id="0000000a"),
        row(5, sample(4), epoch="00000002", id="0000000a"),
        row(6, sample(2), first_seq=2, device="saw-2"),
    )
    assert sorted(message.rows for message in packed) == [(1, 3), (2, 6), (4,), (5,)]
    assert [message.rows for message in packed if message.meta.device == "press-1"] == [(1, 3), (4,), (5,)]


def test_a_row_that_does_not_fit_is_spread_over_several_messages() -> None:
    text = "x" * 300
    wide = {"names": ("text",), "codes": ("j",)}
    packed = pack(row(1, *[sample(text)] * 5, **wide), row(2, sample(text), first_seq=6, **wide), max_bytes=1000)
    assert [message.rows for message in packed] == [(1,), (1,), (1, 2)]
    assert [one["seq"] for message in packed for one in json.loads(message.payload)["samples"]] == [1, 2, 3, 4, 5, 6]
    assert all(message.fits for message in packed)


def test_a_sample_that_is_larger_than_the_broker_takes_says_so() -> None:
    wide = {"names": ("text",), "codes": ("j",)}
    packed = pack(row(1, sample("x"), sample("x" * 2000), **wide), max_bytes=1000)
    assert [message.fits for message in packed] == [True, False]


def test_the_packet_limit_leaves_room_for_the_topic() -> None:
    assert payload_limit("a/b", 131072, None) == 131072
    assert payload_limit("a/b", 131072, 1000) == 1000 - 3 - 64


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.lists(st.integers(0, 400), min_size=1, max_size=6)), max_size=20
    ),
    st.integers(800, 3000),
)
def test_messages_keep_the_limit_and_lose_nothing(batches: list[tuple[str, list[int]]], limit: int) -> None:
    seqs, rows, stored = {"a": 1, "b": 1}, list[Stored](), list[tuple[str, int, str]]()
    for number, (device, lengths) in enumerate(batches, start=1):
        texts = [str(length % 10) * length for length in lengths]
        wide = {"names": ("text",), "codes": ("j",), "device": device}
        rows.append(row(number, *map(sample, texts), first_seq=seqs[device], **wide))
        stored += [(device, seqs[device] + at, text) for at, text in enumerate(texts)]
        seqs[device] += len(texts)
    packed = pack(*rows, max_bytes=limit)
    arrived = [
        (document["device"], one["seq"], one["values"]["text"])
        for document in (json.loads(message.payload) for message in packed)
        for one in document["samples"]
    ]
    assert all(len(message.payload) <= limit for message in packed)
    for device in "ab":
        assert [one for one in arrived if one[0] == device] == [one for one in stored if one[0] == device]
    assert {number for message in packed for number in message.rows} == {one.id for one in rows}


@given(st.integers(1, 300), st.integers(400, 20000))
def test_the_parts_of_a_meta_make_up_the_whole(tags: int, limit: int) -> None:
    names = tuple(f"tag-{number}" for number in range(tags))
    document = meta(names=names, codes=("H",) * tags).document
    cut = parts(document, max_bytes=limit)
    assert all(len(part) <= limit for part in cut)
    assert [name for part in cut for name in json.loads(part)["tags"]] == list(names)
    if len(cut) > 1:
        assert [(json.loads(part)["part"], json.loads(part)["parts"]) for part in cut] == [
            (number, len(cut)) for number in range(1, len(cut) + 1)
        ]
    else:
        assert cut == [document]


def test_a_superseded_meta_says_so() -> None:
    (one,) = parts(meta().document, max_bytes=32768, superseded=True)
    assert json.loads(one) == json.loads(meta().document) | {"superseded": True}
