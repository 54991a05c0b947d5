"""Every type that a device may hold becomes its value, or a reason why it is none."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from modbus_line import ONE_BLOCK, field

from gateway.drivers.modbus.fields import Field
from gateway.drivers.modbus.plan import plan
from gateway.drivers.modbus.registers import Decoder
from gateway.drivers.modbus.values import BadValue, scaled

ORDERS = ("ABCD", "CDAB", "BADC", "DCBA")


def decode(fields: list[Field], payload: bytes) -> list[Any]:
    """Give, field by field, the value or `bad:` and the reason."""
    (block,) = plan(fields, range(len(fields)), ONE_BLOCK)
    values, bad = Decoder(block, fields).decode(payload)
    found = {column: f"bad:{bad[at]}" if at in bad else values[at] for at, column in enumerate(block.columns)}
    return [found[column] for column in range(len(fields))]


def one(kind: str, wire: str | bytes, address: str = "holding:7", **keys: Any) -> Any:
    payload = bytes.fromhex(wire) if isinstance(wire, str) else wire
    (value,) = decode([field(address, kind, **keys)], payload)
    return value


@pytest.mark.parametrize(
    ("kind", "byte", "order", "value"),
    [
        ("uint8", "low", "ABCD", 0xFE),
        ("uint8", "high", "ABCD", 0x81),
        ("int8", "low", "ABCD", -2),
        ("int8", "high", "CDAB", -127),
        ("uint8", "low", "BADC", 0x81),
        ("int8", "high", "DCBA", -2),
    ],
)
def test_a_byte_is_the_high_or_the_low_half_of_its_register(kind: str, byte: str, order: str, value: int) -> None:
    assert one(kind, "81 fe", byte=byte, byte_order=order) == value


def test_both_halves_of_a_register_are_tags_of_their_own() -> None:
    fields = [field("holding:0", "uint8", byte="high"), field("holding:0", "int8"), field("holding:1", "uint16")]
    assert decode(fields, bytes.fromhex("01 ff 00 03")) == [1, -1, 3]


def test_bits_of_a_register_are_a_number() -> None:
    fields = [field("holding:0.4-7", "uint16"), field("holding:0.0-3", "uint8"), field("holding:0.15", "bool")]
    assert decode(fields, bytes.fromhex("80 a5")) == [0xA, 0x5, True]
    assert one("uint16", "12 34", "holding:3.8-15", byte_order="BADC") == 0x34


@pytest.mark.parametrize("order", ORDERS)
def test_half_precision_floats_are_read_in_either_byte_order(order: str) -> None:
    wire = struct.pack("<e" if order in ("BADC", "DCBA") else ">e", 1.5)
    assert one("float16", wire, byte_order=order) == 1.5


@pytest.mark.parametrize("infinite", [math.nan, math.inf])
def test_a_half_precision_float_may_be_no_number(infinite: float) -> None:
    assert one("float16", struct.pack(">e", infinite)) == "bad:not-a-number"


@pytest.mark.parametrize(
    ("kind", "wire", "order", "value"),
    [
        ("bcd16", "12 34", "ABCD", 1234),
        ("bcd16", "00 07", "ABCD", 7),
        ("bcd16", "34 12", "DCBA", 1234),
        ("bcd32", "12 34 56 78", "ABCD", 12345678),
        ("bcd32", "56 78 12 34", "CDAB", 12345678),
        ("bcd32", "34 12 78 56", "BADC", 12345678),
        ("bcd32", "78 56 34 12", "DCBA", 12345678),
        ("bcd16", "1a 34", "ABCD", "bad:invalid-bcd"),
        ("bcd16", "01 e5", "ABCD", "bad:invalid-bcd"),  # 1e5 is a number to Python
        ("bcd32", "00 00 00 0f", "ABCD", "bad:invalid-bcd"),
    ],
)
def test_bcd_has_a_digit_in_each_four_bits(kind: str, wire: str, order: str, value: Any) -> None:
    assert one(kind, wire, byte_order=order) == value


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("utf-8", "Grüße"), ("latin-1", "Grüße"), ("cp1252", "10 €"), ("utf-16-be", "Grüße"), ("utf-16-le", "10 €")],
)
def test_a_string_is_read_in_its_encoding_and_ends_at_the_first_nul(encoding: str, text: str) -> None:
    wire = f"{text}  ".encode(encoding)
    wire += b"\0\0\xff\xff" + bytes(-len(wire) % 2)
    length = len(wire) - len(wire) % 2
    assert one("string", wire, length=length, encoding=encoding) == text


def test_a_string_may_be_filled_up_with_another_character() -> None:
    assert one("string", b"ab**", length=4, padding="*") == "ab"
    assert one("string", b"ab  ", length=4, padding="*") == "ab  "
    assert one("string", "a_".encode("utf-16-be") * 2, length=8, encoding="utf-16-be", padding="_") == "a_a"


@pytest.mark.parametrize(
    ("encoding", "wire"),
    [("ascii", b"\xe4\xf6"), ("utf-16-be", b"\xd8\x00"), ("utf-16-be", b"abc"), ("utf-7", b"+2AA-")],
)
def test_bytes_that_are_no_text_are_bad_invalid_string(encoding: str, wire: bytes) -> None:
    payload = wire + bytes(len(wire) % 2)
    assert one("string", payload, length=len(wire), encoding=encoding) == "bad:invalid-string"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(
    ("kind", "form", "values"),
    [
        ("int16", "h", [1, -2, 3]),
        ("uint32", "I", [1, 70_000]),
        ("int64", "q", [-1, 2**40]),
        ("float32", "f", [1.5, -2.25]),
        ("float64", "d", [1.5]),
        ("float16", "e", [0.5, 2.0]),
    ],
)
def test_an_array_is_a_list_in_any_byte_order(kind: str, form: str, values: list[Any], order: str) -> None:
    wire = b""
    for value in values:
        big = struct.pack(f">{form}", value)
        pairs = [big[at : at + 2] for at in range(0, len(big), 2)]
        pairs = pairs[::-1] if order in ("CDAB", "DCBA") else pairs
        wire += b"".join(pair[::-1] if order in ("BADC", "DCBA") else pair for pair in pairs)
    assert one(kind, wire, byte_order=order, count=len(values)) == values


def test_bytes_in_a_row_are_two_a_register() -> None:
    assert one("uint8", "01 02 03 ff", count=3) == [1, 2, 3]
    assert one("int8", "01 ff 80 00", count=4) == [1, -1, -128, 0]
    assert one("uint8", "02 01 ff 03", count=3, byte_order="BADC") == [1, 2, 3]
    fields = [field("holding:0", "uint8", count=3), field("holding:2", "uint16")]
    assert decode(fields, bytes.fromhex("01 02 03 00 00 09")) == [[1, 2, 3], 9]


def test_coils_in_a_row_are_a_list_of_bools() -> None:
    fields = [field("coil:2", "bool", count=3), field("coil:0", "bool"), field("coil:1", "bool", count=10)]
    assert decode(fields, bytes([0b1_0110, 0b100])) == [
        [True, False, True],
        False,
        [True, True, False, True, False, False, False, False, False, True],
    ]


def test_one_value_that_is_none_makes_an_array_bad_as_a_whole() -> None:
    wire = struct.pack(">ff", 1.5, math.nan)
    fields = [field("holding:0", "float32", count=2), field("holding:0", "float32")]
    assert decode(fields, wire) == ["bad:not-a-number", 1.5]
    assert one("int16", "00 01 80 00", count=2, invalid=[0x8000]) == "bad:not-implemented"
    assert one("bcd16", "00 01 00 0a", count=2) == "bad:invalid-bcd"


@pytest.mark.parametrize(
    ("kind", "wire", "invalid", "value"),
    [
        ("int16", "80 00", [0x8000], None),
        ("int16", "80 00", [-32768], None),
        ("int16", "7f ff", [0x8000], 32767),
        ("uint16", "ff ff", [0xFFFF], None),
        ("uint16", "ff ff", [-1], 65535),
        ("int32", "80 00 00 00", [0x80000000], None),
        ("uint32", "ff ff ff ff", [0, 0xFFFFFFFF], None),
        ("int64", "80 00 00 00 00 00 00 00", [0x8000000000000000], None),
        ("int8", "00 80", [0x80], None),
        ("float32", "c6 1c 3c 00", [-9999], None),
        ("float32", "3d cc cc cd", [0.1], None),
        ("float64", "3f b9 99 99 99 99 99 9a", [0.1], None),
        ("bcd16", "ff ff", [0xFFFF], None),
        ("bcd16", "99 99", [9999], None),
        ("bcd16", "46 60", [0x1234], None),  # 4660, the number
        ("bcd16", "12 34", [0x1234], 1234),
    ],
)
def test_a_raw_value_may_mean_that_there_is_none(kind: str, wire: str, invalid: list[float], value: Any) -> None:
    assert one(kind, wire, invalid=invalid) == ("bad:not-implemented" if value is None else value)


def test_values_that_mean_nothing_cost_no_neighbour() -> None:
    fields = [
        field("holding:0", "int16", invalid=[0x8000]),
        field("holding:1", "int16", invalid=[0x8000]),
        field("holding:2.0-3", "uint16", invalid=[15]),
        field("holding:2.4-7", "uint16", invalid=[15]),
        field("holding:3", "uint16"),
    ]
    wire = bytes.fromhex("80 00 00 05 00 2f 80 00")
    assert decode(fields, wire) == ["bad:not-implemented", 5, "bad:not-implemented", 2, 0x8000]


@pytest.mark.parametrize(
    ("kind", "raw", "power", "value"),
    [
        ("int16", 2301, -1, 230.1),
        ("uint32", 214, -1, 21.4),
        ("int16", -5, 3, -5000.0),
        ("uint64", 2**64 - 1, -10, 1844674407.3709551615),
        ("uint16", 7, 0, 7.0),
        ("float64", 0.1, 1, 1.0),
        ("float64", 1.1, -3, 0.0011),
        ("float32", 21.399999618530273, -1, 2.14),
    ],
)
def test_a_power_of_ten_is_applied_exactly_and_gives_a_float(kind: str, raw: Any, power: int, value: float) -> None:
    product = scaled(field("holding:0", kind), raw, power)
    assert (product, type(product)) == (value, float)


@given(st.integers(-(2**63), 2**64 - 1), st.integers(-10, 10))
def test_an_integer_with_a_power_of_ten_is_what_its_decimal_digits_say(raw: int, power: int) -> None:
    assert scaled(field("holding:0", "int64"), raw, power) == float(f"{raw}e{power}")


def test_a_row_is_scaled_value_by_value() -> None:
    assert scaled(field("holding:0", "int16", count=2), [15, -3], -1) == [1.5, -0.3]


@pytest.mark.parametrize(("power", "reason"), [(11, "not-implemented"), (-11, "not-implemented")])
def test_a_power_beyond_sunspecs_is_not_implemented(power: int, reason: str) -> None:
    with pytest.raises(BadValue, match=reason):
        scaled(field("holding:0", "int16"), 1, power)


def test_a_product_that_no_float_holds_is_out_of_range() -> None:
    with pytest.raises(BadValue, match="out-of-range"):
        scaled(field("holding:0", "float64"), 1e308, 5)
