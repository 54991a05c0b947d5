"""Registers become values exactly as the byte order says, and never become an invented one."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modbus_line import ONE_BLOCK
from modbus_line import field as tag

from gateway.drivers.modbus.fields import Field
from gateway.drivers.modbus.plan import plan
from gateway.drivers.modbus.registers import Decoder

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")
SIZES = {"int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8, "uint64": 8, "float32": 4, "float64": 8}
FORMATS = {"int16": "h", "uint16": "H", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"} | {
    "float32": "f",
    "float64": "d",
}


def decode(tags: list[Field], payload: bytes) -> tuple[dict[int, Any], dict[int, str]]:
    """Decode tags that make one block; values and reasons by column."""
    (block,) = plan(tags, range(len(tags)), ONE_BLOCK)
    values, bad = Decoder(block, tags).decode(payload)
    good = {column: values[at] for at, column in enumerate(block.columns) if at not in bad}
    return good, {block.columns[at]: reason for at, reason in bad.items()}


def one(kind: str, order: str, payload: bytes, **keys: Any) -> Any:
    good, bad = decode([tag("holding:7", kind, byte_order=order, **keys)], payload)
    return bad[0] if bad else good[0]


@pytest.mark.parametrize(
    ("kind", "order", "wire", "value"),
    [
        ("uint16", "ABCD", "01 02", 0x0102),
        ("uint16", "CDAB", "01 02", 0x0102),
        ("uint16", "BADC", "02 01", 0x0102),
        ("uint16", "DCBA", "02 01", 0x0102),
        ("int16", "ABCD", "ff fe", -2),
        ("int16", "DCBA", "fe ff", -2),
        ("uint32", "ABCD", "01 02 03 04", 0x01020304),
        ("uint32", "CDAB", "03 04 01 02", 0x01020304),
        ("uint32", "BADC", "02 01 04 03", 0x01020304),
        ("uint32", "DCBA", "04 03 02 01", 0x01020304),
        ("int32", "ABCD", "ff ff ff fe", -2),
        ("int32", "CDAB", "ff fe ff ff", -2),
        ("int32", "BADC", "ff ff fe ff", -2),
        ("int32", "DCBA", "fe ff ff ff", -2),
        ("uint64", "ABCD", "01 02 03 04 05 06 07 08", 0x0102030405060708),
        ("uint64", "CDAB", "07 08 05 06 03 04 01 02", 0x0102030405060708),
        ("uint64", "BADC", "02 01 04 03 06 05 08 07", 0x0102030405060708),
        ("uint64", "DCBA", "08 07 06 05 04 03 02 01", 0x0102030405060708),
        ("int64", "CDAB", "ff fe ff ff ff ff ff ff", -2),
        ("float32", "ABCD", "41 c8 00 00", 25.0),
        ("float32", "CDAB", "00 00 41 c8", 25.0),
        ("float32", "BADC", "c8 41 00 00", 25.0),
        ("float32", "DCBA", "00 00 c8 41", 25.0),
        ("float64", "ABCD", "40 39 00 00 00 00 00 00", 25.0),
        ("float64", "CDAB", "00 00 00 00 00 00 40 39", 25.0),
        ("float64", "BADC", "39 40 00 00 00 00 00 00", 25.0),
        ("float64", "DCBA", "00 00 00 00 00 00 39 40", 25.0),
    ],
)
def test_a_number_is_read_in_the_byte_order_that_its_tag_names(kind: str, order: str, wire: str, value: Any) -> None:
    read = one(kind, order, bytes.fromhex(wire))
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("order", "wire"), [("ABCD", b"Pump 7"), ("CDAB", b"Pump 7"), ("BADC", b"uPpm7 "), ("DCBA", b"uPpm7 ")]
)
def test_a_string_has_its_bytes_swapped_where_the_order_swaps_bytes(order: str, wire: bytes) -> None:
    assert one("string", order, wire, length=6) == "Pump 7"


@pytest.mark.parametrize(
    ("wire", "text"),
    [(b"ab\0\0", "ab"), (b"ab  ", "ab"), (b"ab \0", "ab"), (b" ab ", " ab"), (b"\0\0\0\0", ""), ("öß".encode(), "öß")],
)
def test_a_string_ends_before_its_trailing_nuls_and_spaces(wire: bytes, text: str) -> None:
    assert one("string", "ABCD", wire, length=4) == text


def test_a_string_of_odd_length_leaves_the_last_byte_out() -> None:
    assert one("string", "ABCD", b"abcX", length=3) == "abc"
    assert one("string", "BADC", b"baXc", length=3) == "abc"


@pytest.mark.parametrize("wire", [b"\xff\xfeab", b"\xc3(ab", b"\xed\xa0\x80a", b"abc\xc3"])
def test_a_string_that_is_not_utf8_is_bad_invalid_string(wire: bytes) -> None:
    assert one("string", "ABCD", wire, length=4) == "invalid-string"


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("kind", "form"), [("float32", ">f"), ("float64", ">d")])
def test_nan_and_infinities_are_bad_not_a_number_and_cost_no_neighbour(number: float, kind: str, form: str) -> None:
    payload = struct.pack(">H", 5) + struct.pack(form, number) + struct.pack(form, 1.5)
    size = SIZES[kind] // 2
    tags = [tag("holding:0", "uint16"), tag("holding:1", kind), tag(f"holding:{1 + size}", kind)]
    assert decode(tags, payload) == ({0: 5, 2: 1.5}, {1: "not-a-number"})


def test_bits_count_from_the_least_significant_and_are_bools() -> None:
    tags = [tag(f"holding:3.{bit}", "bool") for bit in range(16)]
    good, _ = decode(tags, bytes.fromhex("80 21"))
    assert [bit for bit, value in good.items() if value is True] == [0, 5, 15]
    assert all(type(value) is bool for value in good.values())


def test_coils_count_from_the_lowest_bit_of_the_first_byte() -> None:
    tags = [tag(f"coil:{20 + offset}", "bool") for offset in range(11)]
    good, _ = decode(tags, bytes([0b1000_0001, 0b101]))
    assert [offset for offset, value in good.items() if value is True] == [0, 7, 8, 10]


def test_tags_may_share_registers_as_other_types_orders_and_bits() -> None:
    tags = [
        tag("input:0", "uint32"),
        tag("input:0", "uint32", byte_order="CDAB"),
        tag("input:1", "uint16"),
        tag("input:1.2", "bool"),
        tag("input:0", "string", length=4),
        tag("input:0", "uint32"),
    ]
    good, bad = decode(tags, b"A1BD")
    assert good == {0: 0x41314244, 1: 0x42444131, 2: 0x4244, 3: True, 4: "A1BD", 5: 0x41314244}
    assert bad == {}


def wire_image(kind: str, order: str, value: Any) -> bytes:
    """Lay a value out by the definition, word by word: independent of how it is decoded."""
    big = struct.pack(">" + FORMATS[kind], value)
    registers = [big[at : at + 2] for at in range(0, len(big), 2)]
    if order in ("CDAB", "DCBA"):
        registers.reverse()
    if order in ("BADC", "DCBA"):
        registers = [register[::-1] for register in registers]
    return b"".join(registers)


def values_of(kind: str) -> st.SearchStrategy[Any]:
    if kind.startswith("float"):
        return st.floats(allow_nan=False, allow_infinity=False, width=32 if kind == "float32" else 64)
    bits = 8 * SIZES[kind]
    return st.integers(0, 2**bits - 1) if kind[0] == "u" else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


tagged_values = st.sampled_from(sorted(SIZES)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.sampled_from(ORDERS), values_of(kind), st.integers(0, 3))
)


@given(st.lists(tagged_values, min_size=1, max_size=20))
def test_any_mix_of_types_orders_and_gaps_reads_back_what_was_laid_out(laid: list[tuple[str, str, Any, int]]) -> None:
    payload, tags = b"", []
    for kind, order, value, gap in laid:
        tags.append(tag(f"holding:{len(payload) // 2}", kind, byte_order=order))
        payload += wire_image(kind, order, value) + b"\xaa\x55" * gap
    good, bad = decode(tags, payload)
    assert good == {column: value for column, (_, _, value, _) in enumerate(laid)}
    assert bad == {}
