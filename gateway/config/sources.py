"""The text of the files that a config is written in."""

from pathlib import Path
from typing import Final

from gateway import files
from gateway.config.nodes import Complaint, Node, Place

LARGEST_FILE: Final = 8 << 20
"""Bytes that one file may have."""


class Unreadable(Exception):  # noqa: N818 -- a complaint on its way to the list; no error of the program's own family
    """A file that cannot be read at all, or is not text."""

    def __init__(self, place: Place, text: str) -> None:
        super().__init__(text)
        self.place = place


def text_of(path: Path) -> str:
    """Give a file's text. Raises Unreadable; its place has line 0 where no line of the file is to blame."""
    nowhere = Place(str(path), 0, 0)
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise Unreadable(nowhere, f"cannot be read: {files.reason(error)}") from error
    if len(content) > LARGEST_FILE:
        raise Unreadable(nowhere, f"is larger than {LARGEST_FILE >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8", "replace")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        place = Place(str(path), line, column)
    raise Unreadable(place, "is not UTF-8 from here on; save the file as UTF-8")


def text_named_at(node: Node, path: Path, at: str) -> tuple[str | None, list[Complaint]]:
    """Give the text of a file that a config names at `node`, whose path is `at`; None, and why, if it has none."""
    try:
        return text_of(path), []
    except Unreadable as unreadable:
        if unreadable.place.line:
            return None, [Complaint(unreadable.place, "", str(unreadable))]
        return None, [Complaint(node.place, at, f"{path} {unreadable}")]


def file_named(node: Node, folder: Path, at: str) -> tuple[Path | None, list[Complaint]]:
    """Give the path of the file that `node` names; a relative one starts at `folder`."""
    if not isinstance(node.value, str):
        wrong = [] if node.value is None else [Complaint(node.place, at, "must be the name of a file")]
        return None, wrong
    if "\0" in node.value:
        return None, [Complaint(node.place, at, "a file's name cannot hold a NUL character")]
    return folder / node.value, []
