"""The version, in one place: pyproject.toml, `edge-gateway version`, health and status messages read it here."""

from typing import Final

VERSION: Final = "0.1.0"
