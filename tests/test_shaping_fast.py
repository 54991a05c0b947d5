"""Compiled shaping gives exactly what shaping one value at a time gives, whatever comes."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import Sample
from gateway.shaping import Shaper
from tests.plain_shaping import PlainShaper
from tests.scripted import ScriptedTag, scripted, scripted_tag

NUMBERS = st.one_of(
    st.integers(0, 6),
    st.integers(-(2**63), 2**64 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 0.1, 0.30000000000000004, 0.5, 1.0, 21.4, 3e38, 1.7e308]),
)
SCALARS = st.one_of(NUMBERS, NUMBERS, NUMBERS, st.booleans(), st.sampled_from(["", "a", "b"]))
VALUES = st.one_of(SCALARS, SCALARS, st.lists(SCALARS, max_size=3), st.just({"a": 1}))
QUALITIES = st.sampled_from([""] * 8 + ["uncertain:a", "uncertain:b", "bad:a", "bad:b"])
FACTORS = st.sampled_from([None, None, "1", "0.1", "-0.001", "1e300", "0.3333333333333333333333"])
BOUNDS = st.none() | st.sampled_from([-5, 0, "0.1", 1, "2.5", 21, 2**63])


@st.composite
def tags(draw: st.DrawFn) -> list[ScriptedTag]:
    """Give the tags of a device: many alike, as in the field, and some that are not."""
    kinds = [draw(st.fixed_dictionaries(KEYS)) for _ in range(draw(st.integers(1, 4)))]
    chosen = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=12))
    return [made(number, dict(keys)) for number, keys in enumerate(chosen)]


KEYS: dict[str, Any] = {
    "type": st.sampled_from([None, "int32", "float16", "float32", "float64"]),
    "scale": FACTORS,
    "offset": FACTORS,
    "min": BOUNDS,
    "max": BOUNDS,
    "map": st.sampled_from([None, None, None, {0: "off", 1: "on", 2: "fault"}]),
    "count": st.sampled_from([None, None, None, 3]),
    "deadband": st.sampled_from([None, 0, 0, 1, 2.5, "10%"]),
    "heartbeat": st.sampled_from([7.0, 60.0]),
    "interval": st.sampled_from([1.0, 2.0]),
}


def made(number: int, keys: dict[str, Any]) -> ScriptedTag:
    """Make a tag whose settings may stand together."""
    if keys["map"] is not None:
        keys |= dict.fromkeys(("scale", "offset", "min", "max", "count"))
    if keys["deadband"] == "10%":
        keys["range"] = (0, 10)
    for key in ("scale", "offset", "min", "max"):
        keys[key] = None if keys[key] is None else Decimal(keys[key])
    return scripted_tag(f"t{number}", **keys)


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[ScriptedTag], list[Any]]:
    """Give tags, and what is read of them: mostly the same columns, mostly values that they had before."""
    made_tags = draw(tags())
    everything = tuple(range(len(made_tags)))
    sets = [everything, tuple(sorted(draw(st.sets(st.sampled_from(everything))))), everything]
    usual = [draw(st.lists(VALUES, min_size=3, max_size=3)) for _ in everything]
    steps: list[Any] = []
    for _ in range(draw(st.integers(1, 12))):
        if draw(st.integers(0, 15)) == 0:
            steps.append("clear")
            continue
        read = [
            (column, draw(st.sampled_from(usual[column]) | VALUES), draw(QUALITIES))
            for column in draw(st.sampled_from(sets))
        ]
        steps.append((draw(st.sampled_from([1, 1, 1, 5, 70])), read))
    return made_tags, steps


def sample_of(read: list[tuple[int, Any, str]], number: int) -> Sample:
    """Make a sample as a driver does."""
    good = [(column, value) for column, value, quality in read if not quality.startswith("bad:")]
    return Sample(
        number,
        tuple(column for column, _ in good),
        tuple(value for _, value in good),
        len(read),
        {f"t{column}": quality for column, _, quality in read if quality},
    )


@pytest.mark.parametrize("follows", [False, True])
@settings(max_examples=150, deadline=None)
@given(session=sessions())
def test_the_fast_way_gives_what_the_plain_one_gives(follows: bool, session: tuple[list[ScriptedTag], Any]) -> None:
    made_tags, steps = session
    section = scripted(tags=made_tags, heartbeat=60.0)
    fast, plain = Shaper(section), PlainShaper(section)
    fast.follows = follows
    now = 0.0
    for number, step in enumerate(steps):
        if step == "clear":
            fast.clear()
            plain.clear()
            continue
        now += step[0]
        raw = sample_of(step[1], number)
        found, wanted = fast.shape(raw, now), plain.shape(raw, now)
        assert found == wanted
        assert repr(found and found.values) == repr(wanted and wanted.values)  # 1, 1.0 and True are not the same
        assert fast.bad == plain.bad
