"""Which of a device's addresses is tried next, and when again after a failure: one connection at a time."""

import asyncio
import random
from collections.abc import Sequence
from typing import Final

from gateway.drivers.modbus.connection import Connection
from gateway.drivers.modbus.transports import Way
from gateway.errors import DeviceError
from gateway.model import DeviceState

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 5.0


class Dial:
    """Opens connections over one of several ways, in order of preference.

    After a failure the next attempts fail at once for a while: many units may wait for one endpoint that is dead. The
    pause doubles with each failure in a row, and half of it is random. An endpoint that lets us connect but never
    answers has failed, too; the next attempt begins with the one after it.
    """

    def __init__(self, ways: Sequence[Way]) -> None:
        self._ways = ways
        self._first = 0
        self._used = 0
        self._failures = 0
        self._error: DeviceError | None = None
        self._until = 0.0

    def check(self) -> None:
        """Raise the DeviceError of the last attempt while it is too early for another."""
        if self._error is not None and asyncio.get_running_loop().time() < self._until:
            error = self._error
            raise DeviceError(str(error), reason=error.reason, state=error.state, do=error.do)

    async def open(self, timeout: float, patience: float) -> Connection:
        """Connect; each way may take `timeout` seconds. Raises DeviceError if none leads anywhere."""
        self.check()
        errors = []
        for offset in range(len(self._ways)):
            position = (self._first + offset) % len(self._ways)
            try:
                connection = await self._ways[position].open(timeout, patience)
            except DeviceError as error:
                errors.append(error)
            else:
                self._used = position
                return connection
        failure = errors[0] if len(errors) == 1 else _all_of(errors)
        self._failed(failure, pause_after=1)
        raise failure

    def answered(self) -> None:
        """Note that a connection is of use: what failed before is forgotten."""
        self._failures, self._error, self._first = 0, None, 0

    def ended(self, connection: Connection) -> None:
        """Note how a connection ended that is not used any more; by itself, or by us for what it did not answer."""
        if connection.has_answered:
            return
        self._first = (self._used + 1) % len(self._ways)
        error = connection.ended
        if error is not None:
            # The first time may be chance; a certificate does not become better by trying again.
            self._failed(error, pause_after=1 if error.state is DeviceState.CERTIFICATE_ERROR else 2)

    def _failed(self, error: DeviceError, *, pause_after: int) -> None:
        self._failures += 1
        self._error = error
        doublings = self._failures - pause_after
        if doublings >= 0:
            pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(doublings, 30))
            pause *= random.uniform(0.5, 1.0)  # noqa: S311 -- not a secret
            self._until = asyncio.get_running_loop().time() + pause


def _all_of(errors: Sequence[DeviceError]) -> DeviceError:
    first = errors[0]
    return DeviceError("; ".join(map(str, errors)), reason=first.reason, state=first.state, do=first.do)
