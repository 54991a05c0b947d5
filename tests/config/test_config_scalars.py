"""An unquoted scalar is read by the rules of YAML 1.2, not by those of 1.1."""

from collections.abc import Callable

import pytest

from gateway.config.nodes import read
from gateway.config.scalars import Plain, resolve


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("FALSE", "FALSE"),
        ("yes", "yes"),
        ("on", "on"),
        ("NO", "NO"),
        ("y", "y"),
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("-7", -7),
        ("0o17", 15),
        ("0xFF", 255),
        ("0b11", "0b11"),
        ("1_000", "1_000"),
        ("12:30:45", "12:30:45"),
        ("8:22", "8:22"),
        ("2024-01-02", "2024-01-02"),
        ("192.0.2.10", "192.0.2.10"),
        ("3.1.1", "3.1.1"),
        ("1.5", 1.5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.5e1", -5.0),
        ("1e3", 1000.0),
        ("1E-3", 0.001),
        ("e3", "e3"),
        (".", "."),
        ("-", "-"),
        ("1e", "1e"),
        ("+", "+"),
        ("0.1000000000000000000001", "0.1000000000000000000001"),
        ("00:1b:44:11:3a:b7", "00:1b:44:11:3a:b7"),
        ("opc.tcp://192.0.2.20:4840", "opc.tcp://192.0.2.20:4840"),
        ("None", "None"),
        ("nullable", "nullable"),
    ],
)
def test_a_scalar_is_what_the_core_schema_says(text: str, value: Plain) -> None:
    found = resolve(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "~", "null", "Null", "NULL"])
def test_an_empty_value_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is empty; write a value, or remove it"):
        resolve(text)


@pytest.mark.parametrize("text", ["010", "00021", "-07", "+01.5", "00", "01e3"])
def test_a_number_with_a_leading_zero_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="begins with a zero"):
        resolve(text)


@pytest.mark.parametrize("text", [".inf", "-.INF", ".nan", ".NaN", "1e400", "-1e999"])
def test_a_number_that_is_not_finite_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a finite number|is too large a number"):
        resolve(text)


def test_a_number_of_any_length_is_refused_in_one_sentence() -> None:
    with pytest.raises(ValueError, match="has more than 60 characters"):
        resolve("9" * 100_000)


@pytest.mark.parametrize("text", ['"010"', "'true'", "!!str 12", '"12"', "|\n  12", ">-\n  12"])
def test_text_in_quotes_stays_text(text: str) -> None:
    root, problems = read("x", f"a: {text}\n")
    assert root is not None
    assert not problems
    assert isinstance(root.plain()["a"], str)


def test_values_know_where_they_stand() -> None:
    root, _ = read("x", "a:\n  - b: 1\n    c: [2,\n      3]\n")
    assert root is not None
    first = root.get("a")
    assert first is not None
    element = first.elements[0]
    assert element.entries["c"].place == ("x", 3, 5)
    inner = element.get("c")
    assert inner is not None
    assert [node.place for node in inner.elements] == [("x", 3, 9), ("x", 4, 7)]


def test_an_alias_stands_for_what_its_anchor_names() -> None:
    root, problems = read("x", "a: &x {b: 1}\nc: *x\n")
    assert root is not None
    assert root.plain() == {"a": {"b": 1}, "c": {"b": 1}}
    assert not problems


@pytest.mark.parametrize(
    "text",
    [
        "a: &x [*x]\n",
        "[" * 100_000,
        "{a: " * 100_000,
        "- " * 100_000,
        "? " * 10_000,
        "a: &a [" * 30_000,
        "".join(f"a{n}: &a{n} [{f'*a{n - 1}' if n else ''}]\n" for n in range(2000)),
        "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 2) if n else ''}]\n" for n in range(39)),
    ],
    ids=["itself", "lists", "mappings", "blocks", "keys", "anchors", "tower", "bomb"],
)
def test_a_file_made_to_exhaust_us_is_refused(text: str) -> None:
    root, problems = read("x", text)
    assert root is None
    assert len(problems) == 1


def test_everything_below_a_value_that_is_refused_can_still_be_wrong(complaints: Callable[[str], list[str]]) -> None:
    found = complaints("gateway: {id: 007}\nmqtt: {host: ~, port: 99999}\ndevices: []\n")
    assert [line.split(":")[0] for line in found] == ["gateway.id", "mqtt.host", "mqtt.port", "devices"]
