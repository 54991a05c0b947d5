"""The store-and-forward file: append, take, acknowledge, drop with a gap record."""

from gateway.buffer.stored import Stored
from gateway.buffer.tables import Limits
from gateway.buffer.writer import Buffer, BufferStatus, open_buffer, read_machine_id

__all__ = ["Buffer", "BufferStatus", "Limits", "Stored", "open_buffer", "read_machine_id"]
