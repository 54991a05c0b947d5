"""Units on a serial line: a pseudo-terminal of our own, or a port that is given."""

import asyncio
import contextlib
import os
import secrets
import tempfile
import time
import tty
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from serial import Serial, SerialException

from simulators.modbus_endpoint import Endpoint
from simulators.modbus_framing import RTU, FramingError
from simulators.modbus_pdu import Request
from simulators.modbus_units import Unit

SILENCE_CHARACTERS = 3.5
_LEAST_SILENCE_S = 0.00175  # above 19,200 baud the silence is fixed (Serial Line V1.02, section 2.5.1.1)
_FORGET_S = 0.1  # far more than a silence: a busy machine may hand a request over in parts
_PIECE_S = 0.002


class ModbusRtuSimulator(Endpoint):
    """Serves units on a serial line: `async with ModbusRtuSimulator([PressUnit()]) as simulator: simulator.port`.

    Without `port` it makes a pseudo-terminal, at a path that stays the same over `stop` and `start`, as
    /dev/serial/by-id does for an adapter that is unplugged and plugged in again; pseudo-terminals know no parity, so
    that it is N there, and otherwise Modbus' own E. With `paced`, requests and answers
    take the time that their characters take at `baudrate`, and 3.5 characters of silence precede each answer;
    without, answers come at once. `crowded` counts the requests that began less than 3.5 characters after the last
    answer's end: on a real line they would be part of it.
    """

    framing = RTU

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        port: str | None = None,
        baudrate: int = 19200,
        parity: Literal["E", "O", "N"] | None = None,
        stopbits: Literal[1, 2] = 1,
        paced: bool = False,
    ) -> None:
        super().__init__(units)
        self.baudrate, self.stopbits, self.paced = baudrate, stopbits, paced
        self.parity = parity or ("E" if port else "N")
        self.crowded = 0
        self._own = port is None
        self.port = port or str(Path(tempfile.gettempdir(), f"simulated-serial-{secrets.token_hex(6)}"))
        self._line: _Line | None = None

    @property
    def where(self) -> dict[str, Any]:
        """Port and settings."""
        return {"port": self.port, "baudrate": self.baudrate, "parity": self.parity, "stopbits": self.stopbits}

    @property
    def character_s(self) -> float:
        """Seconds that a character takes: start bit, eight data bits, parity and stop bits."""
        return (9 + (self.parity != "N") + self.stopbits) / self.baudrate

    @property
    def silence_s(self) -> float:
        """Seconds of silence that end a frame."""
        return max(SILENCE_CHARACTERS * self.character_s, _LEAST_SILENCE_S)

    def report(self) -> dict[str, Any]:
        """The account, and how many requests came without silence before them."""
        return {**super().report(), "crowded": self.crowded}

    def take(self, request: Request, peer: Any) -> None:
        """Answer a request; on a paced line after it has come in, character by character."""
        on_the_way_s = len(request.wire) * self.character_s + self.silence_s if self.paced else 0.0
        self._after(on_the_way_s, super().take, request, peer)

    async def _open(self) -> None:
        fd, close = self._pseudo_terminal() if self._own else self._given()
        self.connections += 1
        self._line = _Line(self, fd, close)

    async def _close(self) -> None:
        line, self._line = self._line, None
        if line is not None:
            line.close_port()
        if self._own:
            self._remove()

    def _remove(self) -> None:
        Path(self.port).unlink(missing_ok=True)

    def _pseudo_terminal(self) -> tuple[int, Callable[[], None]]:
        ours, theirs = os.openpty()
        tty.setraw(theirs)
        os.set_blocking(ours, False)
        self._remove()
        Path(self.port).symlink_to(os.ttyname(theirs))

        def close() -> None:
            os.close(ours)
            os.close(theirs)  # kept open until now: else the line would end whenever a client closes it

        return ours, close

    def _given(self) -> tuple[int, Callable[[], None]]:
        try:
            port = Serial(self.port, self.baudrate, parity=self.parity, stopbits=self.stopbits, timeout=0)
        except SerialException as error:
            raise OSError(f"{self.port} cannot be opened: {error}") from error
        fd: int = port.fileno()
        os.set_blocking(fd, False)
        return fd, port.close


class _Line:
    """The open port."""

    def __init__(self, simulator: ModbusRtuSimulator, fd: int, close: Callable[[], None]) -> None:
        self.due = 0
        self.is_gone = False
        self._simulator = simulator
        self._fd = fd
        self._close = close
        self._received = bytearray()
        self._forgetting: asyncio.TimerHandle | None = None
        self._free_at = 0.0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(fd, self._receive)

    def send(self, octets: bytes) -> None:
        """Send at once, or at the line's pace."""
        if not self._simulator.paced:
            self._write(octets)
            return
        character_s = self._simulator.character_s
        size = max(int(_PIECE_S / character_s), 1)
        for begin in range(0, len(octets), size):
            piece = octets[begin : begin + size]
            self._loop.call_later((begin + len(piece)) * character_s, self._write, piece)

    def close(self) -> None:
        """There is no connection."""

    def close_port(self) -> None:
        """Pull the plug."""
        self.is_gone = True
        self._loop.remove_reader(self._fd)
        self._forget()
        self._close()

    def _write(self, octets: bytes) -> None:
        if not self.is_gone:
            with contextlib.suppress(BlockingIOError):  # nobody reads the line, and its buffer is full: it is lost
                os.write(self._fd, octets)
            self._free_at = time.monotonic() + self._simulator.silence_s

    def _receive(self) -> None:
        try:
            octets = os.read(self._fd, 4096)
        except OSError:  # the other end of the line is gone
            self._loop.remove_reader(self._fd)
            return
        if not self._received and time.monotonic() < self._free_at:
            self._simulator.crowded += 1
        self._received += octets
        try:
            while (request := self._simulator.framing.take(self._received)) is not None:
                self._simulator.take(request, self)
        except FramingError:
            self._forget()
        if self._forgetting is not None:
            self._forgetting.cancel()
        self._forgetting = self._loop.call_later(_FORGET_S, self._forget) if self._received else None

    def _forget(self) -> None:
        """Begin anew: what came is no request, or its rest never came."""
        self._received.clear()
        if self._forgetting is not None:
            self._forgetting.cancel()
            self._forgetting = None
