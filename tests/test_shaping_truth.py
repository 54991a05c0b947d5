"""Whatever a device does, its consumer is never left with an untruth: shaping held against a witness."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model import ALL_TAGS, Sample
from gateway.shaping import Shaper
from tests.scripted import scripted, scripted_tag

HEARTBEAT_S = 60.0
QUALITIES = st.sampled_from(["", "", "", "uncertain:a", "bad:a", "bad:b"])
VALUES = st.one_of(
    st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0, 3.5]), st.booleans(), st.sampled_from(["a", [1], [True]])
)
TAGS = st.lists(
    st.builds(
        lambda deadband, scale: (deadband, scale), st.sampled_from([None, 0, 1, 2.5]), st.sampled_from([None, "0.1"])
    ),
    min_size=1,
    max_size=4,
)
READS = st.tuples(st.lists(st.tuples(st.booleans(), VALUES, QUALITIES), min_size=4, max_size=4), st.integers(0, 40))
STEPS = st.lists(st.one_of(READS, READS, READS, st.sampled_from(["clear", "timeout", "lost"])), max_size=30)


@dataclass(frozen=True)
class Known:
    """What a consumer knows of a tag, and since when."""

    quality: str
    value: Any
    since: float


class Witness:
    """Sees what a shaper is given and what comes out, and believes as a consumer would."""

    def __init__(self, kinds: list[tuple[float | None, str | None]]) -> None:
        self.tags = {
            f"t{n}": scripted_tag(deadband=deadband, name=f"t{n}", scale=scale, type=None)
            for n, (deadband, scale) in enumerate(kinds)
        }
        self.deadbands = dict(zip(self.tags, (deadband for deadband, _ in kinds), strict=True))
        self.names = tuple(self.tags)
        self.shaper = Shaper(scripted(tags=self.tags.values(), heartbeat=HEARTBEAT_S))
        self.known: dict[str, Known] = {}
        self.owed = set(self.names)
        """Tags whose next reading must be sent, changed or not."""
        self.now = 0.0

    def play(self, step: Any) -> None:
        """Let one thing happen, and look at what comes out."""
        if step == "clear":
            self.shaper.clear()
            self.owed = set(self.names)
        elif isinstance(step, str):
            self._lose(step)
        else:
            asked, seconds = step
            self.now += seconds
            self._read([(name, *rest) for name, (is_due, *rest) in zip(self.names, asked, strict=False) if is_due])

    def _lose(self, reason: str) -> None:
        out = self.shaper.all_bad(1, reason, self.now)
        if out is not None:
            self.known = dict.fromkeys(self.names, Known(out.quality[ALL_TAGS], None, self.now))
        assert {known.quality for known in self.known.values()} == {f"bad:{reason}"}
        self.owed = set(self.names)

    def _read(self, due: list[tuple[str, Any, str]]) -> None:
        good = [(self.names.index(name), value) for name, value, text in due if not text.startswith("bad:")]
        quality = {name: text for name, _, text in due if text}
        raw = Sample(7, tuple(column for column, _ in good), tuple(value for _, value in good), len(due), quality)
        before = dict(self.known)
        truth = {name: self._meant(name, value, text) for name, value, text in due}
        told = self._take(raw, truth)
        for name, meant in truth.items():
            self._check(name, meant, before.get(name), sent=name in told)
        assert {name: text for name, text in self.shaper.bad.items() if name in truth} == {
            name: meant.quality for name, meant in truth.items() if meant.quality
        }
        self.owed -= set(truth)

    def _meant(self, name: str, value: Any, quality: str) -> Known:
        """Say what a reading means."""
        scale = self.tags[name].scale
        if quality.startswith("bad:"):
            return Known(quality, None, self.now)
        if scale is None:
            return Known(quality, value, self.now)
        if value.__class__ not in (int, float):
            return Known("bad:type-mismatch", None, self.now)
        return Known(quality, float(Decimal(repr(value)) * scale), self.now)

    def _take(self, raw: Sample, truth: Mapping[str, Known]) -> set[str]:
        """Believe what comes out, which must be what this very read has shown (P5); give the tags that it tells of."""
        out = self.shaper.shape(raw, self.now)
        if out is None:
            return set()
        values = {self.names[column]: value for column, value in zip(out.columns, out.values, strict=True)}
        told = set(values) | set(out.quality)
        found = {name: Known(out.quality.get(name, ""), values.get(name), self.now) for name in told}
        assert list(map(repr, found.values())) == [repr(truth[name]) for name in found]
        assert (out.ts, out.readings) == (raw.ts, len(told))
        self.known |= found
        return told

    def _check(self, name: str, meant: Known, before: Known | None, *, sent: bool) -> None:
        """See that the consumer knows the truth, as far as deadband and heartbeat allow, and was told it once."""
        known, deadband = self.known[name], self.deadbands[name]
        assert known.quality == meant.quality
        assert agree(known.value, meant.value, deadband or 0)
        assert self.now - known.since < HEARTBEAT_S
        repeats = deadband is None and not meant.quality.startswith("bad:")
        if not sent:
            assert name not in self.owed
            assert not repeats
        elif before is not None and name not in self.owed and self.now - before.since < HEARTBEAT_S - 1:
            assert repeats or before.quality != meant.quality or not agree(before.value, meant.value, 0)


def agree(left: Any, right: Any, deadband: float) -> bool:
    """Whether two values are the same, as far as a deadband tells them apart."""
    if left.__class__ is right.__class__ and left.__class__ in (int, float):
        return bool(abs(left - right) <= deadband * 1.001)
    return repr(left) == repr(right)


@settings(max_examples=300, deadline=None)
@given(TAGS, STEPS)
def test_p4_p5_whatever_happens_the_consumer_knows_the_truth_within_deadband_and_heartbeat(
    kinds: list[tuple[float | None, str | None]], steps: list[Any]
) -> None:
    witness = Witness(kinds)
    for step in steps:
        witness.play(step)
