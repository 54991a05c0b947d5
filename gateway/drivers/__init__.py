"""The list of protocols: a new southbound protocol is one folder here and one name in `Device`."""

from typing import Annotated

from pydantic import Field

from gateway.drivers.modbus.section import (
    ModbusRtuDevice,
    ModbusRtuOverTcpDevice,
    ModbusTcpDevice,
    ModbusTlsDevice,
    ModbusUdpDevice,
)
from gateway.drivers.opcua.section import OpcuaDevice

Device = Annotated[
    ModbusTcpDevice | ModbusRtuDevice | ModbusRtuOverTcpDevice | ModbusUdpDevice | ModbusTlsDevice | OpcuaDevice,
    Field(discriminator="protocol"),
]
"""The section of a device of any protocol; its `protocol` says which."""

__all__ = [
    "Device",
    "ModbusRtuDevice",
    "ModbusRtuOverTcpDevice",
    "ModbusTcpDevice",
    "ModbusTlsDevice",
    "ModbusUdpDevice",
    "OpcuaDevice",
]
