"""The list of protocols: a new southbound protocol is one folder here and one name in `Device`."""

from typing import Annotated, Final

from pydantic import Field

from gateway.drivers.modbus.section import ModbusTcpDevice
from gateway.drivers.opcua.section import OpcuaDevice

Device = Annotated[ModbusTcpDevice | OpcuaDevice, Field(discriminator="protocol")]
"""The section of a device of any protocol; its `protocol` says which."""

LATER_PROTOCOLS: Final = ("modbus-rtu", "modbus-rtu-over-tcp", "modbus-udp", "modbus-tls")
"""Protocols whose name is known and whose driver is not built yet."""

__all__ = ["LATER_PROTOCOLS", "Device", "ModbusTcpDevice", "OpcuaDevice"]
