"""A good number with both timestamps, read at one stroke: what nearly every notification of a PLC is.

The general way takes 1.2 to 2.1 us a value, this one 0.7 to 1.2 (CPython 3.11); it is most of what a subscription
costs.
"""

import struct
from typing import Final

from gateway.drivers.opcua.types.data_value import DataValue
from gateway.drivers.opcua.types.float32 import shortest

EPOCH_MS: Final = 11_644_473_600_000
"""Milliseconds from 1601-01-01, where OPC UA's DateTime begins, to 1970-01-01."""
LAST_TICK: Final = 2_650_467_743_990_000_000
"""9999-12-31T23:59:59 in 100 ns since 1601: that and everything later stand for "no end" (OPC 10000-6 5.2.2.5)."""
_VALUE_AND_STAMPS: Final = 0x0D
_FLOAT: Final = 10
_LAYOUTS: Final = {kind: struct.Struct(f"<{code}qq") for kind, code in enumerate("?bBhHiIqQfd", start=1)}


def plain(data: bytes, at: int) -> tuple[DataValue, int] | None:
    """Read such a DataValue (OPC 10000-6 section 5.2.2.17) that starts at `at`; None where it is another.

    Also gives where it ends. Raises struct.error or IndexError where the bytes end before it does.
    """
    layout = _LAYOUTS.get(data[at + 1]) if data[at] == _VALUE_AND_STAMPS else None
    if layout is None:
        return None
    value, source, server = layout.unpack_from(data, at + 2)
    if not (0 < source < LAST_TICK and 0 < server < LAST_TICK and value - value == 0):
        return None
    if data[at + 1] == _FLOAT:
        value = shortest(value)
    stamps = source // 10_000 - EPOCH_MS, server // 10_000 - EPOCH_MS
    return DataValue(value, 0, *stamps, source), at + 2 + layout.size
