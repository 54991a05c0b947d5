"""What becomes of raw values beside scaling: limits, names, arrays, and what cannot be."""

from typing import Any

import pytest

from gateway.conversion import conversion_of
from gateway.drivers.modbus.tag import ModbusTag
from gateway.drivers.opcua.tag import OpcuaTag
from gateway.model import Sample
from gateway.shaping import Shaper
from tests.scripted import ScriptedTag, scripted, scripted_tag


def shaped(tag: ScriptedTag, *values: Any) -> list[Any]:
    """Give, for each value read, what is sent of it: the value, the quality, or both where it is uncertain."""
    shaper = Shaper(scripted(tags=[tag]))
    shown = []
    for value in values:
        shaper.clear()
        out = shaper.shape(Sample.good(1, (0,), (value,)), 0.0)
        assert out is not None
        shown.append(out.values[0] if not out.quality else (*out.values, out.quality[tag.name]))
    return shown


OUT = ("bad:out-of-range",)
MISMATCH = ("bad:type-mismatch",)


@pytest.mark.parametrize(
    ("keys", "values", "wanted"),
    [
        ({"min": 0, "max": 10}, [-1, 0, 5, 10, 11], [OUT, 0, 5, 10, OUT]),
        ({"min": -5}, [-6, -5, 10**30], [OUT, -5, 10**30]),
        ({"max": 2.5}, [2, 3, 2.5, 2.500001], [2, OUT, 2.5, OUT]),
        ({"max": 9007199254740992}, [9007199254740992, 9007199254740993], [9007199254740992, OUT]),
        ({"max": 2**64 - 1}, [2**64 - 1, 2**64], [2**64 - 1, OUT]),
        ({"min": 0, "scale": 0.1, "offset": -40}, [399, 400, 401], [OUT, 0.0, 0.1]),
        ({"max": 0.3, "scale": 0.1}, [3, 4], [0.3, OUT]),
        ({"min": 0, "max": 10, "type": None}, ["a", True, [5], 5.0], [MISMATCH, MISMATCH, MISMATCH, 5.0]),
    ],
)
def test_a_value_outside_its_limits_is_bad_and_one_just_on_them_is_not(
    keys: dict[str, Any], values: list[Any], wanted: list[Any]
) -> None:
    assert shaped(scripted_tag(**keys), *values) == wanted


def test_an_unscaled_float32_keeps_a_limit_that_only_rounding_makes_it_miss() -> None:
    nearly = 0.10000000149011612  # what float32 makes of 0.1
    assert shaped(scripted_tag(type="float32", max=0.1), nearly, 0.10000000894069672) == [nearly, OUT]
    assert shaped(scripted_tag(type="float32", min=0.7), 0.699999988079071) == [0.699999988079071]
    assert shaped(scripted_tag(type="float32", min=-1e39, max=1e39), 3e38) == [3e38]
    assert shaped(scripted_tag(type="float64", max=0.1), nearly) == [OUT]


def test_a_number_has_a_name_and_one_without_is_sent_as_it_is() -> None:
    tag = scripted_tag(map={0: "stopped", 1: "running", -3: "fault"}, type=None)
    wanted = ["stopped", "running", "fault", (7, "uncertain:unmapped"), (0.5, "uncertain:unmapped"), "running"]
    assert shaped(tag, 0, 1, -3, 7, 0.5, 1.0) == wanted
    assert shaped(tag, True, "a", [1]) == [MISMATCH] * 3


def test_a_name_is_sent_when_it_changes_and_when_it_is_lost() -> None:
    shaper = Shaper(scripted(tags=[scripted_tag(map={0: "stopped", 1: "running"}, deadband=0)]))
    outs = [shaper.shape(Sample.good(1, (0,), (raw,)), 0.0) for raw in (0, 0, 1, 7, 7, 8, 1)]
    assert [out and (out.values, dict(out.quality)) for out in outs] == [
        (("stopped",), {}),
        None,
        (("running",), {}),
        ((7,), {"level": "uncertain:unmapped"}),
        None,
        ((8,), {"level": "uncertain:unmapped"}),
        (("running",), {}),
    ]


