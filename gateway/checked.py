"""How a section of the config refuses what the types of its fields allow: combinations, and keys of later versions."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self

from pydantic import AfterValidator, BaseModel, GetJsonSchemaHandler, ValidationInfo, model_validator
from pydantic_core import CoreSchema, PydanticCustomError, PydanticOmit

FAULTS: Final = "faults"
"""The type under which pydantic reports what `Checked.faults` found; the faults are in the error's `ctx`."""


class Fault(NamedTuple):
    """One thing wrong with a section as a whole: at which key below it, and a sentence saying what to write."""

    at: tuple[str | int, ...]
    text: str


class Checked(BaseModel):
    """A section that looks at itself once its fields are parsed. All its faults are reported at once."""

    def faults(self) -> Iterator[Fault]:
        """Give what is wrong with the section as a whole."""
        yield from ()

    @model_validator(mode="after")
    def _check(self) -> Self:
        found = tuple(self.faults())
        if found:
            text = "; ".join(f"{'.'.join(map(str, fault.at))}: {fault.text}" for fault in found)
            raise PydanticCustomError(FAULTS, "{text}", {"text": text, FAULTS: found})
        return self


@dataclass(frozen=True)
class Later(AfterValidator):
    """Marks a key that this version parses and refuses; the JSON Schema leaves it out, or allows what is `written`."""

    written: str | None = None

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Leave the key out, unless there is something that it may say."""
        if self.written is None:
            raise PydanticOmit
        return {"const": self.written}


@dataclass(frozen=True)
class LaterValues(AfterValidator):
    """Marks values that this version parses and refuses; the JSON Schema leaves them out."""

    values: tuple[str, ...] = ()

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Leave the values out."""
        shape = handler(schema)
        return {**shape, "enum": [choice for choice in shape["enum"] if choice not in self.values]}


def later(instead: str = "", allowed: object = None, written: str | None = None) -> Later:
    """Refuse a key that this version does not build yet, unless it is empty or says `allowed`.

    `instead` says what to write today, if there is something; `written` is how a config writes what is allowed.
    """

    def refuse(value: Any, info: ValidationInfo) -> Any:
        if value and value != allowed:
            raise ValueError(f"{info.field_name} is not available in this version{_hint(instead)}")
        return value

    return Later(refuse, written)


def later_values(*values: str, instead: str = "") -> LaterValues:
    """Refuse values of a key that this version does not build yet."""

    def refuse(value: Any) -> Any:
        if value in values:
            raise ValueError(f"{value} is not available in this version{_hint(instead)}")
        return value

    return LaterValues(refuse, values)


def _hint(instead: str) -> str:
    return f"; {instead}" if instead else ""
