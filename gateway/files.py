"""Names of files and folders in a config: a relative name starts at the config file's own folder."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import AfterValidator, ValidationInfo, WithJsonSchema

FOLDER: Final = "folder"
"""The key of pydantic's validation context under which the loader says where the config file is."""


ELSEWHERE: Final = "elsewhere"
"""The key under which the loader says that another process runs the config: its files may be out of our reach."""


@dataclass(frozen=True, slots=True)
class CertificateFile:
    """A file with a certificate, or a folder of such, that somebody has to renew, and how to."""

    path: Path
    do: str = "Replace it."


def is_elsewhere(info: ValidationInfo) -> bool:
    """Whether the config is read for its settings only, not to be run here."""
    return isinstance(info.context, Mapping) and bool(info.context.get(ELSEWHERE))


def resolve(path: Path, info: ValidationInfo) -> Path:
    """Give the path as the program will use it."""
    context = info.context if isinstance(info.context, Mapping) else {}
    if "\0" in str(path):
        raise ValueError("a file's name cannot hold a NUL character")
    if str(path) == ".":
        raise ValueError("write the name of a file")
    folder: Any = context.get(FOLDER)
    return folder / path if isinstance(folder, Path) else path


def readable(path: Path, info: ValidationInfo) -> Path:
    """Give the path of a file that can be read now. Raises ValueError with a sentence for the integrator."""
    resolved = resolve(path, info)
    if is_elsewhere(info):
        return resolved
    try:
        with resolved.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ValueError(f"cannot read {resolved}: {reason(error)}") from error
    return resolved


def exposed(path: Path) -> str | None:
    """A sentence if others on this machine can read a secret file; None too where it cannot be looked at."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return None
    if mode & 0o077:
        return f"{path} can be read by other users (mode {mode & 0o777:o}); chmod 600 {path}"
    return None


def reason(error: OSError) -> str:
    """Say in words why a file cannot be read."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "this user may not read it"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return (error.strerror or type(error).__name__).lower()


_AS_TEXT: Final = WithJsonSchema({"type": "string", "minLength": 1})

ConfigPath = Annotated[Path, AfterValidator(resolve), _AS_TEXT]
"""A file or folder that need not exist yet."""
ReadablePath = Annotated[Path, AfterValidator(readable), _AS_TEXT]
"""A file that must be readable when the config is loaded."""
