"""Compression of data payloads, and the content type that tells of it; pure."""

import gzip
from typing import Final

import zstandard

CONTENT_TYPE: Final = "application/json"
CODINGS: Final = ("none", "gzip", "zstd")
_GZIP_LEVEL: Final = 6
_ZSTD_LEVEL: Final = 3


def compress(payload: bytes, how: str) -> tuple[bytes, str]:
    """Compress by "gzip" or "zstd"; gives the payload, and how it is coded: "none" where that makes it no smaller."""
    if how == "gzip":
        smaller = gzip.compress(payload, _GZIP_LEVEL, mtime=0)
    elif how == "zstd":
        smaller = zstandard.compress(payload, _ZSTD_LEVEL)
    else:
        return payload, "none"
    return (smaller, how) if len(smaller) < len(payload) else (payload, "none")


def content_type(coding: str) -> str:
    """Give the content type of a payload (MQTT 5.0 section 3.3.2.3.9)."""
    return CONTENT_TYPE if coding == "none" else f"{CONTENT_TYPE}+{coding}"
