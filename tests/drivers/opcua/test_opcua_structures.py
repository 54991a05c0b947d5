"""Structures by their definitions: what fits to the last byte is an object, anything else is no value."""

import struct
from typing import Any

import asyncua
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.drivers.opcua.types.structures import Enumeration, Field, Layout, Structure, TypeBook
from gateway.drivers.opcua.types.values import TYPE_MISMATCH, Packed, Unusable

ua: Any = asyncua.ua
INT32, DOUBLE, STRING = 6, 11, 12
KIND = ua.NodeId(5001, 2)


def book(*fields: Field, layout: Layout = Layout.PLAIN) -> TypeBook:
    found = TypeBook()
    found.structures[KIND] = Structure("Job", layout, fields)
    return found


def packed(body: bytes) -> Packed:
    return Packed(((KIND, body),))


def text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<i", len(raw)) + raw


def test_fields_follow_one_another() -> None:
    known = book(Field("a", INT32), Field("b", STRING), Field("c", DOUBLE, 1))
    body = struct.pack("<i", -3) + text("x") + struct.pack("<idd", 2, 0.5, 1.5)
    assert known.unpack(packed(body)) == {"a": -3, "b": "x", "c": [0.5, 1.5]}


@pytest.mark.parametrize("more", [b"\0", b"\0" * 8])
def test_bytes_that_are_left_over_mean_another_layout_and_no_value(more: bytes) -> None:
    """P5: half a structure read by an old definition is a false one."""
    assert book(Field("a", INT32)).unpack(packed(struct.pack("<i", 1) + more)) == TYPE_MISMATCH


def test_optional_fields_are_there_by_their_bits() -> None:
    known = book(
        Field("a", INT32), Field("b", INT32, optional=True), Field("c", INT32, optional=True), layout=Layout.OPTIONAL
    )
    assert known.unpack(packed(struct.pack("<Iii", 2, 1, 9))) == {"a": 1, "c": 9}
    assert known.unpack(packed(struct.pack("<Iii", 4, 1, 9))) == TYPE_MISMATCH


def test_a_union_has_the_one_field_that_its_switch_names() -> None:
    known = book(Field("a", INT32), Field("b", STRING), layout=Layout.UNION)
    assert known.unpack(packed(struct.pack("<I", 2) + text("x"))) == {"b": "x"}
    assert known.unpack(packed(struct.pack("<I", 0))) == {}
    assert known.unpack(packed(struct.pack("<I", 3))) == TYPE_MISMATCH


def test_structures_and_enumerations_nest() -> None:
    inner = Structure("Inner", Layout.PLAIN, (Field("mode", Enumeration("Mode", {1: "Auto"})),))
    known = book(Field("one", inner), Field("many", inner, 1))
    assert known.unpack(packed(struct.pack("<iiii", 1, 2, 1, 7))) == {
        "one": {"mode": "Auto"},
        "many": [{"mode": "Auto"}, {"mode": 7}],
    }


def test_a_matrix_has_its_lengths_before_its_elements() -> None:
    body = struct.pack("<iiiiiii", 2, 2, 2, 1, 2, 3, 4)
    assert book(Field("m", INT32, 2)).unpack(packed(body)) == {"m": [[1, 2], [3, 4]]}


def test_a_field_without_a_value_is_null() -> None:
    known = book(Field("a", STRING), Field("b", DOUBLE))
    assert known.unpack(packed(struct.pack("<id", -1, float("nan")))) == {"a": None, "b": None}


def test_an_array_in_a_structure_may_be_null_or_empty_and_so_may_its_elements() -> None:
    known = book(Field("a", INT32, 1), Field("b", INT32, 1), Field("c", STRING, 1), Field("d", DOUBLE, 1))
    infinite = struct.pack("<idd", 2, float("inf"), 0.5)
    body = struct.pack("<iii", -1, 0, 2) + struct.pack("<i", -1) + text("") + infinite
    assert known.unpack(packed(body)) == {"a": None, "b": [], "c": [None, ""], "d": [None, 0.5]}


def test_an_unknown_encoding_is_noted_and_no_value() -> None:
    known = TypeBook()
    assert known.unpack(packed(b"")) == TYPE_MISMATCH
    assert known.unknown == {KIND}


def test_a_type_that_holds_itself_ends() -> None:
    endless = Structure("Endless")
    endless.fields = (Field("next", endless),)
    known = TypeBook()
    known.structures[KIND] = endless
    assert known.unpack(packed(b"")) == TYPE_MISMATCH


def test_two_servers_may_use_one_id_for_two_layouts() -> None:
    """The library's own registry is one for the process, and reads one server's values by the other's definitions."""
    motor, pump = book(Field("A", DOUBLE)), book(Field("A", 8))
    body = struct.pack("<d", 1.5)
    assert motor.unpack(packed(body)) == {"A": 1.5}
    assert pump.unpack(packed(body)) == {"A": struct.unpack("<q", body)[0]}


@given(st.binary(max_size=64))
def test_any_bytes_are_an_object_or_no_value(body: bytes) -> None:
    inner = Structure("Inner", Layout.OPTIONAL, (Field("x", STRING, 1, optional=True), Field("y", 24)))
    known = book(Field("a", inner), Field("b", INT32, 2), Field("c", 22), Field("d", inner, 1))
    value = known.unpack(packed(body))
    assert isinstance(value, dict | Unusable)
