"""`edge-gateway decode`: what raw registers may mean, the plausible readings first."""

import json
import math
import struct
from decimal import Decimal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.commissioning.expected import NEAR, SAME, rank_by
from gateway.commissioning.interpretations import arrange, interpret, interpret_windows
from gateway.commissioning.surprise import cost_of_float, cost_of_integer, cost_of_text, digits_of_float32
from gateway.drivers.modbus.fields import field_of
from gateway.drivers.modbus.plan import Block
from gateway.drivers.modbus.registers import Decoder
from gateway.drivers.modbus.tag import ModbusTag
from tests.cli.conftest import Shell

registers = st.lists(st.integers(0, 0xFFFF), min_size=1, max_size=8)


def lay(value: object, code: str, order: str) -> list[int]:
    """Put a value into registers in a byte order."""
    packed = struct.pack(f">{code}", value)
    laid = arrange([int.from_bytes(packed[at : at + 2], "big") for at in range(0, len(packed), 2)], order)
    return [int.from_bytes(laid[at : at + 2], "big") for at in range(0, len(laid), 2)]


def best(found: list[int]) -> tuple[str, str, object]:
    """The first reading of registers."""
    one = interpret(found)[0]
    return one.type, one.byte_order, one.values[0] if len(one.values) == 1 else one.values


@pytest.mark.parametrize("order", ["ABCD", "CDAB", "BADC", "DCBA"])
@pytest.mark.parametrize("value", [21.5, 230.35, 50.01, -12.34, 0.985, 1013.2, 4711.0])
def test_a_measured_float_is_found_in_whatever_byte_order_it_lies(value: float, order: str) -> None:
    kind, found, read = best(lay(value, "f", order))
    assert (kind, found) == ("float32", order)
    assert math.isclose(float(read), value, rel_tol=1e-6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ([0x0000, 0x41AC], ("float32", "CDAB", 21.5)),
        ([10, 20], ("uint16", "ABCD", (10, 20))),
        ([0x0001, 0x86A0], ("uint32", "ABCD", 100_000)),
        ([0x86A0, 0x0001], ("uint32", "CDAB", 100_000)),
        ([0xFFFF, 0xFFF6], ("int32", "ABCD", -10)),
        ([0xFFF6], ("int16", "ABCD", -10)),
        ([215], ("uint16", "ABCD", 215)),
        ([0x504D, 0x3535, 0x3630, 0x0000], ("string", "ABCD", "PM5560")),
        ([0x6953, 0x6D65, 0x6E65, 0x2073], ("string", "BADC", "Siemens")),
        ([0x4035, 0x8000, 0x0000, 0x0000], ("float64", "ABCD", 21.5)),
        ([0x41AC, 0x0000, 0x4366, 0x5A1C], ("float32", "ABCD", (21.5, pytest.approx(230.352)))),
    ],
)
def test_the_plausible_reading_comes_first(found: list[int], wanted: tuple[str, str, object]) -> None:
    assert best(found) == wanted


@given(registers)
def test_every_reading_is_one_that_the_config_takes(found: list[int]) -> None:
    for one in interpret(found):
        address = "holding:0.3" if one.type == "bool" else "holding:0"
        tag = ModbusTag.model_validate({"name": "t", "address": address, **one.keys})
        assert tag.registers == len(found)


@given(registers)
def test_what_is_shown_is_what_the_driver_makes_of_these_registers_with_these_keys(found: list[int]) -> None:
    payload = b"".join(register.to_bytes(2, "big") for register in found)
    for one in interpret(found):
        if one.type == "bool":
            continue
        tag = ModbusTag.model_validate({"name": "t", "address": "holding:0", **one.keys})
        decoded = Decoder(Block("holding", 0, len(found), (0,)), [field_of(tag)]).decode(payload)
        assert decoded.bad == {}
        value = decoded.values[0]
        assert (tuple(value) if isinstance(value, list | tuple) else (value,)) == one.values


@given(registers)
def test_plausibilities_are_shares_of_a_whole(found: list[int]) -> None:
    shares = [one.share for one in interpret(found)]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1.0)


