"""The store-and-forward file: append, take, acknowledge, drop with a gap record."""

from gateway.buffer.buffer import Buffer
from gateway.buffer.folder import read_machine_id
from gateway.buffer.lifetime import open_buffer
from gateway.buffer.status import BufferStatus
from gateway.buffer.stored import Stored
from gateway.buffer.tables import Limits

__all__ = ["Buffer", "BufferStatus", "Limits", "Stored", "open_buffer", "read_machine_id"]
