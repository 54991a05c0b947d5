"""The machines of the press line as step functions: no clock, no I/O, the same seed and steps give the same values."""

import math
from dataclasses import dataclass, field
from random import Random

AMBIENT_C = 22.0
PI = math.pi


@dataclass(frozen=True, slots=True)
class _Phase:
    """A part of the press cycle: its length, the motor's load, and the pressure it leads to (1 is the setpoint)."""

    name: str
    seconds: float
    load: float
    pressure: float


_CYCLE = (
    _Phase("loading", 1.2, 0.15, 0.05),
    _Phase("closing", 1.0, 0.45, 0.15),
    _Phase("pressing", 0.8, 0.95, 1.0),
    _Phase("opening", 1.0, 0.40, 0.10),
)
_STROKES_A_BATCH = 20
_TOOL_CHECK = _Phase("tool-check", 8.0, 0.05, 0.0)


@dataclass
class Press:
    """A hydraulic press: a motor with a duty cycle, oil that warms and cools far slower than the load changes."""

    seed: int = 1
    setpoint_bar: float = 210.0
    phase: _Phase = _CYCLE[0]
    phase_left_s: float = 1.2
    strokes: int = 0
    duty: float = 0.3
    motor_load: float = 0.15
    motor_speed_rpm: float = 1480.0
    pressure_bar: float = 10.0
    oil_c: float = 38.0
    vibration_mm_s: float = 1.0
    energy_kj: float = 0.0
    cooler_on: bool = False
    random: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    @property
    def running(self) -> bool:
        """True while the press works through a batch, false during the tool check between two."""
        return self.phase is not _TOOL_CHECK

    @property
    def electric_power_w(self) -> float:
        """What the press takes from the mains: 55 kW motor, losses and the cooler's fan."""
        return 1_200.0 + 55_000.0 * self.motor_load + (900.0 if self.cooler_on else 0.0)

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds."""
        self._sequence(dt)
        noise = self.random.gauss
        self.motor_load += (self.phase.load - self.motor_load) * _lag(dt, 0.15) + noise(0, 0.003)
        self.motor_load = min(max(self.motor_load, 0.0), 1.2)
        self.duty += (self.motor_load - self.duty) * _lag(dt, 30.0)
        self.motor_speed_rpm = 1495.0 - 45.0 * self.motor_load + noise(0, 0.4)
        target = self.setpoint_bar * self.phase.pressure
        self.pressure_bar += (target - self.pressure_bar) * _lag(dt, 0.25) + noise(0, 0.15)
        self.pressure_bar = max(self.pressure_bar, 0.0)
        self.vibration_mm_s = abs(0.6 + 3.2 * self.motor_load + noise(0, 0.05))
        self.energy_kj += self.electric_power_w * dt / 1000.0
        self._warm(dt)

    def _sequence(self, dt: float) -> None:
        self.phase_left_s -= dt
        if self.phase_left_s > 1e-9:
            return
        if self.phase.name == "pressing":
            self.strokes += 1
        self.phase = self._next_phase()
        self.phase_left_s += self.phase.seconds * self.random.uniform(0.97, 1.03)

    def _next_phase(self) -> _Phase:
        if self.phase is _TOOL_CHECK:
            return _CYCLE[0]
        if self.phase is _CYCLE[-1] and self.strokes % _STROKES_A_BATCH == 0:
            return _TOOL_CHECK
        return _CYCLE[(_CYCLE.index(self.phase) + 1) % len(_CYCLE)]

    def _warm(self, dt: float) -> None:
        if self.oil_c > 55.0:
            self.cooler_on = True
        elif self.oil_c < 48.0:
            self.cooler_on = False
        settled = AMBIENT_C + 80.0 * self.motor_load - (35.0 if self.cooler_on else 0.0)
        self.oil_c += (settled - self.oil_c) * _lag(dt, 240.0)


@dataclass
class Meter:
    """An energy meter on three phases: it sees the plant's base load and what is fed through it."""

    seed: int = 2
    base_w: float = 6_500.0
    time_s: float = 0.0
    frequency_hz: float = 50.0
    power_w: float = 6_500.0
    power_factor: float = 0.9
    energy_wh: float = 184_000_000.0
    volts: list[float] = field(default_factory=lambda: [230.0, 230.0, 230.0])
    amps: list[float] = field(default_factory=lambda: [9.0, 9.0, 9.0])
    random: Random = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.random = Random(self.seed)

    def step(self, dt: float, fed_w: float = 0.0) -> None:
        """Move on by `dt` seconds while `fed_w` watts flow to the machines behind the meter."""
        self.time_s += dt
        noise = self.random.gauss
        shift = 1.0 + 0.15 * math.sin(2 * PI * self.time_s / 600.0)
        self.power_w = max(self.base_w * shift + fed_w + noise(0, 25.0), 0.0)
        self.frequency_hz += (50.0 - self.frequency_hz) * _lag(dt, 20.0) + noise(0, 0.002)
        self.power_factor = 0.82 + 0.14 * min(self.power_w / 60_000.0, 1.0)
        sag = self.power_w / 60_000.0
        for phase in range(3):
            self.volts[phase] = 231.5 - 1.8 * sag + 0.7 * phase + noise(0, 0.12)
            share = self.power_w / 3.0 * (1.0 + 0.02 * (phase - 1))
            self.amps[phase] = share / (self.volts[phase] * self.power_factor)
        self.energy_wh += self.power_w * dt / 3600.0


@dataclass
class Axis:
    """One driven axis: it turns with limited speed to its target; its motor warms with the speed."""

    max_speed: float
    position: float = 0.0
    speed: float = 0.0
    target: float = 0.0
    temperature_c: float = 31.0

    def step(self, dt: float) -> None:
        """Move on by `dt` seconds. Positions in degrees, speeds in degrees per second."""
        wanted = (self.target - self.position) * 4.0
        wanted = min(max(wanted, -self.max_speed), self.max_speed)
        self.speed += (wanted - self.speed) * _lag(dt, 0.12)
        self.position += self.speed * dt
        settled = AMBIENT_C + 8.0 + 30.0 * abs(self.speed) / self.max_speed
        self.temperature_c += (settled - self.temperature_c) * _lag(dt, 180.0)


def _lag(dt: float, time_constant_s: float) -> float:
    """The share of the way that a first-order lag goes in one step."""
    return 1.0 - math.exp(-dt / time_constant_s)
