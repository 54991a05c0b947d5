"""Meta messages: the document that explains a device's samples, cut into parts where it is too large; pure."""

from typing import Any

import orjson


def parts(document: bytes, *, max_bytes: int, superseded: bool = False) -> list[bytes]:
    """Give the payloads of a meta message, in the order of their topics `meta`, `meta/2`, `meta/3`, ...

    A document over `max_bytes` is cut between tags; each part repeats the rest and says `part` and `parts`.
    `superseded` marks a meta that is sent only to explain older samples. A single tag is never cut.
    """
    if len(document) <= max_bytes and not superseded:
        return [document]
    meta: dict[str, Any] = orjson.loads(document)
    if superseded:
        meta["superseded"] = True
    whole = orjson.dumps(meta)
    if len(whole) <= max_bytes:
        return [whole]
    tags = meta.pop("tags")
    shares = _shares(tags, max_bytes - len(orjson.dumps({**meta, "part": 1_000_000, "parts": 1_000_000, "tags": {}})))
    return [
        orjson.dumps({**meta, "part": number, "parts": len(shares), "tags": share})
        for number, share in enumerate(shares, start=1)
    ]


def topic(base: str, part: int) -> str:
    """Give the topic of a part, from 1."""
    return f"{base}/meta" if part == 1 else f"{base}/meta/{part}"


def _shares(tags: dict[str, Any], room: int) -> list[dict[str, Any]]:
    shares: list[dict[str, Any]] = [{}]
    left = room
    for name, tag in tags.items():
        cost = len(orjson.dumps({name: tag}))
        if cost > left and shares[-1]:
            shares.append({})
            left = room
        shares[-1][name] = tag
        left -= cost
    return shares