def test_a_value_costs_more_the_longer_it_is_and_the_stranger_its_size() -> None:
    assert cost_of_integer(0) < cost_of_integer(7) < cost_of_integer(215) < cost_of_integer(17_254)
    assert cost_of_integer(100_000) < cost_of_integer(16_812)
    assert cost_of_integer(215) < cost_of_integer(-215)
    assert cost_of_float(21.5, 3, 23) < cost_of_float(230.352, 6, 23) < cost_of_float(2.3e9, 2, 23) + 23
    assert cost_of_float(21.5, 3, 23) < cost_of_float(2.15e-7, 3, 23) < cost_of_float(2.15e-20, 3, 23)
    text, noise = cost_of_text(b"Pump"), cost_of_text(b"p:#M")
    assert text is not None
    assert noise is not None
    assert text < noise
    assert cost_of_text(b"\x01ab") is None


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_a_float32_has_as_many_digits_as_read_back_to_it(value: float) -> None:
    shortest = float(f"{value:.{digits_of_float32(value) - 1}e}")
    assert struct.pack(">f", shortest) == struct.pack(">f", value)


@given(st.floats(0.5, 1e5, width=32), st.sampled_from(["ABCD", "CDAB", "BADC", "DCBA"]), st.integers(0, 3))
def test_the_value_on_the_display_finds_its_registers(value: float, order: str, before: int) -> None:
    found = [0xBEEF] * before + lay(value, "f", order) + [0x1234]
    shown = Decimal(f"{value:.1f}")
    ranked = rank_by(shown, interpret_windows(found))
    agreeing = [(one.type, one.byte_order, one.offset) for one in ranked if one.match == SAME and one.scale is None]
    assert ("float32", order, before) in agreeing


@pytest.mark.parametrize(
    ("found", "shown", "keys"),
    [
        (215, "21.5", {"type": "uint16", "scale": 0.1}),
        (2149, "21.5", {"type": "uint16", "scale": 0.01}),
        (0x0215, "21.5", {"type": "bcd16", "scale": 0.1}),
        (3, "3000", {"type": "uint16", "scale": 1000}),
    ],
)
def test_a_scale_is_found_too(found: int, shown: str, keys: dict[str, object]) -> None:
    assert rank_by(Decimal(shown), interpret_windows([found]))[0].keys == keys


def test_a_value_that_moved_a_little_is_near_and_another_is_not_there() -> None:
    assert [one.match for one in rank_by(Decimal("21.5"), interpret_windows([217]))][:1] == [NEAR]
    assert rank_by(Decimal("77.7"), interpret_windows([215])) == []


async def test_it_prints_keys_that_can_be_copied_into_a_tag(shell: Shell) -> None:
    done = await shell("decode", "0x0000", "0x41ac")
    first = done.out.splitlines()[1]
    assert done.code == 0
    assert first.startswith("21.5 ")
    keys = first[first.index("type:") :].strip()
    assert yaml.safe_load(f"{{{keys}}}") == {"type": "float32", "byte_order": "CDAB"}


@pytest.mark.parametrize(
    "written",
    [("0x41ac", "0x0000"), ("41AC", "0000"), ("16812", "0"), ("0x41ac0000",), ("[16812,", "0]"), ("41AC0000",)],
)
async def test_registers_are_taken_as_people_paste_them(shell: Shell, written: tuple[str, ...]) -> None:
    done = await shell("decode", "--json", *written)
    document = json.loads(done.out)
    assert document["registers"] == ["0x41ac", "0x0000"]
    assert document["readings"][0]["value"] == 21.5
    assert document["readings"][0]["tag"] == {"type": "float32"}


async def test_what_the_display_shows_ranks(shell: Shell) -> None:
    done = await shell("decode", "--json", "--expect", "230,4", "0", "1", "0x4366", "0x6666")
    first = json.loads(done.out)["readings"][0]
    assert (first["offset"], first["tag"], first["match"]) == (2, {"type": "float32"}, "as expected")


async def test_nothing_that_agrees_is_exit_1(shell: Shell) -> None:
    done = await shell("decode", "215", "--expect", "77.7")
    assert (done.code, done.err) == (1, "")
    assert done.out.startswith("No reading gives it")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["zz"], "zz is no register; write hexadecimal such as 0x41c8, or 0 to 65535."),
        (["70000"], "70000 is no register; write hexadecimal such as 0x41c8, or 0 to 65535."),
        (["0"] * 126, "126 registers were given; give 1 to 125, such as 0x0000 0x41ac."),
        (["1", "--expect", "warm"], "Invalid value for --expect: write the number on the display, such as 21.5."),
        ([], "Missing argument 'REGISTERS...'."),
    ],
)
async def test_wrong_use_is_one_sentence_and_exit_2(shell: Shell, arguments: list[str], sentence: str) -> None:
    done = await shell("decode", *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err == f"edge-gateway decode: {sentence} See edge-gateway decode --help.\n"


async def test_help_has_an_example(shell: Shell) -> None:
    done = await shell("decode", "--help")
    assert done.code == 0
    assert "Example: edge-gateway decode 0x0000 0x41ac" in done.out
