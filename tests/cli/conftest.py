"""What the tests of the commands share: running one as its user would."""

import asyncio
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

WITHIN_S = 60.0


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str


class Shell:
    """Runs commands in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def __call__(self, *arguments: str, said: bytes = b"") -> Outcome:
        """Run `edge-gateway` with arguments to its end, and something on its stdin; nothing it does is a traceback."""
        root = str(Path(__file__).parents[2])
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", *arguments,
            cwd=self.folder, env={**os.environ, "PYTHONPATH": root, "COLUMNS": "120"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(process.communicate(said), WITHIN_S)
        assert process.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return Outcome(process.returncode, out.decode(), err.decode())


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """A shell in an empty folder."""
    return Shell(tmp_path)
