"""The robot's variables that are more than one plain value: an enumeration, a structure, an array and a matrix."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import asyncua
from asyncua.common.structures104 import new_enum, new_struct, new_struct_field

from simulators.robot import NAMESPACE, Robot

ua: Any = asyncua.ua
MODES = ("Idle", "Picking", "Moving", "Placing")


@dataclass(frozen=True, slots=True)
class Shaped:
    """A variable with a value of a shape of its own; `read` gives it as a person would write it down."""

    path: str
    type: str
    read: Callable[[Robot], Any]

    @property
    def node(self) -> str:
        """The node id as the gateway's config writes it."""
        return f"nsu={NAMESPACE};s={self.path}"


def _pose(robot: Robot) -> dict[str, Any]:
    x, y = (axis.position for axis in robot.axes)
    return {"X": x, "Y": y, "Closed": robot.state in ("Picking", "Moving"), "Program": robot.state}


SHAPED: tuple[Shaped, ...] = (
    Shaped("Robot.Mode", "RobotMode", lambda robot: robot.place),
    Shaped("Robot.Pose", "RobotPose", _pose),
    Shaped("Robot.Speeds", "Double[2]", lambda robot: [axis.speed for axis in robot.axes]),
    Shaped("Robot.Frame", "Int16[2,3]", lambda robot: [[robot.place, 1, 2], [3, robot.ticks % 100, 5]]),
)


class ShapedNodes:
    """The types and variables of `SHAPED` in an address space; the types are told to clients, not to this process."""

    def __init__(self) -> None:
        self._encoding: Any = None

    async def build(self, server: Any, index: int, parent: Any) -> None:
        """Make types and variables."""
        mode = await new_enum(server, ua.NodeId("RobotMode", index), ua.QualifiedName("RobotMode", index), list(MODES))
        fields = {"X": "Double", "Y": "Double", "Closed": "Boolean", "Program": "String"}
        pose, (encoding,) = await new_struct(
            server,
            ua.NodeId("RobotPose", index),
            ua.QualifiedName("RobotPose", index),
            [new_struct_field(name, ua.VariantType[kind]) for name, kind in fields.items()],
        )
        self._encoding = encoding.nodeid
        kinds = {"Robot.Mode": mode.nodeid, "Robot.Pose": pose.nodeid}
        for shaped in SHAPED:
            name = ua.QualifiedName(shaped.path.rpartition(".")[2], index)
            value = self._variant(shaped, Robot())
            await parent.add_variable(ua.NodeId(shaped.path, index), name, value, datatype=kinds.get(shaped.path))

    def values(self, robot: Robot) -> dict[str, Any]:
        """The present values as Variants, by path."""
        return {shaped.path: self._variant(shaped, robot) for shaped in SHAPED}

    def _variant(self, shaped: Shaped, robot: Robot) -> Any:
        value = shaped.read(robot)
        match shaped.path:
            case "Robot.Mode":
                return ua.Variant(value, ua.VariantType.Int32)
            case "Robot.Pose":
                return ua.Variant(ua.ExtensionObject(self._encoding, _body(value)), ua.VariantType.ExtensionObject)
            case "Robot.Speeds":
                return ua.Variant(value, ua.VariantType.Double)
            case _:
                return ua.Variant(value, ua.VariantType.Int16, Dimensions=[2, 3])


def _body(pose: dict[str, Any]) -> bytes:
    """The octets of a RobotPose in OPC UA Binary (OPC 10000-6 section 5.2)."""
    text: bytes = pose["Program"].encode()
    return struct.pack("<dd?i", pose["X"], pose["Y"], pose["Closed"], len(text)) + text
