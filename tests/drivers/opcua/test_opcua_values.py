"""What the bytes of a DataValue are read as."""

import base64
import json
import math
import struct
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncua
import pytest
from asyncua.ua.ua_binary import struct_to_binary, variant_to_binary
from hypothesis import given
from hypothesis import strategies as st

from gateway.drivers.opcua.faults import PROTOCOL_ERRORS
from gateway.drivers.opcua.types.float32 import shortest
from gateway.drivers.opcua.types.values import DataValue, Unusable, decode_data_value, status_name

ua: Any = asyncua.ua
T = ua.VariantType
GUID = uuid.UUID("12345678-9abc-def0-1234-56789abcdef0")
NOON = datetime(2026, 1, 2, 12, 0, 0, 123456, tzinfo=UTC)
NOON_MS = 1767355200123


def decoded(variant: Any) -> Any:
    """Decode a good DataValue that holds this variant, with something behind it."""
    data = b"\x01" + variant_to_binary(variant)
    value, end = decode_data_value(data + b"\xaa\xbb", 0)
    assert end == len(data)
    return value.value


@pytest.mark.parametrize(
    ("variant", "value"),
    [
        (ua.Variant(True, T.Boolean), True),
        (ua.Variant(-128, T.SByte), -128),
        (ua.Variant(255, T.Byte), 255),
        (ua.Variant(-32768, T.Int16), -32768),
        (ua.Variant(65535, T.UInt16), 65535),
        (ua.Variant(-(2**31), T.Int32), -(2**31)),
        (ua.Variant(2**32 - 1, T.UInt32), 2**32 - 1),
        (ua.Variant(-(2**63), T.Int64), -(2**63)),
        (ua.Variant(2**64 - 1, T.UInt64), 2**64 - 1),
        (ua.Variant(0.1, T.Float), 0.1),
        (ua.Variant(16777216.0, T.Float), 16777216.0),
        (ua.Variant(0.1 + 0.2, T.Double), 0.1 + 0.2),
        (ua.Variant("Ångström", T.String), "Ångström"),
        (ua.Variant("", T.String), ""),
        (ua.Variant(NOON, T.DateTime), NOON_MS),
        (ua.Variant(GUID, T.Guid), str(GUID)),
        (ua.Variant(b"\x00\xff", T.ByteString), base64.b64encode(b"\x00\xff").decode()),
        (ua.Variant(ua.NodeId("Axis", 2), T.NodeId), "ns=2;s=Axis"),
        (ua.Variant(ua.StatusCode(0x808C0000), T.StatusCode), "BadSensorFailure"),
        (ua.Variant(ua.QualifiedName("Speed", 3), T.QualifiedName), "3:Speed"),
        (ua.Variant(ua.LocalizedText("Läuft", "de"), T.LocalizedText), "Läuft"),
        (ua.Variant(ua.LocalizedText("runs"), T.LocalizedText), "runs"),
        (ua.Variant([1, 2, 3], T.Int16), [1, 2, 3]),
        (ua.Variant([], T.Int16), []),
        (ua.Variant([True, False], T.Boolean), [True, False]),
        (ua.Variant([0.1, 2.5], T.Float), [0.1, 2.5]),
        (ua.Variant(["a", "", None], T.String), ["a", "", ""]),
        (ua.Variant([ua.LocalizedText("a"), ua.LocalizedText()], T.LocalizedText), ["a", ""]),
        (ua.Variant([], T.String), []),
        (ua.Variant(b"", T.ByteString), ""),
        (ua.Variant(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), T.DateTime), 253402300799000),
        (ua.Variant([[1, 2, 3], [4, 5, 6]], T.Int32), [[1, 2, 3], [4, 5, 6]]),
        (ua.Variant([[[1], [2]], [[3], [4]]], T.UInt16), [[[1], [2]], [[3], [4]]]),
        (ua.Variant([ua.Variant(1, T.Byte), ua.Variant("x", T.String)], T.Variant), [1, "x"]),
    ],
)
def test_every_simple_type_becomes_plain_json(variant: Any, value: Any) -> None:
    found = decoded(variant)
    assert found == value
    assert type(found) is type(value)
    json.dumps(found, allow_nan=False)


