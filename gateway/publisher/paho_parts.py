"""Pieces around paho's client: its errors caught from its log, and the properties of packets."""

import logging

from paho.mqtt.properties import Properties

from gateway.publisher.payload.coding import content_type


class LastError(logging.Handler):
    """Keeps the socket error that paho writes to its log, and nowhere else."""

    def __init__(self) -> None:
        super().__init__()
        self.error: OSError | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if isinstance(record.args, tuple) and record.args and isinstance(record.args[0], OSError):
            self.error = record.args[0]


def quiet(handler: logging.Handler) -> logging.Logger:
    """Make a logger whose errors go to the handler, and nowhere else."""
    logger = logging.Logger("paho", logging.ERROR)  # noqa: LOG001 -- outside the tree: nothing reaches the log
    logger.addHandler(handler)
    return logger


def json_of(packet: int, coding: str = "none") -> Properties:
    """Say in the properties of a packet that its payload is JSON, and how it is compressed."""
    properties = Properties(packet)  # type: ignore[no-untyped-call]
    properties.ContentType = content_type(coding)
    return properties
