"""The demo's broker: amqtt, on loopback, behind TLS and nothing else."""

import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.errors import GatewayError


@asynccontextmanager
async def run_broker(port: int, certificate: Path, key: Path) -> AsyncIterator[None]:
    """Run the broker while the context is open. Raises GatewayError if amqtt is not installed."""
    try:
        from amqtt.broker import Broker
        from amqtt.errors import BrokerError
    except ImportError as error:
        raise GatewayError(
            "the demo needs the package amqtt", do="Run `make demo` in the checkout, which installs it."
        ) from error
    logging.getLogger("amqtt").setLevel(logging.CRITICAL)
    logging.getLogger("transitions").setLevel(logging.CRITICAL)
    broker = Broker(
        {
            "listeners": {
                "default": {
                    "type": "tcp",
                    "bind": f"127.0.0.1:{port}",
                    "ssl": True,
                    "certfile": str(certificate),
                    "keyfile": str(key),
                    "max_connections": 10,
                }
            },
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    try:
        yield
    finally:
        with contextlib.suppress(BrokerError):
            await broker.shutdown()
