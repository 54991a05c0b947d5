"""The command line of `python -m simulators`."""

import argparse
import json
from pathlib import Path
from typing import Any

CONTROL_PORT = 5021
PTY = "pty"
_RUN_EXAMPLES = """\
examples:
  python -m simulators
  python -m simulators --modbus-port 0 --opcua-port 0 --control-port 0 --json-ready
  python -m simulators --udp-port 5020 --tls-port 8020 --tls-dir /tmp/plant-tls --rtu-tcp-port 5022 --no-opcua
  python -m simulators --rtu                       on a pseudo-terminal; the first lines say where it is
  python -m simulators --rtu /dev/ttyUSB0 --baudrate 9600 --parity N --stopbits 2
  python -m simulators ctl '{"device": "press-1", "do": "freeze"}'

All Modbus ways lead to the same units. mbpoll, for one, reads them so:
  mbpoll -0 -1 -a 1 -r 0 -c 4 -p 5020 127.0.0.1
"""
_CTL_EXAMPLES = """\
examples:
  python -m simulators ctl '{"do": "help"}'
  python -m simulators ctl '{"device": "press-1", "do": "refuse", "table": "holding", "addresses": [6, 7]}'
  python -m simulators ctl '{"device": "modbus", "do": "delay", "s": 2}'
  python -m simulators ctl '{"device": "modbus-rtu", "do": "wrong", "kind": "echo"}'
  python -m simulators ctl '{"device": "robot-1", "do": "status", "node": "Robot.Axis1.Speed", \
"status": "BadSensorFailure"}'
  python -m simulators ctl '{"device": "robot-1", "do": "forget_subscriptions"}'
  python -m simulators ctl '{"device": "robot-1", "do": "restart", "graceful": true, "announced_s": 3}'
  python -m simulators ctl '{"device": "robot-1", "do": "limit", "nodes_per_read": 5, "announced": false}'
"""


def parser() -> argparse.ArgumentParser:
    """The parser of the whole command line."""
    raw = argparse.RawDescriptionHelpFormatter
    whole = argparse.ArgumentParser(
        prog="python -m simulators",
        description="A simulated press line: press-1 and meter-1 on Modbus, robot-1 on OPC UA. Loopback only.",
        epilog=_RUN_EXAMPLES,
        formatter_class=raw,
    )
    _modbus(whole)
    whole.add_argument("--opcua-port", type=int, default=4840, help="0 takes a free one (default: 4840)")
    whole.add_argument("--control-port", type=int, default=CONTROL_PORT, help=f"(default: {CONTROL_PORT})")
    whole.add_argument("--no-opcua", action="store_true", help="Modbus only: starts at once and takes less memory")
    whole.add_argument("--pki-dir", type=Path, help="keep the robot's certificate here (default: a temporary folder)")
    whole.add_argument("--user", default="gateway", help="the robot's user beside anonymous (default: gateway)")
    whole.add_argument("--password", default="gateway-secret", help="(default: gateway-secret)")
    whole.add_argument("--history", action="store_true", help="the robot keeps raw values, and they can be read back")
    whole.add_argument("--volume-variables", type=int, default=0, help="more OPC UA variables, Volume.V00001 and so on")
    whole.add_argument("--volume-units", type=int, default=0, help="more Modbus units, ids from 11, of 1000 registers")
    whole.add_argument("--seed", type=int, default=1, help="of the machines' noise (default: 1)")
    whole.add_argument("--step", type=float, default=0.1, help="seconds from step to step (default: 0.1)")
    whole.add_argument("--json-ready", action="store_true", help="first line on stdout: one JSON object with the ports")
    commands = whole.add_subparsers(dest="command", metavar="ctl")
    ctl = commands.add_parser("ctl", help="steer running simulators", epilog=_CTL_EXAMPLES, formatter_class=raw)
    ctl.add_argument("--port", type=int, default=CONTROL_PORT, help=f"their control port (default: {CONTROL_PORT})")
    ctl.add_argument("order", type=_order, help="a JSON object: device, do, and what the command takes")
    return whole


def _modbus(whole: argparse.ArgumentParser) -> None:
    """The ways to the Modbus units."""
    add = whole.add_argument
    add("--modbus-port", type=int, default=5020, help="Modbus TCP; 0 takes a free one (default: 5020)")
    add("--udp-port", type=int, help="Modbus over UDP too; 0 takes a free one")
    add("--tls-port", type=int, help="Modbus TCP Security too; 0 takes a free one")
    add("--tls-dir", type=Path, help="its certificates, made there if ca.pem is missing (default: a temporary folder)")
    add("--rtu-tcp-port", type=int, help="RTU frames over TCP too; 0 takes a free one")
    add("--rtu", nargs="?", const=PTY, metavar="PORT", help="RTU on this serial port too, or on a pseudo-terminal")
    add("--baudrate", type=int, default=19200, help="of the serial port (default: 19200)")
    add("--parity", choices=("E", "O", "N"), help="of the serial port (default: E; a pseudo-terminal: N)")
    add("--stopbits", type=int, choices=(1, 2), default=1, help="of the serial port (default: 1)")
    add("--paced", action="store_true", help="a pseudo-terminal takes the time that characters take at the baud rate")


def _order(text: str) -> dict[str, Any]:
    try:
        order = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"not JSON: {error}") from error
    if not isinstance(order, dict):
        raise argparse.ArgumentTypeError('write an object such as {"device": "press-1", "do": "freeze"}')
    return order
