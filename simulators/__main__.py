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
from typing import TYPE_CHECKING, Any

from simulators.control import Control, ControlError, send
from simulators.modbus_server import ModbusSimulator
from simulators.modbus_units import MachineUnit, MeterUnit, PressUnit
from simulators.plant import Plant, Stepped
from simulators.robot import Robot

if TYPE_CHECKING:
    from simulators.opcua_server import OpcuaSimulator

CONTROL_PORT = 5021
_RUN_EXAMPLES = """\
examples:
  python -m simulators
  python -m simulators --modbus-port 0 --opcua-port 0 --control-port 0 --json-ready
  python -m simulators ctl '{"device": "press-1", "do": "freeze"}'
"""
_CTL_EXAMPLES = """\
examples:
  python -m simulators ctl '{"do": "help"}'
  python -m simulators ctl '{"device": "press-1", "do": "refuse", "table": "holding", "addresses": [6, 7]}'
  python -m simulators ctl '{"device": "modbus", "do": "delay", "s": 2}'
  python -m simulators ctl '{"device": "robot-1", "do": "status", "node": "Robot.Axis1.Speed", \
"status": "BadSensorFailure"}'
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the command line asks for and give the exit code: 0 ended as told, 1 could not run, 2 wrong use."""
    options = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m simulators",
        description="A simulated press line: press-1 and meter-1 on Modbus TCP, robot-1 on OPC UA. Loopback only.",
        epilog=_RUN_EXAMPLES,
        formatter_class=raw,
    )
    parser.add_argument("--modbus-port", type=int, default=5020, help="0 takes a free one (default: 5020)")
    parser.add_argument("--opcua-port", type=int, default=4840, help="0 takes a free one (default: 4840)")
    parser.add_argument("--control-port", type=int, default=CONTROL_PORT, help=f"(default: {CONTROL_PORT})")
    parser.add_argument("--no-opcua", action="store_true", help="Modbus only: starts at once and takes less memory")
    parser.add_argument("--pki-dir", type=Path, help="keep the robot's certificate here (default: a temporary folder)")
    parser.add_argument("--user", default="gateway", help="the robot's user beside anonymous (default: gateway)")
    parser.add_argument("--password", default="gateway-secret", help="(default: gateway-secret)")
    parser.add_argument("--volume-units", type=int, default=0, help="more Modbus units, ids from 11, of 1000 registers")
    parser.add_argument("--seed", type=int, default=1, help="of the machines' noise (default: 1)")
    parser.add_argument("--step", type=float, default=0.1, help="seconds from step to step (default: 0.1)")
    parser.add_argument(
        "--json-ready", action="store_true", help="first line on stdout: one JSON object with the ports"
    )
    commands = parser.add_subparsers(dest="command", metavar="ctl")
    ctl = commands.add_parser("ctl", help="steer running simulators", epilog=_CTL_EXAMPLES, formatter_class=raw)
    ctl.add_argument("--port", type=int, default=CONTROL_PORT, help=f"their control port (default: {CONTROL_PORT})")
    ctl.add_argument("order", type=_order, help="a JSON object: device, do, and what the command takes")
    return parser


def _order(text: str) -> dict[str, Any]:
    try:
        order = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(order, dict):
        raise argparse.ArgumentTypeError('write an object such as {"device": "press-1", "do": "freeze"}')
    return order


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
        modbus = await stack.enter_async_context(ModbusSimulator(units, port=options.modbus_port))
        opcua = None if options.no_opcua else await stack.enter_async_context(_robot_server(robot, options))
        devices = {"modbus": modbus.commands, **{unit.name: unit.commands for unit in units}}
        if opcua is not None:
            devices["robot-1"] = opcua.commands
        control = await stack.enter_async_context(Control(devices, port=options.control_port))
        machines: list[Stepped] = [*units, robot]
        plant = Plant(machines, after_step=opcua.publish if opcua is not None else None)
        await stack.enter_async_context(plant.running(options.step))
        print(_ready(options.json_ready, modbus, opcua, control), flush=True)
        await asyncio.Event().wait()


def _robot_server(robot: Robot, options: argparse.Namespace) -> "OpcuaSimulator":
    from simulators.opcua_server import OpcuaSimulator  # noqa: PLC0415 -- asyncua only where it is used

    return OpcuaSimulator(
        robot, port=options.opcua_port, pki_dir=options.pki_dir, user=options.user, password=options.password
    )


def _ready(as_json: bool, modbus: ModbusSimulator, opcua: "OpcuaSimulator | None", control: Control) -> str:
    units = {unit.name: unit.unit_id for unit in modbus.units.values()}
    if as_json:
        ready: dict[str, Any] = {"modbus": {"host": modbus.host, "port": modbus.port, "units": units}}
        if opcua is not None:
            ready["opcua"] = {"endpoint": opcua.endpoint, "certificate": str(opcua.certificate_path)}
        ready["control"] = {"host": control.host, "port": control.port}
        return json.dumps(ready)
    named = ", ".join(f"{name} is unit {unit_id}" for name, unit_id in units.items())
    lines = [f"Modbus TCP  {modbus.host}:{modbus.port}  ({named})"]
    if opcua is not None:
        lines.append(f"OPC UA      {opcua.endpoint}  (robot-1; certificate {opcua.certificate_path})")
    lines.append(f'Control     python -m simulators ctl --port {control.port} \'{{"do": "help"}}\'')
    return "\n".join([*lines, "Ctrl-C ends the plant."])


if __name__ == "__main__":
    sys.exit(main())
