"""What servers were found to take where they do not tell: kept over reconnects, and over restarts of the gateway.

A gateway that starts again must not run into the same refusals again. So what was found is a bookmark, in the buffer
file beside the samples. It holds for as long as the server runs: after its restart, or an update, another limit may
hold, and it is found anew. A server that does not say since when it runs is believed for the gateway's own life only.
"""

import json
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from gateway.model import Bookmark

_MEMORY: Final = "learned"
_BOOKMARK: Final = "learned:"


@dataclass(slots=True)
class Learned:
    """What one server was found to take, by the limits' names. `server` names it as it ran then."""

    server: str = ""
    found: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, memory: MutableMapping[str, Any], address: str) -> "Learned":
        """Give what a device's connections have learned of the server at `address`."""
        found: Learned = memory.setdefault(_MEMORY, {}).setdefault(address, cls())
        return found

    def meet(self, server: str, before: Mapping[str, int]) -> None:
        """Forget what was known `before` if the server is another by now."""
        if server != self.server:
            for name, most in before.items():
                if self.found.get(name) == most:
                    del self.found[name]
        self.server = server


def recall(memory: MutableMapping[str, Any], bookmarks: Mapping[str, Bookmark]) -> None:
    """Take over what an earlier run of the gateway stored; once in its life."""
    if _MEMORY in memory:
        return
    memory[_MEMORY] = {
        name.removeprefix(_BOOKMARK): Learned(**json.loads(str(text)))
        for name, text in bookmarks.items()
        if name.startswith(_BOOKMARK)
    }


def news(memory: Mapping[str, Any], bookmarks: Mapping[str, Bookmark]) -> dict[str, Bookmark | None]:
    """Give the bookmarks that are to be stored with the next samples: none while nothing new is known."""
    marks: dict[str, Bookmark | None] = {}
    for address, learned in memory.get(_MEMORY, {}).items():
        keeps = learned.found and learned.server
        text = json.dumps({"server": learned.server, "found": learned.found}, sort_keys=True) if keeps else None
        if bookmarks.get(_BOOKMARK + address) != text:
            marks[_BOOKMARK + address] = text
    return marks
