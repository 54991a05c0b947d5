"""Secrets: a config says where one is kept, never what it is."""

import os
from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, model_validator

from gateway.errors import GatewayError
from gateway.files import exposed, is_elsewhere, readable, reason

FORMS: Final = "{file: /path/to/secret}, {env: NAME} or {credential: NAME}"
"""How a config writes where a secret is."""
_CREDENTIALS: Final = "CREDENTIALS_DIRECTORY"
_LARGEST_SECRET: Final = 65536

_Environment = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
_Credential = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


def _set(name: str, info: ValidationInfo) -> str:
    if name not in os.environ and not is_elsewhere(info):
        raise ValueError(f"the environment variable {name} is not set")
    return name


def _loaded(name: str, info: ValidationInfo) -> str:
    folder = os.environ.get(_CREDENTIALS)
    if is_elsewhere(info):
        return name
    if folder is None:
        raise ValueError(
            f"there are no credentials: ${_CREDENTIALS} is not set; systemd sets it for a service with "
            f"LoadCredential={name}:/path/to/secret"
        )
    readable(Path(folder) / name, info)
    return name


class Secret(BaseModel):
    """Where a secret is kept: in a file, in an environment variable, or in a credential that systemd loads.

    The secret itself is read at each use, so one that was rotated counts from the next connection on; it is in no
    attribute, no repr and no error.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        json_schema_extra={"minProperties": 1, "maxProperties": 1},
    )

    file: Annotated[Path, AfterValidator(readable)] | None = Field(
        default=None, description="a file that holds the secret and nothing else"
    )
    env: Annotated[_Environment, AfterValidator(_set)] | None = Field(
        default=None, description="the name of an environment variable"
    )
    credential: Annotated[_Credential, AfterValidator(_loaded)] | None = Field(
        default=None, description="the name of a systemd credential (LoadCredential=)"
    )

    @model_validator(mode="before")
    @classmethod
    def _never_in_clear(cls, given: object) -> object:
        if not isinstance(given, dict | Secret):
            raise ValueError(f"a secret is not written in clear; write {FORMS}")  # noqa: TRY004 -- pydantic's rule
        return given

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(place is not None for place in (self.file, self.env, self.credential)) != 1:
            raise ValueError(f"write exactly one of {FORMS}")
        return self

    @property
    def place(self) -> str:
        """Where the secret is kept, for messages."""
        if self.file is not None:
            return str(self.file)
        return f"environment variable {self.env}" if self.env is not None else f"credential {self.credential}"

    @property
    def warning(self) -> str | None:
        """A sentence if others on this machine can read the secret's file, else None."""
        return None if self.file is None else exposed(self.file)

    def reveal(self) -> str:
        """Read the secret now; one trailing newline is not part of it.

        Raises GatewayError with a sentence that never holds the secret if it cannot be read any more.
        """
        if self.env is not None:
            if self.env not in os.environ:
                raise GatewayError(f"the environment variable {self.env} is not set", do="Set it and start again.")
            return os.environ[self.env]
        path = self.file or Path(os.environ.get(_CREDENTIALS, "")) / (self.credential or "")
        try:
            with path.open("rb") as file:
                text = file.read(_LARGEST_SECRET).decode("utf-8")
        except OSError as error:
            raise GatewayError(f"cannot read the secret {path}: {reason(error)}", do="Make it readable.") from error
        except UnicodeDecodeError:
            raise GatewayError(f"the secret {path} is not UTF-8 text", do="Write it anew.") from None
        return text.removesuffix("\n").removesuffix("\r")
