"""The program's exceptions, named by who has to act on them."""

from dataclasses import dataclass

from gateway.model import DeviceState, MqttState


def told(text: str, do: str = "") -> str:
    """Write what is wrong, and what to do about it, as sentences one after the other."""
    return f"{text.rstrip('.')}. {do}" if do else text


class GatewayError(Exception):
    """One sentence for a person (`str(error)`), and one that says what to do about it (`error.do`, may be empty)."""

    def __init__(self, text: str, *, do: str = "") -> None:
        super().__init__(text)
        self.do = do


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a config: where (file, line and column from 1) and what to write instead."""

    file: str
    line: int
    column: int
    path: str
    text: str

    def __str__(self) -> str:
        """Give `file:line:column: path: text`, the form that editors and log readers can follow to the place."""
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        return f"{place}: {self.path}: {self.text}" if self.path else f"{place}: {self.text}"


class ConfigError(GatewayError):
    """The integrator must act: the config is wrong. Carries every problem at once; the program exits with 2."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


class DeviceError(GatewayError):
    """Nobody must act yet: a device cannot be read as a whole. The supervisor tries again.

    `reason` is the quality that all its tags get ("timeout", "connection-lost", an OPC UA status code's name);
    `state` is what health shows of the device meanwhile. `retry_after_s` asks for a longer pause than usual before the
    next attempt: a device that locks out who tries too often, or that has no room now, is not to be hurried.
    """

    def __init__(
        self,
        text: str,
        *,
        reason: str,
        state: DeviceState = DeviceState.UNREACHABLE,
        do: str = "",
        retry_after_s: float = 0.0,
    ) -> None:
        super().__init__(text, do=do)
        self.reason = reason
        self.state = state
        self.retry_after_s = retry_after_s


class PublishError(GatewayError):
    """Nobody must act yet: the broker cannot be reached, or refuses the session. The supervisor tries again.

    `retry_after_s` asks for a longer pause than usual before that.
    """

    def __init__(
        self, text: str, *, state: MqttState = MqttState.UNREACHABLE, do: str = "", retry_after_s: float = 0.0
    ) -> None:
        super().__init__(text, do=do)
        self.state = state
        self.retry_after_s = retry_after_s


class StorageError(GatewayError):
    """The operator must act: the buffer's disk cannot be written or read. Health turns `failing`."""
