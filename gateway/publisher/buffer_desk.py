"""What the buffer's commands are told: counts, checks, data messages as they would be published, and resends."""

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from gateway.buffer.inspection import Inspection
from gateway.buffer.kept import Resent
from gateway.config.mqtt import MqttSection
from gateway.publisher.payload.json import messages

STEP_READINGS: Final = 5000
CHECK_S: Final = 5.0
"""How long SQLite may check its file while the daemon's commits wait."""


class Question(Protocol):
    """What is asked: info, check, books, export or resend."""

    @property
    def ask(self) -> str:
        """One of those."""

    @property
    def after(self) -> int:
        """After which row to go on."""

    @property
    def device(self) -> str:
        """Of which device to send again."""

    @property
    def from_ms(self) -> int:
        """From when on."""

    @property
    def to_ms(self) -> int:
        """Until when."""


class Asked(Protocol):
    """What is asked of an open buffer."""

    async def inspect(self, work: Callable[[Inspection], Any]) -> Any:
        """Look into the file."""

    async def resend(self, device: str, from_ms: int, to_ms: int) -> Resent:
        """Send again what is kept."""


class BufferDesk:
    """Answers of one buffer. `boundary` gives the last row that a present session sends as history."""

    def __init__(
        self, buffer: Asked, section: MqttSection, gateway: str, *,
        boundary: Callable[[], int | None] = lambda: None, check_s: float | None = CHECK_S,
    ) -> None:  # fmt: skip
        self._buffer = buffer
        self._section = section
        self._gateway = gateway
        self._boundary = boundary
        self._check_s = check_s

    async def answer(self, question: Question) -> Mapping[str, Any]:
        """Answer one question, in a step that is short. Raises StorageError."""
        match question.ask:
            case "info":
                boundary = self._boundary()
                return {"info": await self._buffer.inspect(lambda look: look.info(boundary))}
            case "check":
                return {"check": await self._buffer.inspect(lambda look: look.check(question.after))}
            case "books":
                return {"books": await self._buffer.inspect(lambda look: look.books(self._check_s))}
            case "export":
                return await self._export(question.after)
            case _:
                done = await self._buffer.resend(question.device, question.from_ms, question.to_ms)
                return {"samples": done.samples, "readings": done.readings}

    async def _export(self, after: int) -> Mapping[str, Any]:
        """Give the messages that the next session would begin with, of some rows; `next` is None at the end."""
        rows = await self._buffer.inspect(lambda look: look.rows(after, STEP_READINGS))
        packed = messages(rows, gateway=self._gateway, historical=True, max_bytes=self._section.max_message_bytes)
        lines = [message.payload.decode() for message in packed]
        return {"messages": lines, "next": rows[-1].id if rows else None}
