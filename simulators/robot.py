"""The robot that feeds the press: its physics, and the variables by which it shows itself over OPC UA."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal

from simulators.physics import Axis

NAMESPACE = "urn:edge-gateway:simulators:robot"
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_PROGRAM = (  # state, seconds, targets of the two axes in degrees
    ("Idle", 0.8, (0.0, 0.0)),
    ("Picking", 1.2, (-75.0, 35.0)),
    ("Moving", 1.0, (20.0, -10.0)),
    ("Placing", 1.0, (85.0, 25.0)),
)

Value = bool | int | float | str | datetime
Kind = Literal["Boolean", "Int32", "Int64", "UInt32", "Float", "Double", "String", "DateTime"]


@dataclass
class Robot:
    """A pick-and-place robot with two axes that runs one program over and over."""

    seed: int = 3
    ticks: int = 0
    time_s: float = 0.0
    parts: int = 0
    place: int = 0
    left_s: float = 0.8
    started_s: float = 0.0
    gripper_bar: float = 6.0
    axes: tuple[Axis, Axis] = field(default_factory=lambda: (Axis(140.0), Axis(110.0)))
    random: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    @property
    def state(self) -> str:
        """What the program does: Idle, Picking, Moving or Placing."""
        return _PROGRAM[self.place][0]

    @property
    def started(self) -> datetime:
        """When the present run of the program began, on the robot's own calendar."""
        return _EPOCH + timedelta(milliseconds=round(self.started_s * 1000))

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds; `ticks` counts the calls."""
        self.ticks += 1
        self.time_s += dt
        self.left_s -= dt
        if self.left_s <= 1e-9:
            self._next()
        for axis, target in zip(self.axes, _PROGRAM[self.place][2], strict=True):
            axis.target = target
            axis.step(dt)
        self.gripper_bar = 6.0 - (0.4 if self.state == "Picking" else 0.0) + self.random.gauss(0, 0.02)

    def _next(self) -> None:
        if self.state == "Placing":
            self.parts += 1
            self.started_s = self.time_s
        self.place = (self.place + 1) % len(_PROGRAM)
        self.left_s += _PROGRAM[self.place][1] * self.random.uniform(0.97, 1.03)


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable of the robot; `uncefact` is the unit's UNECE common code (OPC 10000-8 section 5.6.3)."""

    path: str
    type: Kind
    read: Callable[[Robot], Value]
    unit: str | None = None
    uncefact: str | None = None
    range: tuple[float, float] | None = None

    @property
    def node(self) -> str:
        """The node id as the gateway's config writes it."""
        return f"nsu={NAMESPACE};s={self.path}"


def _axis(number: int) -> list[Variable]:
    at, path = number - 1, f"Robot.Axis{number}"
    return [
        Variable(f"{path}.Position", "Double", lambda r: r.axes[at].position, "deg", "DD", (-180.0, 180.0)),
        Variable(f"{path}.Speed", "Double", lambda r: r.axes[at].speed, "deg/s", "E96", (-150.0, 150.0)),
        Variable(f"{path}.Temperature", "Float", lambda r: r.axes[at].temperature_c, "Cel", "CEL", (0.0, 120.0)),
    ]


VARIABLES: tuple[Variable, ...] = (
    Variable("Robot.Counter", "UInt32", lambda r: r.ticks % 2**32),
    *_axis(1),
    *_axis(2),
    Variable("Robot.Gripper.Pressure", "Float", lambda r: r.gripper_bar, "bar", "BAR", (0.0, 10.0)),
    Variable("Robot.Gripper.Closed", "Boolean", lambda r: r.state in ("Picking", "Moving")),
    Variable("Robot.Program.State", "String", lambda r: r.state),
    Variable("Robot.Program.Step", "Int32", lambda r: r.place),
    Variable("Robot.Program.Parts", "Int64", lambda r: r.parts),
    Variable("Robot.Program.Running", "Boolean", lambda r: r.state != "Idle"),
    Variable("Robot.Program.StartedAt", "DateTime", lambda r: r.started),
    Variable("Robot.Name", "String", lambda r: "Feeder 1"),
)
