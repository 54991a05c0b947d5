"""`python -m simulators`: the plant on loopback ports, and the order sheet to steer it."""

import argparse
import asyncio
import json
import logging
import signal
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from simulators.certificates import TlsFiles
from simulators.control import Control, ControlError, send
from simulators.modbus_endpoint import Endpoint
from simulators.modbus_serial import ModbusRtuSimulator
from simulators.modbus_server import ModbusRtuOverTcpSimulator, ModbusSimulator, ModbusTlsSimulator
from simulators.modbus_udp import ModbusUdpSimulator
from simulators.modbus_units import MachineUnit, MeterUnit, PressUnit, Unit
from simulators.options import PTY, parser
from simulators.plant import Plant, Stepped
from simulators.robot import Robot

if TYPE_CHECKING:
    from simulators.opcua_server import OpcuaSimulator

_TITLES = {
    "modbus": "Modbus TCP",
    "modbus-udp": "Modbus UDP",
    "modbus-tls": "Modbus TLS",
    "modbus-rtu-over-tcp": "RTU on TCP",
    "modbus-rtu": "RTU",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and give the exit code: 0 ended as told, 1 could not run, 2 wrong use."""
    options = parser().parse_args(arguments)
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    try:
        if options.command == "ctl":
            print(json.dumps(asyncio.run(send(options.port, options.order)), indent=2))
        else:
            asyncio.run(_until_told(options))
    except ControlError as error:
        return _complain(str(error))
    except OSError as error:
        return _complain(f"{error.strerror or error}; choose other ports, or 0 for free ones")
    return 0


def _complain(sentence: str) -> int:
    print(f"simulators: {sentence}", file=sys.stderr)
    return 1


async def _until_told(options: argparse.Namespace) -> None:
    """Run the plant until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 -- asyncio.run makes one
    told = False

    def tell() -> None:
        nonlocal told
        if not told:  # a second signal would cut the ending short
            told = True
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, tell)
    try:
        await _run(options)
    except asyncio.CancelledError:
        if not told:
            raise


async def _run(options: argparse.Namespace) -> None:
    press = PressUnit(seed=options.seed)
    meter = MeterUnit(seed=options.seed + 1, feeds=lambda: press.press.electric_power_w)
    volume = [MachineUnit(f"volume-{n + 1}", 11 + n) for n in range(options.volume_units)]
    units = [press, meter, *volume]
    robot = Robot(seed=options.seed + 2)
    async with AsyncExitStack() as stack:
        endpoints = _endpoints(units, options, stack)
        for endpoint in endpoints.values():
            await stack.enter_async_context(endpoint)
        opcua = None if options.no_opcua else await stack.enter_async_context(_robot_server(robot, options))
        devices = {part.name: part.commands for part in units}
        devices |= {name: endpoint.commands for name, endpoint in endpoints.items()}
        if opcua is not None:
            devices["robot-1"] = opcua.commands
        control = await stack.enter_async_context(Control(devices, port=options.control_port))
        machines: list[Stepped] = [*units, robot]
        plant = Plant(machines, after_step=opcua.stepped if opcua is not None else None)
        await stack.enter_async_context(plant.running(options.step))
        print(_ready(options.json_ready, endpoints, opcua, control), flush=True)
        await asyncio.Event().wait()


def _endpoints(units: Sequence[Unit], options: argparse.Namespace, stack: AsyncExitStack) -> dict[str, Endpoint]:
    """The ways to the units that were asked for, by name."""
    ways: dict[str, Endpoint] = {"modbus": ModbusSimulator(units, port=options.modbus_port)}
    if options.udp_port is not None:
        ways["modbus-udp"] = ModbusUdpSimulator(units, port=options.udp_port)
    if options.tls_port is not None:
        folder = options.tls_dir or Path(stack.enter_context(TemporaryDirectory(prefix="simulated-tls-")))
        ways["modbus-tls"] = ModbusTlsSimulator(units, TlsFiles.of(folder), port=options.tls_port)
    if options.rtu_tcp_port is not None:
        ways["modbus-rtu-over-tcp"] = ModbusRtuOverTcpSimulator(units, port=options.rtu_tcp_port)
    if options.rtu is not None:
        ways["modbus-rtu"] = ModbusRtuSimulator(
            units,
            port=None if options.rtu == PTY else options.rtu,
            baudrate=options.baudrate,
            parity=options.parity,
            stopbits=options.stopbits,
            paced=options.paced,
        )
    return ways


def _robot_server(robot: Robot, options: argparse.Namespace) -> "OpcuaSimulator":
    from simulators.opcua_server import OpcuaSimulator  # noqa: PLC0415 -- asyncua only where it is used

    return OpcuaSimulator(
        robot,
        port=options.opcua_port,
        pki_dir=options.pki_dir,
        user=options.user,
        password=options.password,
        volume=options.volume_variables,
        history=options.history,
    )


def _ready(as_json: bool, endpoints: dict[str, Endpoint], opcua: "OpcuaSimulator | None", control: Control) -> str:
    units = {unit.name: unit.unit_id for unit in endpoints["modbus"].units.values()}
    if as_json:
        ready: dict[str, Any] = {name: {**way.where, "units": units} for name, way in endpoints.items()}
        if opcua is not None:
            ready["opcua"] = {"endpoint": opcua.endpoint, "certificate": str(opcua.certificate_path)}
        ready["control"] = {"host": control.host, "port": control.port}
        return json.dumps(ready)
    named = ", ".join(f"{name} is unit {unit_id}" for name, unit_id in units.items())
    lines = [f"{_TITLES[name]:<11} {_place(way.where)}" for name, way in endpoints.items()]
    lines[0] += f"  ({named})"
    if opcua is not None:
        lines.append(f"OPC UA      {opcua.endpoint}  (robot-1; certificate {opcua.certificate_path})")
    lines.append(f'Control     python -m simulators ctl --port {control.port} \'{{"do": "help"}}\'')
    return "\n".join([*lines, "Ctrl-C ends the plant."])


def _place(where: dict[str, Any]) -> str:
    """An endpoint's address, and what else a client needs, as a person reads it."""
    if "baudrate" in where:
        return f"{where['port']}  ({where['baudrate']} 8{where['parity']}{where['stopbits']})"
    place = f"{where['host']}:{where['port']}"
    return f"{place}  (client's files in {Path(where['cert_file']).parent})" if "cert_file" in where else place


if __name__ == "__main__":
    sys.exit(main())