def test_what_the_plc_says_of_a_value_is_not_overwritten_by_its_missing_name() -> None:
    shaper = Shaper(scripted(tags=[scripted_tag(map={0: "stopped"})]))
    out = shaper.shape(Sample(1, (0,), (7,), 1, {"level": "uncertain:LastUsableValue"}), 0.0)
    assert out == Sample(1, (0,), (7,), 1, {"level": "uncertain:LastUsableValue"})


def test_each_element_of_an_array_is_scaled_and_one_outside_makes_the_tag_bad() -> None:
    tag = scripted_tag(count=3, scale=0.1, min=0, max=2)
    assert shaped(tag, [1, 3, 20], [1, 3, 21], [-1, 3, 20], [1, "a", 2], 5) == [
        [0.1, 0.3, 2.0],
        OUT,
        OUT,
        MISMATCH,
        MISMATCH,
    ]
    assert shaped(scripted_tag(count=2, type="float32", scale=0.1), [21.399999618530273, 1.0]) == [[2.14, 0.1]]
    assert shaped(scripted_tag(count=2), [1, 2]) == [[1, 2]]
    assert shaped(scripted_tag(count=2, type="bool"), [True, False]) == [[True, False]]


def test_an_array_is_sent_again_when_an_element_changed() -> None:
    shaper = Shaper(scripted(tags=[scripted_tag(count=2, scale=0.1, deadband=0)]))
    outs = [shaper.shape(Sample.good(1, (0,), (raw,)), 0.0) for raw in ([1, 2], [1, 2], [1, 3])]
    assert [out and out.values for out in outs] == [([0.1, 0.2],), None, ([0.1, 0.3],)]


def test_a_float16_is_scaled_to_seven_digits_as_a_float32_is() -> None:
    assert shaped(scripted_tag(type="float16", scale=0.1), 0.0999755859375) == [0.009997559]


def test_one_value_out_of_range_costs_no_other() -> None:
    tags = [scripted_tag(f"t{n}", scale=0.1, max=100, deadband=0) for n in range(5)]
    shaper = Shaper(scripted(tags=tags))
    columns = (0, 1, 2, 3, 4)
    shaper.shape(Sample.good(1, columns, (1, 2, 3, 4, 5)), 0.0)
    out = shaper.shape(Sample.good(2, columns, (1, 2, 5000, 4, 6)), 1.0)
    assert out == Sample(2, (4,), (0.6,), 2, {"t2": "bad:out-of-range"})
    assert shaper.shape(Sample.good(3, columns, (1, 2, 5000, 4, 6)), 2.0) is None
    assert shaper.shape(Sample.good(4, columns, (1, 2, 3, 4, 6)), 3.0) == Sample(4, (2,), (0.3,), 1)
    assert shaper.bad == {}


def modbus(**keys: Any) -> ModbusTag:
    """Make a Modbus tag as a config would."""
    return ModbusTag.model_validate({"name": "level", "address": "holding:0", **keys})


def test_what_a_driver_has_multiplied_by_its_scale_register_is_scaled_on_exactly() -> None:
    both = conversion_of(modbus(type="int16", scale_register="holding:9", scale=0.1, offset=-40))
    assert both(230.4) == (-16.96, "")
    alone = conversion_of(modbus(type="int16", scale_register="holding:9", max=230.4))
    assert [alone(230.4), alone(230.5)] == [(230.4, ""), (None, "bad:out-of-range")]
    # A float32 has seven digits, whoever multiplied it.
    assert conversion_of(modbus(type="float32", scale_register="holding:9"))(2.1399999618530273) == (2.14, "")


def test_tags_with_names_are_packed_as_json_whatever_their_protocol() -> None:
    names = {0: "stopped", 1: "running"}
    assert modbus(type="uint16", map=names).code == "j"
    node = {"name": "state", "node": "ns=2;i=1042"}
    assert OpcuaTag.model_validate({**node, "map": names}).code == "j"
    assert OpcuaTag.model_validate(node).code == "*"


@pytest.mark.parametrize(
    ("key", "value"), [("scale", 2), ("offset", 1), ("range", [0, 1]), ("min", 0), ("deadband", 1)]
)
def test_what_only_numbers_have_does_not_go_with_names(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"{key}: .*name"):
        OpcuaTag.model_validate({"name": "state", "node": "ns=2;i=1042", "map": {0: "off"}, key: value})
    with pytest.raises(ValueError, match=f"{key}: .*name"):
        modbus(type="uint16", map={0: "off"}, **{key: value})
