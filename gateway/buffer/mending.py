"""A new first page for a file that lost its own: it says where the tables are, and they are at the same place in all.

That they are holds because `schema.create` makes the same tables in the same order in every file, before anything else.
"""

import sqlite3
from pathlib import Path
from typing import Final

from gateway.buffer import folder, schema

_WAL: Final = b"\2\2"


def mend_first_page(path: Path) -> None:
    """Put the first page of a new buffer in the place of one that cannot be read.

    Raises ForeignFileError, and leaves the file as it was, if that does not make a buffer of it; OSError.
    """
    pages = path.stat().st_size // schema.PAGE_BYTES
    new = _new_first_page(path.with_name(path.name + ".new"))
    with path.open("r+b") as file:
        old = file.read(schema.PAGE_BYTES)
        file.seek(0)
        file.write(_fit(new, pages))
    if not _is_buffer(path):
        with path.open("r+b") as file:
            file.write(old)
        raise schema.ForeignFileError("it is not a database, or its first pages are lost")


def _new_first_page(draft: Path) -> bytes:
    folder.clear_away(draft)
    connection = schema.connect(draft)
    try:
        schema.create(connection, schema.Identity("", None))
    finally:
        connection.close()
    page = draft.read_bytes()[: schema.PAGE_BYTES]
    folder.clear_away(draft)
    return page


def _fit(page: bytes, pages: int) -> bytes:
    """Let a first page say how large this file is, that it has no free pages, and that it uses a WAL.

    SQLite file format section 1.3: bytes 18 and 19, 28 to 39; 24 and 92 must be equal for the size to count.
    """
    fitted = bytearray(page)
    fitted[18:20] = _WAL
    fitted[28:40] = pages.to_bytes(4, "big") + bytes(8)
    fitted[92:96] = fitted[24:28]
    return bytes(fitted)


def _is_buffer(path: Path) -> bool:
    connection = schema.connect(path)
    try:
        (epoch,) = connection.execute("SELECT epoch FROM identity").fetchone() or ("",)
        return isinstance(epoch, str) and len(epoch) == len(schema.new_epoch())
    except sqlite3.DatabaseError:
        return False
    finally:
        connection.close()
