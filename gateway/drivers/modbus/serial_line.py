"""A serial port as a way to Modbus devices: bytes in and out as the kernel has them, and no thread."""

import asyncio
import contextlib
import errno
import os
import termios
from pathlib import Path
from typing import Final

import serial
import serial.rs485

from gateway.drivers.modbus.connection import CONNECTION_LOST, Connection
from gateway.drivers.modbus.framing import Rtu
from gateway.drivers.modbus.section import Serial
from gateway.errors import DeviceError

_CHUNK: Final = 4096
_PSEUDO_TERMINALS: Final = "/dev/pts/"
_GONE: Final = frozenset({errno.EIO, errno.ENODEV, errno.ENXIO, errno.EBADF})
"""What the kernel says of a port whose adapter was unplugged."""


class SerialWay:
    """A serial port of this machine."""

    resyncs = True
    may_hang = False

    def __init__(self, section: Serial) -> None:
        self.address = section.port
        self._section = section

    async def open(self, timeout: float, patience: float) -> Connection:
        """Open the port for us alone. Raises DeviceError."""
        connection = Connection(self.address, Rtu(), self.explain)
        try:
            port = self._open_port()
        except (OSError, ValueError, termios.error) as error:
            raise self.explain(error) from error
        connection.opened(_Port(port, connection))
        return connection

    def explain(self, error: Exception | None) -> DeviceError:
        """Say why the port cannot be used, or not any more."""
        port = self.address
        text, do = f"the serial port {port} cannot be used", "Check the adapter and its wiring."
        number = _errno(error)
        if error is None:
            text, do = f"the serial port {port} was closed", ""
        elif number == errno.ENOENT:
            text = f"there is no serial port {port}"
            do = "Plug the adapter in, or write the name that `ls /dev/serial/by-id` shows."
        elif number in {errno.EACCES, errno.EPERM}:
            text = f"the gateway may not open the serial port {port}"
            do = "Add the user that runs it to the group dialout: usermod -aG dialout USER."
        elif number in {errno.EAGAIN, errno.EBUSY}:
            text, do = f"another program uses the serial port {port}", "Stop it; only one may speak on a line."
        elif number == errno.ENOTTY:
            text, do = f"{port} is no serial port", "Write the name that `ls /dev/serial/by-id` shows."
        elif number in _GONE:
            text = f"the serial port {port} is gone"
            do = "Plug the adapter in again; if its name has changed by that, write one of /dev/serial/by-id."
        elif isinstance(error, ValueError):
            text, do = f"the serial port {port} does not take these settings: {error}", "Check baudrate."
        elif number is not None:
            text += f": {os.strerror(number)}"
        return DeviceError(text, reason=CONNECTION_LOST, do=do)

    def _open_port(self) -> serial.Serial:
        section = self._section
        port = serial.Serial(
            baudrate=section.baudrate,
            # A pseudo-terminal has no parity, and its C library calls that an error from the second time on.
            parity="N" if str(Path(section.port).resolve()).startswith(_PSEUDO_TERMINALS) else section.parity,
            stopbits=section.stopbits,
            timeout=0,
            write_timeout=0,
            exclusive=True,
        )
        port.port = section.port
        port.open()
        if section.rs485:
            try:
                port.rs485_mode = serial.rs485.RS485Settings()
            except ValueError as error:
                port.close()
                raise self._no_rs485() from error
        return port

    def _no_rs485(self) -> DeviceError:
        text = f"the serial port {self.address} cannot switch an RS-485 line by itself"
        do = "Write rs485: false if the adapter does the switching, as most USB adapters do."
        return DeviceError(text, reason=CONNECTION_LOST, do=do)


def _errno(error: BaseException | None) -> int | None:
    """Give the system's number of an error, which pyserial may hide behind another."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    for each in (error, error.__context__ if error is not None else None):
        if isinstance(each, termios.error):
            number: int = each.args[0]
            return number
    return None


class _Port:
    """An open port: writes at once what the kernel takes, and hands what it brings to the connection."""

    def __init__(self, port: serial.Serial, connection: Connection) -> None:
        self._port = port
        self._connection = connection
        self._fd: int = port.fd
        self._unsent = b""
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._read)

    def write(self, data: bytes) -> None:
        """Send; what the kernel does not take at once follows when it can."""
        self._unsent += data
        self._write()

    def abort(self) -> None:
        """Close at once. What is not sent is dropped: a close would wait for it."""
        self._loop.remove_reader(self._fd)
        self._loop.remove_writer(self._fd)
        with contextlib.suppress(OSError, termios.error):
            termios.tcflush(self._fd, termios.TCIOFLUSH)
        with contextlib.suppress(OSError):
            self._port.close()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._connection.lost(error)
            return
        if data:
            self._connection.received(data)
        else:
            # Readable with nothing to read: the line was hung up.
            self._connection.lost(OSError(errno.EIO, os.strerror(errno.EIO)))

    def _write(self) -> None:
        try:
            sent = os.write(self._fd, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._connection.lost(error)
            return
        self._unsent = self._unsent[sent:]
        if self._unsent:
            self._loop.add_writer(self._fd, self._write)
        else:
            self._loop.remove_writer(self._fd)
