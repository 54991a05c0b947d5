"""Names of data types in vendors' lists, and what they are called here."""

import re
from typing import Final

_NAMES: Final = {
    "bool": "bool", "boolean": "bool", "bit": "bool", "binary": "bool", "digital": "bool", "coil": "bool",
    "sint": "int8", "char": "int8", "usint": "uint8", "byte": "uint8",
    "int": "int16", "integer": "int16", "short": "int16", "signed": "int16", "int16": "int16",
    "uint": "uint16", "word": "uint16", "ushort": "uint16", "unsigned": "uint16", "enum": "uint16",
    "bitmap": "uint16", "bitfield": "uint16",
    "dint": "int32", "long": "int32", "longint": "int32", "udint": "uint32", "dword": "uint32", "ulong": "uint32",
    "lint": "int64", "llong": "int64", "longlong": "int64",
    "ulint": "uint64", "qword": "uint64", "lword": "uint64", "ulonglong": "uint64",
    "float": "float32", "real": "float32", "single": "float32", "fp": "float32", "ieee": "float32",
    "ieee754": "float32", "floatingpoint": "float32",
    "double": "float64", "lreal": "float64", "half": "float16",
    "string": "string", "str": "string", "ascii": "string", "text": "string", "utf8": "string", "char[]": "string",
    "bcd": "bcd16", "lbcd": "bcd32",
}  # fmt: skip
_SIZED: Final = re.compile(
    r"(?P<kind>[a-z]+?)(?P<bits>8|16|32|64)(?:bits?|be)?|(?P<bits2>8|16|32|64)bit(?P<kind2>[a-z]+)"
)
_LENGTH: Final = re.compile(r"(?P<name>[a-z ]+?)\s*[\[(]?\s*(?P<length>[0-9]{1,3})\s*[\])]?")
_FAMILIES: Final = {
    "i": "int", "s": "int", "int": "int", "sint": "int", "integer": "int", "signed": "int", "signedint": "int",
    "signedinteger": "int", "ints": "int",
    "u": "uint", "uint": "uint", "unsigned": "uint", "unsignedint": "uint", "unsignedinteger": "uint", "word": "uint",
    "intu": "uint",
    "f": "float", "float": "float", "real": "float", "ieee": "float", "fp": "float", "floatingpoint": "float",
    "bcd": "bcd",
}  # fmt: skip
_REGISTERS: Final = {"int16": 1, "uint16": 1, "int32": 2, "uint32": 2, "int64": 4, "uint64": 4, "float32": 2}
_WITHOUT_SIZE: Final = frozenset({"int", "integer", "signed", "uint", "unsigned", "float", "real", "ieee", "ieee754"})
"""Names that leave open how large the value is: the list's count of registers says it, where it has one."""


def type_of(written: str, registers: int | None) -> tuple[str, int | None] | None:
    """Give the type, and of a string the length in bytes where the name tells it; None for a name nobody knows.

    `registers` is how many the list says that the value takes, or None. Raises ValueError where the two contradict.
    """
    match = _LENGTH.fullmatch(written.casefold().strip())
    if match and _NAMES.get(_bare(match["name"])) == "string":
        return "string", int(match["length"])
    kind = type_name(written)
    if kind is None:
        return None
    bare = _bare(written)
    if bare in _WITHOUT_SIZE and registers in {1, 2, 4}:
        kind = _resized(kind, registers)
    if registers is not None and _REGISTERS.get(kind, registers) != registers:
        raise ValueError(f"{written} takes {_REGISTERS[kind]} registers, the list says {registers}")
    return kind, None


def type_name(written: str) -> str | None:
    """Give the type that a name means by itself; None for a name nobody knows."""
    bare = _bare(written)
    return _NAMES.get(bare) or _sized(bare)


def _bare(written: str) -> str:
    return re.sub(r"[\s_\-]+", "", written.casefold())


def _resized(kind: str, registers: int) -> str:
    family = kind.rstrip("0123456789")
    return kind if family == "float" and registers == 1 else f"{family}{16 * registers}"


def _sized(bare: str) -> str | None:
    match = _SIZED.fullmatch(bare)
    if match is None:
        return None
    family = _FAMILIES.get(match["kind"] or match["kind2"])
    bits = match["bits"] or match["bits2"]
    if family is None or (family == "float" and bits == "8") or (family == "bcd" and bits not in {"16", "32"}):
        return None
    return f"{family}{bits}"
