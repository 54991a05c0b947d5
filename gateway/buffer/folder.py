"""The buffer's folder: the lock, the files that belong together, and the marker that tells of a file that was lost."""

import contextlib
import fcntl
import glob
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from gateway.errors import StorageError

_JOURNALS: Final = ("-wal", "-shm", "-journal")


def lock(path: Path) -> int:
    """Take the buffer for this process alone, for as long as the returned descriptor is open.

    Raises StorageError if another gateway holds it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"{path}: the buffer's folder cannot be written: {error.strerror}",
            do="Check buffer.path and the rights of its folder.",
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StorageError(
            f"{path}: another edge-gateway is using this buffer",
            do="Stop the other one, or give each its own buffer.path.",
        ) from error
    return descriptor


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold the lock. Raises StorageError."""
    descriptor = lock(path)
    try:
        yield
    finally:
        os.close(descriptor)


def has_wal(path: Path) -> bool:
    """Whether a write-ahead log with something in it lies beside the file."""
    wal = path.with_name(path.name + "-wal")
    return wal.exists() and wal.stat().st_size > 0


def clear_away(path: Path) -> None:
    """Remove a file that nothing was ever stored in, since its making was cut short, and its journals."""
    for suffix in (*_JOURNALS, ""):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


def name_aside(path: Path) -> Path:
    """Give a name under which the file can be set aside."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    return path.with_name(f"{path.name}.aside-{stamp}-{secrets.token_hex(2)}")


def set_aside(path: Path, target: Path | None = None) -> Path:
    """Rename the file and its journals so that a new one can take their place; nothing is deleted.

    Where this failed half-way (OSError) it can be done again with the same `target`: what was renamed stays so.
    """
    target = target or name_aside(path)
    for suffix in ("", *_JOURNALS):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + suffix).rename(target.with_name(target.name + suffix))
    sync_folder(path.parent)
    return target


def set_asides(path: Path) -> list[Path]:
    """Give the files that were set aside from this place, the first one first."""
    found = path.parent.glob(f"{glob.escape(path.name)}.aside-*")
    return sorted(file for file in found if not file.name.endswith(_JOURNALS))


def read_marker(path: Path) -> str | None:
    """Give the epoch that the folder last held, from the marker beside the file; "" if it held one of unknown name.

    None if it never held any.
    """
    try:
        epoch = orjson.loads(_marker(path).read_bytes())["epoch"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        return ""
    return str(epoch)


def write_marker(path: Path, epoch: str) -> None:
    """Note the epoch beside the file, so that a file that was lost or replaced is noticed at the next start."""
    draft = _marker(path).with_suffix(".new")
    with draft.open("wb") as file:
        file.write(orjson.dumps({"epoch": epoch}))
        file.flush()
        os.fsync(file.fileno())
    draft.rename(_marker(path))
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make renames in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _marker(path: Path) -> Path:
    return path.with_name(path.name + ".epoch")


def read_machine_id(root: Path = Path("/")) -> str | None:
    """Give this machine's id (machine-id(5)), or None where there is none."""
    try:
        return (root / "etc/machine-id").read_text().strip() or None
    except OSError:
        return None
