"""What the server made of our wishes where it is not what was asked, summed up for a person."""

from collections.abc import Iterable
from typing import Any, Final

_TOLD: Final = 5
_NOTEWORTHY: Final = 0.01
"""Intervals that differ by a smaller share are the same."""


class Revisions:
    """Counts the tags for which the server changed the same wish in the same way; `summary` is bounded."""

    def __init__(self, summary: Iterable[dict[str, Any]] = ()) -> None:
        self.summary = list(summary)

    def note(self, tag: str, asked: dict[str, float], got: dict[str, float]) -> None:
        """Note what was asked for a tag and what was granted: seconds (`..._s`), or the length of a queue."""
        changed = [key for key in asked if _differs(key, asked[key], got[key])]
        if not changed:
            return
        was, became = ({key: wish[key] for key in changed} for wish in (asked, got))
        for known in self.summary:
            if (known["asked"], known["got"]) == (was, became):
                known["tags"] += 1
                return
        if len(self.summary) < _TOLD:
            self.summary.append({"tags": 1, "first": tag, "asked": was, "got": became})


def _differs(key: str, asked: float, got: float) -> bool:
    if key == "queue":
        return got < asked  # more than was asked for costs nobody anything
    return abs(got - asked) > _NOTEWORTHY * asked


def merged(revisions: Iterable[Revisions]) -> list[dict[str, Any]]:
    """Give the summaries of several subscriptions as one, bounded list."""
    return [entry for each in revisions for entry in each.summary][:_TOLD]
