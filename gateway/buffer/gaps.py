"""When one gap record can tell of two losses, and what it then says."""

from dataclasses import replace
from typing import Any

from gateway.buffer.tables import Row
from gateway.model import Gap


def continues(gap: Gap, more: Gap) -> bool:
    """Whether one record can tell both and still be exact."""
    if gap.fields.get("previous_epoch") != more.fields.get("previous_epoch"):
        return False
    if "first_seq" not in more.fields or "first_seq" not in gap.fields:
        return "first_seq" not in more.fields and "first_seq" not in gap.fields
    last, first = gap.fields["last_seq"], more.fields["first_seq"]
    return last is not None and first is not None and bool(last == first - 1)


def merge_gaps(gap: Gap, more: Gap) -> Gap:
    """Let one gap record tell both: counts add up, spans widen."""
    merged = dict(gap.fields)
    for key, value in more.fields.items():
        if key not in merged or merged[key] is None:
            merged[key] = value
        elif key in ("readings", "count"):
            merged[key] += value
        elif key == "from":
            merged[key] = min(merged[key], value)
        elif key == "to":
            merged[key] = max(merged[key], value)
        elif key == "tags":
            merged[key] = sorted({*merged[key], *value})
        elif key == "last_seq":
            merged[key] = value
    return replace(gap, fields=merged)


def span_of(row: Row) -> dict[str, Any]:
    """Say which seqs a row holds, how many readings, and of when."""
    last = row.first_seq + row.samples - 1
    seqs = {"first_seq": row.first_seq, "last_seq": last, "readings": row.readings}
    return {**seqs, "from": row.from_ms, "to": row.to_ms}