@pytest.mark.parametrize(
    ("variant", "reason"),
    [
        (ua.Variant(None, T.Null), "no-value"),
        (ua.Variant(None, T.String), "no-value"),
        (ua.Variant(None, T.ByteString), "no-value"),
        (ua.Variant(None, T.Int32, is_array=True), "no-value"),
        (ua.Variant(ua.LocalizedText(), T.LocalizedText), "no-value"),
        (ua.Variant(datetime(1601, 1, 1, tzinfo=UTC), T.DateTime), "no-value"),
        (ua.Variant(math.nan, T.Float), "not-a-number"),
        (ua.Variant(math.inf, T.Double), "not-a-number"),
        (ua.Variant([1.0, -math.inf], T.Double), "not-a-number"),
        (ua.Variant([[1.0, 2.0], [math.nan, 4.0]], T.Float), "not-a-number"),
        (ua.Variant([NOON, datetime(1601, 1, 1, tzinfo=UTC)], T.DateTime), "no-value"),
        (ua.Variant([b"a", None], T.ByteString), "no-value"),
        (ua.Variant(None, T.String, is_array=True), "no-value"),
        (ua.Variant("\udcff", T.String), "invalid-string"),
        (ua.Variant(["good", "\udcff"], T.String), "invalid-string"),
        (ua.Variant(ua.Range(0.0, 1.0), T.ExtensionObject), "type-mismatch"),
        (ua.Variant([ua.Range(0.0, 1.0), None], T.ExtensionObject), "type-mismatch"),
        (ua.Variant(ua.DataValue(ua.Variant(1, T.Int16)), T.DataValue), "type-mismatch"),
        (ua.Variant(ua.DiagnosticInfo(), T.DiagnosticInfo), "type-mismatch"),
    ],
)
def test_what_is_no_value_says_why_and_is_never_a_stand_in(variant: Any, reason: str) -> None:
    assert decoded(variant) == Unusable(reason)


def test_a_type_of_a_later_standard_costs_only_its_own_value() -> None:
    data = b"\x01\x1f\x02\x00\x00\x00ab"
    assert decode_data_value(data, 0) == (DataValue(Unusable("type-mismatch"), 0, None, None), len(data))


def test_a_matrix_whose_lengths_do_not_fit_is_a_mismatch_and_not_padded() -> None:
    data = b"\x01\xc3" + struct.pack("<i2B", 2, 7, 8) + struct.pack("<i2i", 2, 2, 2)
    assert decode_data_value(data, 0)[0].value == Unusable("type-mismatch")


def test_both_timestamps_are_right_where_the_server_sends_picoseconds() -> None:
    """On the wire picoseconds follow their own timestamp (OPC 10000-6 section 5.2.2.17)."""
    ticks = (NOON_MS + 11_644_473_600_000) * 10_000
    data = struct.pack("<BBB I qH qH", 0x3F, 0x03, 9, 0x40900000, ticks, 1, ticks + 50_000, 2)
    value, end = decode_data_value(data, 0)
    assert value == DataValue(9, 0x40900000, NOON_MS, NOON_MS + 5, ticks)
    assert end == len(data)


@pytest.mark.parametrize("when", [datetime(1601, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)])
def test_the_ends_of_the_range_of_dates_are_no_timestamps(when: datetime) -> None:
    value, _ = decode_data_value(struct_to_binary(ua.DataValue(ua.Variant(1), SourceTimestamp=when)), 0)
    assert value.source is None


