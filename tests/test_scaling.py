"""value = raw * scale + offset: held against exact arithmetic, for every kind of raw value."""

import math
import struct
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scaling import scaler

factors = st.decimals(min_value=-(10**12), max_value=10**12, allow_nan=False, places=9)
optional = st.none() | factors
integers = st.integers(min_value=-(2**63), max_value=2**64 - 1)
doubles = st.floats(allow_nan=False, allow_infinity=False)
singles = st.floats(allow_nan=False, allow_infinity=False, width=32)


def exactly(raw: Fraction, scale: Decimal | None, offset: Decimal | None) -> float:
    """Compute without any rounding, then round once; a fraction's quotient of integers is correctly rounded."""
    value = raw * Fraction(Decimal(1) if scale is None else scale) + Fraction(offset or 0)
    return value.numerator / value.denominator


@pytest.mark.parametrize(
    ("type_", "raw", "scale", "offset", "value"),
    [
        ("uint16", 214, "0.1", None, 21.4),
        ("int16", -214, "0.1", None, -21.4),
        ("uint16", 3, "0.1", None, 0.3),
        ("uint16", 7, "1e-1", "0.1", 0.8),
        ("uint16", 0, "0.1", "-40", -40.0),
        ("int32", 5, None, "-32", -27.0),
        ("int32", 5, "1", None, 5.0),
        ("uint64", 2**64 - 1, "0.001", None, 18446744073709551.615),
        ("uint64", 2**64 - 1, "1", "1", 2.0**64),
        ("int64", -(2**63), "0.5", None, -(2.0**62)),
        ("uint64", 9007199254740993, "1", None, 9007199254740992.0),
        ("uint32", 1, "1e-100", None, 1e-100),
        ("float64", 21.4, "0.1", None, 2.14),
        ("float64", 1e300, "1e-300", None, 1.0),
        ("float64", 5e-324, "1", None, 5e-324),
        (None, 21.4, "0.1", None, 2.14),
        (None, 214, "0.1", None, 21.4),
        ("float32", 21.399999618530273, "1", None, 21.4),
        ("float32", 21.399999618530273, "10", "0.5", 214.5),
        ("float32", 16777216.0, "1", None, 16777220.0),
        ("float32", -0.10000000149011612, "0.1", None, -0.01),
    ],
)
def test_a_value_is_scaled_as_a_person_would_with_pencil_and_paper(
    type_: str | None, raw: float, scale: str | None, offset: str | None, value: float
) -> None:
    scaled = scaler(type_, scale and Decimal(scale), offset and Decimal(offset))
    assert scaled is not None
    assert scaled(raw) == value


@given(integers, optional, optional)
def test_integers_are_scaled_exactly_and_rounded_once(raw: int, scale: Decimal | None, offset: Decimal | None) -> None:
    scaled = scaler("int64", scale, offset)
    if scaled is None:
        assert scale is None
        assert offset is None
    else:
        assert scaled(raw) == exactly(Fraction(raw), scale, offset)


@given(doubles, factors, optional)
def test_a_float64_is_scaled_as_the_decimal_that_it_prints_as(
    raw: float, scale: Decimal, offset: Decimal | None
) -> None:
    scaled = scaler("float64", scale, offset)
    assert scaled is not None
    try:
        wanted = exactly(Fraction(Decimal(repr(raw))), scale, offset)
    except OverflowError:
        with pytest.raises(OverflowError):
            scaled(raw)
    else:
        assert scaled(raw) == wanted


@given(singles, factors, optional)
def test_a_float32_has_seven_significant_digits(raw: float, scale: Decimal, offset: Decimal | None) -> None:
    scaled = scaler("float32", scale, offset)
    assert scaled is not None
    value = scaled(raw)
    assert value == float(f"{raw * float(scale) + float(offset or 0):.6e}")
    assert len(Decimal(repr(value)).normalize().as_tuple().digits) <= 7


@given(st.integers(min_value=-(10**6), max_value=10**6), st.integers(min_value=0, max_value=3))
def test_a_float32_that_carries_a_short_decimal_is_scaled_to_a_short_decimal(number: int, places: int) -> None:
    decimal = Decimal(number).scaleb(-places)
    (raw,) = struct.unpack("f", struct.pack("f", float(decimal)))
    scaled = scaler("float32", Decimal("0.1"), None)
    assert scaled is not None
    assert scaled(raw) == float(decimal / 10)


@given(integers | doubles, factors)
def test_a_scaled_value_is_always_a_float(raw: float, scale: Decimal) -> None:
    scaled = scaler(None, scale, None)
    assert scaled is not None
    try:
        value = scaled(raw)
    except OverflowError:
        return
    assert value.__class__ is float
    assert math.isfinite(value)


@pytest.mark.parametrize("type_", ["float32", "float64", None])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_result_beyond_all_floats_is_an_error_and_not_infinite(type_: str | None, sign: int) -> None:
    scaled = scaler(type_, Decimal("1e100") * sign, None)
    assert scaled is not None
    raw = 3e38
    for _ in range(2):
        raw = scaled(raw)
    with pytest.raises(OverflowError):
        scaled(raw)


@pytest.mark.parametrize("raw", [True, "12", [1, 2], {"a": 1}, None])
def test_what_is_no_number_is_not_scaled(raw: object) -> None:
    scaled = scaler(None, Decimal("0.1"), None)
    assert scaled is not None
    with pytest.raises(TypeError):
        scaled(raw)


def test_without_scale_and_offset_there_is_nothing_to_do() -> None:
    assert scaler("uint64", None, None) is None
