"""The Modbus simulator speaks right: pymodbus, a peer that knows nothing of it, reads what the machines hold."""

import struct
from collections.abc import AsyncIterator

import pytest
from pymodbus.client import AsyncModbusTcpClient

from simulators import MeterUnit, ModbusSimulator, Plant, PressUnit, Unit
from simulators.points import VOLUME, volume_value


@pytest.fixture
async def plain() -> Unit:
    return Unit("plain", 3, coils=[1, 0, 1], discretes={7: 1}, holdings=[10, 11, 12], inputs={100: 7, 101: 8})


@pytest.fixture
async def press() -> PressUnit:
    return PressUnit(seed=1)


@pytest.fixture
async def simulator(press: PressUnit, plain: Unit) -> AsyncIterator[ModbusSimulator]:
    async with ModbusSimulator([press, MeterUnit(seed=2), plain]) as simulator:
        yield simulator


@pytest.fixture
async def client(simulator: ModbusSimulator) -> AsyncIterator[AsyncModbusTcpClient]:
    client = AsyncModbusTcpClient(simulator.host, port=simulator.port, timeout=10, retries=0)
    assert await client.connect()
    yield client
    client.close()


def unpacked(registers: list[int], code: str) -> float:
    value: float = struct.unpack(f">{code}", struct.pack(f">{len(registers)}H", *registers))[0]
    return value


async def holding(client: AsyncModbusTcpClient, address: int, count: int, unit: int = 1) -> list[int]:
    answer = await client.read_holding_registers(address, count=count, device_id=unit)
    assert not answer.isError(), answer
    return answer.registers


async def test_the_four_tables_of_a_plain_unit_are_read_as_they_were_set(
    client: AsyncModbusTcpClient, plain: Unit
) -> None:
    assert (await client.read_coils(0, count=3, device_id=3)).bits[:3] == [True, False, True]
    assert (await client.read_discrete_inputs(7, count=1, device_id=3)).bits[0] is True
    assert (await client.read_input_registers(100, count=2, device_id=3)).registers == [7, 8]
    plain.tables["holding"][1] = 65535
    assert await holding(client, 0, 3, unit=3) == [10, 65535, 12]


async def test_each_number_type_of_the_press_has_the_value_of_its_physics(
    client: AsyncModbusTcpClient, press: PressUnit
) -> None:
    Plant([press]).step(37)
    machine = press.press
    assert unpacked(await holding(client, 5, 1), "h") == round(machine.oil_c * 10)
    low, high = await holding(client, 6, 2)
    assert unpacked([high, low], "f") == pytest.approx(machine.pressure_bar, rel=1e-6)
    assert unpacked(await holding(client, 8, 4), "d") == machine.energy_kj
    assert unpacked(await holding(client, 12, 4), "Q") == 4_000_000_000 + machine.strokes
    assert unpacked(await holding(client, 16, 2), "I") == machine.strokes
    assert unpacked(await holding(client, 20, 2), "f") == pytest.approx(machine.vibration_mm_s, rel=1e-6)


async def test_the_serial_number_is_text_in_the_input_registers(client: AsyncModbusTcpClient) -> None:
    answer = await client.read_input_registers(100, count=8, device_id=1)
    assert struct.pack(">8H", *answer.registers) == b"EG-PRESS-0000001"


async def test_the_alarm_bits_follow_the_alarm_word(client: AsyncModbusTcpClient, press: PressUnit) -> None:
    press.press.oil_c = 75.0
    press.step_points()
    assert (await holding(client, 18, 1))[0] & 1 == 1
    assert (await client.read_coils(3, count=1, device_id=1)).bits[0] is True


async def test_a_meter_shows_the_power_that_its_phases_carry(client: AsyncModbusTcpClient) -> None:
    answer = await client.read_input_registers(0, count=16, device_id=2)
    values = struct.unpack(">8f", struct.pack(">16H", *answer.registers))
    volts, amps, power, factor = values[0:3], values[3:6], values[6], values[7]
    assert sum(v * i * factor for v, i in zip(volts, amps, strict=True)) == pytest.approx(power, rel=0.2)


async def test_ticks_count_the_steps_and_the_volume_block_follows_them(
    client: AsyncModbusTcpClient, press: PressUnit
) -> None:
    Plant([press]).step(123)
    assert unpacked(await holding(client, 0, 2), "I") == 123
    assert await holding(client, 1000, 125) == [volume_value(at, 123) for at in VOLUME[:125]]
    assert await holding(client, 1995, 5) == [volume_value(at, 123) for at in VOLUME[-5:]]


async def test_n_polls_of_served_give_1_to_n_without_a_hole(client: AsyncModbusTcpClient, press: PressUnit) -> None:
    seen = [unpacked((await holding(client, 0, 23))[2:4], "I") for _ in range(20)]
    assert seen == list(range(1, 21))
    await holding(client, 4, 10)
    await holding(client, 0, 3)
    assert press.served == 20, "half of the counter is not the counter"


async def test_an_answer_without_values_does_not_use_up_served(client: AsyncModbusTcpClient, press: PressUnit) -> None:
    press.faults.exception(6, times=2)
    for _ in range(2):
        assert (await client.read_holding_registers(2, count=2, device_id=1)).exception_code == 6
    press.faults.wrong("short", times=1)
    assert len((await client.read_holding_registers(2, count=2, device_id=1)).registers) == 1
    assert unpacked(await holding(client, 2, 2), "I") == 1


async def test_unknown_units_and_addresses_get_the_exceptions_of_the_standard(client: AsyncModbusTcpClient) -> None:
    assert (await client.read_holding_registers(0, count=1, device_id=9)).exception_code == 0x0B
    assert (await client.read_holding_registers(2, count=2, device_id=3)).exception_code == 2
    assert (await client.read_input_registers(99, count=2, device_id=3)).exception_code == 2


async def test_a_write_is_refused_and_its_function_code_is_on_record(
    client: AsyncModbusTcpClient, simulator: ModbusSimulator, plain: Unit
) -> None:
    assert (await client.write_register(0, 5, device_id=3)).exception_code == 1
    await holding(client, 0, 1, unit=3)
    assert simulator.function_codes == {3, 6}
    assert simulator.requests == 2
    assert [request.span for request in simulator.history] == [(0, 0), (0, 1)]
    assert plain.tables["holding"][0] == 10