@pytest.mark.parametrize(
    ("value", "status", "quality"),
    [
        (1, 0, None),
        (1, 0x00960000, None),  # GoodLocalOverride
        (1, 0x00000480, None),  # good, with the overflow bit
        (1, 0x40900000, "uncertain:UncertainLastUsableValue"),
        (1, 0x40900480, "uncertain:UncertainLastUsableValue"),
        (1, 0x808C0000, "bad:BadSensorFailure"),
        (1, 0xC0000000, "bad:0xC0000000"),  # reserved severity: bad
        (1, 0x8FFF0000, "bad:0x8FFF0000"),
        (Unusable("no-value"), 0, "bad:no-value"),
        (Unusable("not-a-number"), 0x40900000, "bad:not-a-number"),
        (Unusable("no-value"), 0x80310000, "bad:BadNoCommunication"),
    ],
)
def test_quality_is_the_status_and_else_what_is_wrong_with_the_value(
    value: Any, status: int, quality: str | None
) -> None:
    assert DataValue(value, status, None, None).quality == quality


@pytest.mark.parametrize(("status", "overflowed"), [(0x480, True), (0x40900480, True), (0x400, False), (0x80, False)])
def test_overflow_needs_the_bit_and_the_info_type_that_gives_it_meaning(status: int, overflowed: bool) -> None:
    assert DataValue(1, status, None, None).overflowed is overflowed


def test_status_names_are_the_standards() -> None:
    assert status_name(0x80340000) == "BadNodeIdUnknown"
    assert status_name(0x803404FF) == "BadNodeIdUnknown"


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_reads_back_from_at_most_nine_digits(number: float) -> None:
    found = shortest(number)
    assert struct.pack("<f", found) == struct.pack("<f", number)
    assert float(f"{found:.9g}") == found


@given(st.integers(min_value=1, max_value=999_999), st.integers(min_value=-4, max_value=4))
def test_a_decimal_of_six_digits_comes_back_as_it_was_written(digits: int, exponent: int) -> None:
    written = float(f"{digits}e{exponent}")
    assert shortest(struct.unpack("<f", struct.pack("<f", written))[0]) == written


def test_the_largest_float32_does_not_overflow() -> None:
    largest = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]
    assert struct.pack("<f", shortest(largest)) == b"\xff\xff\x7f\x7f"


PLAIN = st.one_of(
    st.booleans().map(lambda v: ua.Variant(v, T.Boolean)),
    st.integers(-(2**63), 2**63 - 1).map(lambda v: ua.Variant(v, T.Int64)),
    st.floats(allow_nan=False, allow_infinity=False).map(lambda v: ua.Variant(v, T.Double)),
    st.text(st.characters(codec="utf-8")).map(lambda v: ua.Variant(v, T.String)),
    st.lists(st.integers(0, 65535), max_size=5).map(lambda v: ua.Variant(v, T.UInt16)),
)
MOMENTS = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 -- bounds


@given(PLAIN, st.sampled_from([0, 0x480, 0x40900000]), st.none() | MOMENTS, st.none() | MOMENTS)
def test_another_makes_encoder_is_understood(variant: Any, status: int, source: Any, server: Any) -> None:
    given_value = ua.DataValue(variant, ua.StatusCode(status), SourceTimestamp=source, ServerTimestamp=server)
    data = struct_to_binary(given_value)
    value, end = decode_data_value(data, 0)
    assert (value.value, value.status, end) == (variant.Value, status, len(data))
    for found, meant in ((value.source, source), (value.server, server)):
        assert found == (
            None if meant is None else (meant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
        )


@given(st.binary(max_size=80))
def test_bytes_that_mean_nothing_raise_what_the_driver_translates(data: bytes) -> None:
    try:
        value, end = decode_data_value(data, 0)
    except PROTOCOL_ERRORS:
        return
    assert end <= len(data)
    if not isinstance(value.value, Unusable):
        json.dumps(value.value, allow_nan=False)


@pytest.mark.parametrize("kind", [0, 12, 22, 24])
def test_an_array_that_announces_more_than_was_sent_costs_no_memory(kind: int) -> None:
    with pytest.raises(IndexError):
        decode_data_value(bytes((0x01, 0x80 | kind)) + struct.pack("<i", 2**31 - 1) + b"\0" * 8, 0)


def test_variants_in_variants_do_not_exhaust_the_stack() -> None:
    with pytest.raises(ValueError, match="too deep"):
        decode_data_value(b"\x01" + b"\x18" * 10_000, 0)
