"""Tells in the log that a certificate is about to end: once each at 30, 7 and 1 days before, and when it has."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final, NoReturn

from gateway.errors import told
from gateway.health.parts import Certificate
from gateway.health.reasons import DAY_MS, spell_expiry
from gateway.supervisor import now_ms

log = logging.getLogger(__name__)

_DAYS: Final = (0, 1, 7, 30)
_LOOK_S: Final = 3600.0


class ExpiryLog:
    """Remembers what it has told, until the gateway ends; a renewed certificate begins anew."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, int], int] = {}

    def tell(self, certificates: Sequence[Certificate], at_ms: int) -> None:
        """Write a line for each certificate that has come nearer to its end than what was told of it."""
        for certificate in certificates:
            left_ms = certificate.not_after_ms - at_ms
            nearest = next((days for days in _DAYS if left_ms <= days * DAY_MS), None)
            key = (certificate.name, certificate.not_after_ms)
            if nearest is not None and nearest < self._told.get(key, _DAYS[-1] + 1):
                self._told[key] = nearest
                level = logging.WARNING if nearest > 1 else logging.ERROR
                log.log(level, "%s", told(spell_expiry(certificate, at_ms), certificate.do))


async def tell_of_expiry(certificates: Callable[[], Sequence[Certificate]]) -> NoReturn:
    """Look at the files each hour, for ever."""
    expiry = ExpiryLog()
    while True:
        expiry.tell(certificates(), now_ms())
        await asyncio.sleep(_LOOK_S)
