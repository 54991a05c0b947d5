"""What an unquoted scalar stands for: the core schema of YAML 1.2.2 (section 10.3.2), and what it refuses to guess."""

import math
import re
import sys
from decimal import Decimal
from typing import Final

Plain = str | int | float | bool
"""What a scalar may be."""

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "false": False}
_INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_BASED: Final = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT: Final = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_LEADING_ZERO: Final = re.compile(r"([-+]?)0+([0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_NUMERIC: Final = frozenset("+-.0123456789")
_LONGEST_NUMBER: Final = 60


def resolve(text: str) -> Plain:
    """Give the value of an unquoted scalar; text where it is nothing else.

    Only `true` and `false` are booleans. A number with more digits than a float keeps stays text, so that no digit is
    lost. Raises ValueError with a sentence for what is empty, or what different tools read differently.
    """
    if text in _NULL:
        raise ValueError("is empty; write a value, or remove it")
    if text in _BOOL:
        return _BOOL[text]
    return _number(text) if text[0] in _NUMERIC else text


def _number(text: str) -> Plain:
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a finite number")
    if match := _LEADING_ZERO.fullmatch(text):
        raise ValueError(
            f'{text} begins with a zero, which some tools read as octal; write {match[1]}{match[2]}, or "{text}" in '
            "quotes if it is text"
        )
    if not (_INT.fullmatch(text) or _BASED.fullmatch(text) or _FLOAT.fullmatch(text)):
        return text
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"has more than {_LONGEST_NUMBER} characters for a number; put text in quotes")
    if _INT.fullmatch(text):
        return int(text)
    return int(text, 0) if _BASED.fullmatch(text) else _float(text)


def _float(text: str) -> float | str:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text} is too large a number")
    exact = len(text) < sys.float_info.dig or Decimal(text) == Decimal(repr(value))
    return value if exact else text
