"""Whether the system's clock is synchronised, as far as a program without privileges can tell."""

from pathlib import Path
from typing import Final

_TIMESYNCD: Final = Path("run/systemd/timesync")


def synchronised(root: Path = Path("/")) -> bool | None:
    """Say whether a time server has set the clock since the boot; None where nobody tells.

    systemd-timesyncd makes the file `synchronized` with its first success (systemd-timesyncd.service(8)). chrony and
    ntpd leave no such mark, and the kernel's own (adjtimex(2)) is behind a system call that the service is denied:
    with them the answer is None, which is no fault.
    """
    folder = root / _TIMESYNCD
    try:
        if (folder / "synchronized").exists():
            return True
        return False if folder.is_dir() else None
    except OSError:
        return None
