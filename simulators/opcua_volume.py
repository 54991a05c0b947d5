"""As many plain variables as one likes, for clients that subscribe to thousands."""

from datetime import datetime
from typing import Any, Final

import asyncua

ua: Any = asyncua.ua


_A_FOLDER: Final = 100
"""asyncua looks at all siblings of a node that it adds."""


def volume_path(number: int) -> str:
    """The path, and identifier, of a variable; the first is number 1."""
    return f"Volume.V{number:05d}"


class Volume:
    """UInt32 variables under `Volume`, a hundred in a folder.

    Each `write` gives all of them the next number: `value` counts the writes.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.value = 0
        self._nodes: list[Any] = []

    async def build(self, server: Any, index: int) -> None:
        """Make the variables."""
        self._nodes = []
        if not self.count:
            return
        whole = await _folder(server.nodes.objects, "Volume", index)
        for number in range(1, self.count + 1):
            if number % _A_FOLDER == 1:
                folder = await _folder(whole, f"Volume.F{number // _A_FOLDER:03d}", index)
            path = volume_path(number)
            initial = ua.Variant(self.value, ua.VariantType.UInt32)
            name = ua.QualifiedName(path.rpartition(".")[2], index)
            node = await folder.add_variable(ua.NodeId(path, index), name, initial)
            self._nodes.append(node.nodeid)

    async def write(self, server: Any, source: datetime, now: datetime) -> None:
        """Move all of them on by one."""
        self.value += 1
        value = ua.Variant(self.value, ua.VariantType.UInt32)
        for nodeid in self._nodes:
            shown = ua.DataValue(Value=value, SourceTimestamp=source, ServerTimestamp=now)
            await server.write_attribute_value(nodeid, shown)


async def _folder(parent: Any, path: str, index: int) -> Any:
    return await parent.add_folder(ua.NodeId(path, index), ua.QualifiedName(path.rpartition(".")[2], index))
