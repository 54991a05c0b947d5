"""The plant as the gateway's config describes it: ready `devices:` entries, made from the same points and variables."""

from collections.abc import Mapping
from typing import Any

from simulators.points import COUNTERS, METER_POINTS, PRESS_BITS, PRESS_POINTS
from simulators.robot import VARIABLES, Variable

MODBUS_UNITS = {"press-1": 1, "meter-1": 2}


def press_tags() -> list[dict[str, Any]]:
    """The tags of `press-1`."""
    return [point.tag() for point in (*COUNTERS, *PRESS_POINTS, *PRESS_BITS)]


def meter_tags() -> list[dict[str, Any]]:
    """The tags of `meter-1`."""
    return [point.tag() for point in (*COUNTERS, *METER_POINTS)]


def robot_tags() -> list[dict[str, Any]]:
    """The tags of `robot-1`. Queues hold more than a publishing interval, so that each `counter` arrives."""
    return [_robot_tag(variable) for variable in VARIABLES]


def demo_devices(
    modbus_host: str,
    modbus_port: int,
    endpoint: str,
    *,
    interval: str = "1s",
    pki_dir: str | None = None,
    password: Mapping[str, str] | None = None,
) -> list[dict[str, Any]]:
    """The `devices:` entries of a config that reads the whole plant.

    With `pki_dir` the robot is read over Basic256Sha256 SignAndEncrypt; the folder's trusted/ must hold the
    simulator's certificate. Without, the entry says `insecure: true`. `password` is a secret's reference, such as
    {"file": "…"} or {"env": "…"}, for user `gateway`; without it the session is anonymous.
    """
    modbus = {"protocol": "modbus-tcp", "host": modbus_host, "port": modbus_port, "interval": interval}
    return [
        {"name": "press-1", **modbus, "unit_id": MODBUS_UNITS["press-1"], "tags": press_tags()},
        {"name": "meter-1", **modbus, "unit_id": MODBUS_UNITS["meter-1"], "tags": meter_tags()},
        {
            "name": "robot-1",
            "protocol": "opcua",
            "endpoint": endpoint,
            "mode": "subscribe",
            "interval": "500ms",
            "security": _security(pki_dir),
            **({"username": "gateway", "password": dict(password)} if password is not None else {}),
            "tags": robot_tags(),
        },
    ]


def _security(pki_dir: str | None) -> dict[str, Any]:
    if pki_dir is None:
        return {"policy": "None", "insecure": True}
    return {"policy": "Basic256Sha256", "mode": "SignAndEncrypt", "pki_dir": pki_dir}


def _robot_tag(variable: Variable) -> dict[str, Any]:
    name = variable.path.removeprefix("Robot.").replace(".", "_").lower()
    tag: dict[str, Any] = {"name": name, "node": variable.node, "sampling": "100ms", "queue": 20}
    if variable.unit is not None:
        tag["unit"] = variable.unit
    if variable.range is not None:
        tag["range"] = list(variable.range)
    return tag
