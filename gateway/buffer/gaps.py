"""When one gap record can tell of two losses, and what it then says."""

from dataclasses import replace

from gateway.model import Gap


def continues(gap: Gap, more: Gap) -> bool:
    """Whether one record can tell both and still be exact."""
    if "first_seq" not in more.fields:
        return "first_seq" not in gap.fields
    return bool(gap.fields.get("last_seq") == more.fields["first_seq"] - 1)


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
