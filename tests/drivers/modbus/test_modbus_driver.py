"""A poll of a Modbus unit gives a value or a reason for every tag that was asked, and one tag never costs another."""

import asyncio
import struct
import time
from typing import Any

import pytest
from modbus_peer import Request, closed_port, device, serving, within, words
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from gateway.drivers.base import Driver, Shared
from gateway.drivers.modbus.device import open_device
from gateway.drivers.modbus.section import ModbusTcpDevice
from gateway.errors import DeviceError
from gateway.model import Sample
from simulators import MeterUnit, ModbusSimulator, PressUnit, Unit, demo_devices

SHORT = "300ms"


async def poll(driver: Driver, *columns: int) -> tuple[Sample, ...]:
    return await within(driver.read(columns))


def named(section: ModbusTcpDevice, sample: Sample) -> dict[str, Any]:
    return {section.tags[column].name: value for column, value in zip(sample.columns, sample.values, strict=True)}


def registers(count: int = 200, unit_id: int = 1) -> Unit:
    return Unit("plain", unit_id, holdings=range(count))


async def test_every_type_of_the_demo_press_reads_what_the_simulator_holds() -> None:
    press, meter = PressUnit(seed=1), MeterUnit(seed=2)
    async with ModbusSimulator([press, meter]) as simulator:
        for keys in demo_devices("127.0.0.1", simulator.port, "opc.tcp://127.0.0.1:4840")[:2]:
            section = ModbusTcpDevice.model_validate({**keys, "timeout": "20s"})
            columns = tuple(range(len(section.tags)))
            async with open_device(section, Shared("hall-3")) as driver:
                (sample,) = await poll(driver, *columns)
            assert (sample.columns, sample.readings, dict(sample.quality)) == (columns, len(columns), {})
            values = named(section, sample)
            if section.name == "press-1":
                assert values["serial"] == "EG-PRESS-0000001"
                assert values["served"] == 1
        assert simulator.function_codes == {1, 2, 3, 4}


async def test_p10_no_function_code_but_one_to_four_leaves_the_driver_whatever_comes_back() -> None:
    press = PressUnit(seed=1)
    async with ModbusSimulator([press]) as simulator:
        keys = demo_devices("127.0.0.1", simulator.port, "opc.tcp://127.0.0.1:4840")[0]
        section = ModbusTcpDevice.model_validate({**keys, "timeout": "20s"})
        columns = tuple(range(len(section.tags)))
        async with open_device(section, Shared("hall-3")) as driver:
            for code in (1, 2, 3, 4, 5, 6, 8):
                press.faults.exception(code)
                await poll(driver, *columns)
            for kind in ("short", "long", "byte-count", "function", "transaction", "unit", "garbage"):
                press.faults.wrong(kind)  # type: ignore[arg-type]
                await poll(driver, *columns)
            press.faults.clear()
            await poll(driver, *columns)
            (sample,) = await poll(driver, *columns)
        assert sample.columns == columns
        assert simulator.function_codes == {1, 2, 3, 4}


async def test_an_independent_server_is_read_alike() -> None:
    """The peer is pymodbus' own server: coils, discrete inputs, holding and input registers."""
    bits = [index in (1, 10) for index in range(16)]
    words_held = list(struct.unpack(">4H", struct.pack(">fI", 21.5, 70_000)))
    blocks = (
        [SimData(0, values=bits, datatype=DataType.BITS)],
        [SimData(0, values=bits[::-1], datatype=DataType.BITS)],
        [SimData(0, values=words_held, datatype=DataType.REGISTERS)],
        [SimData(0, values=[0x4865, 0x6C6C, 0x6F00], datatype=DataType.REGISTERS)],
    )
    with closed_port() as free:
        port = free
    server = ModbusTcpServer([SimDevice(id=1, simdata=blocks)], address=("127.0.0.1", port))
    await within(server.serve_forever(background=True))
    try:
        section = device(
            port,
            [
                {"name": "temperature", "address": "holding:0", "type": "float32"},
                {"name": "strokes", "address": "holding:2", "type": "uint32"},
                {"name": "running", "address": "coil:10", "type": "bool"},
                {"name": "stopped", "address": "coil:2", "type": "bool"},
                {"name": "guard", "address": "discrete:5", "type": "bool"},
                {"name": "model", "address": "input:0", "type": "string", "length": 6},
            ],
        )
        async with open_device(section, Shared("hall-3")) as driver:
            (sample,) = await poll(driver, *range(6))
        expected = {"temperature": 21.5, "strokes": 70_000, "running": True, "stopped": False, "guard": True}
        assert named(section, sample) == {**expected, "model": "Hello"}
    finally:
        await within(server.shutdown())


async def test_a_poll_is_stamped_when_its_first_answer_came_and_keeps_the_columns_it_was_asked_for() -> None:
    async with serving() as peer:
        section = device(peer.port, words(9, 4, 5, 100))
        async with open_device(section, Shared("hall-3")) as driver:
            columns = (0, 1, 3)
            before = time.time_ns() // 1_000_000
            (sample,) = await within(driver.read(columns))
            after = time.time_ns() // 1_000_000
    assert sample.columns is columns
    assert (sample.values, sample.readings) == ((9, 4, 100), 3)
    assert before <= sample.ts <= after


async def test_a_poll_of_no_columns_asks_nothing() -> None:
    async with serving() as peer:
        async with open_device(device(peer.port, words(1)), Shared("hall-3")) as driver:
            assert await poll(driver) == ()
        assert peer.requests == []


async def test_answers_that_come_far_apart_become_samples_of_their_own() -> None:
    loop = asyncio.get_running_loop()

    def slow_from_20(request: Request) -> None:
        loop.call_later(0.25 if request.start == 20 else 0, request.send, request.good())

    async with serving(slow_from_20) as peer:
        section = device(peer.port, words(0, 20, 10, 30))
        async with open_device(section, Shared("hall-3")) as driver:
            samples = await poll(driver, 0, 1, 2, 3)
    found = [(sample.columns, sample.values) for sample in samples]
    assert found[0] == ((0, 2), (0, 10)) or len(found) > 2  # a stalled test machine may split it further
    assert samples[-1].ts - samples[0].ts >= 100
    assert sorted(column for columns, _ in found for column in columns) == [0, 1, 2, 3]
    assert sum(sample.readings for sample in samples) == 4


async def test_p6_a_refused_register_is_bad_illegal_address_and_costs_no_neighbour_a_single_cycle() -> None:
    unit = registers()
    unit.faults.refuse("holding", [57])
    async with ModbusSimulator([unit]) as simulator:
        section = device(simulator.port, words(*range(100)))
        async with open_device(section, Shared("hall-3")) as driver:
            columns = tuple(range(100))
            for _ in range(2):
                (sample,) = await poll(driver, *columns)
                assert sample.quality == {"r57": "bad:illegal-address"}
                assert sample.columns == columns[:57] + columns[58:]
                assert sample.values == sample.columns
                assert sample.readings == 100


async def test_what_was_found_about_refused_registers_is_not_asked_again() -> None:
    unit = registers()
    unit.faults.refuse("holding", [57])
    async with ModbusSimulator([unit]) as simulator:
        section = device(simulator.port, words(*range(100)))
        async with open_device(section, Shared("hall-3")) as driver:
            await poll(driver, *range(100))
            search = simulator.requests
            await poll(driver, *range(100))
            assert search <= 16
            assert simulator.requests - search == 2


async def test_a_unit_that_refuses_everything_is_asked_for_one_register_until_it_answers() -> None:
    unit = registers(0)
    async with (
        ModbusSimulator([unit]) as simulator,
        open_device(device(simulator.port, words(*range(8))), Shared("hall-3")) as driver,
    ):
        await poll(driver, *range(8))
        search = simulator.requests
        (sample,) = await poll(driver, *range(8))
        assert set(sample.quality.values()) == {"bad:illegal-address"}
        assert (sample.columns, sample.readings, simulator.requests - search) == ((), 8, 1)
        unit.tables["holding"].update({at: at for at in range(8)})
        (sample,) = await poll(driver, *range(8))
        assert len(sample.values) == 1
        (sample,) = await poll(driver, *range(8))
        assert sample.values == tuple(range(8))


async def test_a_unit_that_serves_few_registers_at_once_is_read_in_smaller_blocks() -> None:
    def at_most_50(request: Request) -> None:
        request.send(request.refused(3) if request.count > 50 else request.good())

    async with (
        serving(at_most_50) as peer,
        open_device(device(peer.port, words(*range(120))), Shared("hall-3")) as driver,
    ):
        columns = tuple(range(120))
        for _ in range(2):
            (sample,) = await within(driver.read(columns))
            assert (sample.values, dict(sample.quality)) == (tuple(range(120)), {})
            assert sample.columns == columns


async def test_a_register_that_max_gap_reads_over_may_be_refused() -> None:
    unit = registers()
    unit.faults.refuse("holding", [5])
    async with ModbusSimulator([unit]) as simulator:
        section = device(simulator.port, words(0, 10), max_gap=20)
        async with open_device(section, Shared("hall-3")) as driver:
            (sample,) = await poll(driver, 0, 1)
    assert (sample.values, dict(sample.quality)) == ((0, 10), {})


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (1, "illegal-function"),
        (2, "illegal-address"),
        (3, "illegal-address"),
        (4, "device-failure"),
        (7, "negative-acknowledge"),
        (8, "memory-parity-error"),
        (10, "gateway-path-unavailable"),
        (11, "gateway-target-failed"),
        (99, "exception-99"),
    ],
)
async def test_an_exception_is_the_quality_of_its_block_alone(code: int, reason: str) -> None:
    def refuse_50(request: Request) -> None:
        request.send(request.refused(code) if request.start == 50 else request.good())

    async with (
        serving(refuse_50) as peer,
        open_device(device(peer.port, words(1, 50, 100)), Shared("hall-3")) as driver,
    ):
        (sample,) = await poll(driver, 0, 1, 2)
    assert (sample.columns, sample.values, sample.readings) == ((0, 2), (1, 100), 3)
    assert sample.quality == {"r50": f"bad:{reason}"}


async def test_a_gateway_that_reaches_the_unit_for_no_block_is_a_device_error() -> None:
    async with serving(lambda request: request.send(request.refused(0x0B))) as peer:
        async with open_device(device(peer.port, words(1, 50, 100, 150)), Shared("hall-3")) as driver:
            with pytest.raises(DeviceError, match=r"^the gateway .* does not reach unit 1") as error:
                await poll(driver, 0, 1, 2, 3)
        assert len(peer.requests) == 2
    assert error.value.reason == "gateway-target-failed"


async def test_a_unit_that_says_nothing_is_a_device_error_after_one_timeout() -> None:
    async with serving(lambda request: None) as peer:
        async with open_device(device(peer.port, words(1, 50, 100), timeout=SHORT), Shared("hall-3")) as driver:
            with pytest.raises(DeviceError, match=r"^unit 1 at .* does not answer within 0\.3 s") as error:
                await poll(driver, 0, 1, 2)
        assert len(peer.requests) == 1
    assert error.value.reason == "timeout"


async def test_a_block_without_an_answer_costs_no_other_and_two_end_the_waiting() -> None:
    silent = {50}
    async with serving(lambda request: request.start not in silent and request.send(request.good())) as peer:
        section = device(peer.port, words(1, 50, 100, 150), timeout="1s")
        async with open_device(section, Shared("hall-3")) as driver:
            samples = await poll(driver, 0, 1, 2, 3)
            assert [value for sample in samples for value in sample.values] == [1, 100, 150]
            assert {k: v for sample in samples for k, v in sample.quality.items()} == {"r50": "bad:timeout"}
            silent |= {100}
            asked = len(peer.requests)
            (sample,) = await poll(driver, 0, 1, 2, 3)
            assert (sample.values, sample.readings) == ((1,), 4)
            assert sample.quality == dict.fromkeys(("r50", "r100", "r150"), "bad:timeout")
            assert len(peer.requests) - asked == 3


@pytest.mark.parametrize("kind", ["short", "long", "byte-count", "function", "unit", "transaction", "garbage"])
async def test_p5_a_wrong_answer_is_bad_protocol_error_and_the_next_block_is_read_on_a_new_connection(
    kind: Any,
) -> None:
    unit = registers()
    async with (
        ModbusSimulator([unit]) as simulator,
        open_device(device(simulator.port, words(1, 50, 100)), Shared("hall-3")) as driver,
    ):
        unit.faults.wrong(kind, times=1)
        (sample,) = await poll(driver, 0, 1, 2)
        assert (sample.columns, sample.values) == ((1, 2), (50, 100))
        assert sample.quality == {"r1": "bad:protocol-error"}
        assert simulator.connections == 2


async def test_a_unit_that_answers_wrong_all_the_time_is_not_asked_for_every_block() -> None:
    unit = registers()
    unit.faults.wrong("short")
    async with ModbusSimulator([unit]) as simulator:
        async with open_device(device(simulator.port, words(1, 50, 100, 150)), Shared("hall-3")) as driver:
            (sample,) = await poll(driver, 0, 1, 2, 3)
        assert sample.quality == dict.fromkeys(("r1", "r50", "r100", "r150"), "bad:protocol-error")
        assert simulator.requests == 2


async def test_a_connection_lost_in_a_poll_is_a_device_error_that_names_the_device() -> None:
    async with serving(Request.reset) as peer, open_device(device(peer.port, words(1)), Shared("hall-3")) as driver:
        with pytest.raises(DeviceError, match=rf"^127.0.0.1:{peer.port} closed the connection$") as error:
            await poll(driver, 0)
    assert error.value.reason == "connection-lost"
    assert error.value.do


async def test_a_device_that_cannot_be_reached_does_not_open_and_leaves_nothing_behind() -> None:
    shared = Shared("hall-3")
    with closed_port() as port, pytest.raises(DeviceError, match=r"^.* refuses the connection$") as error:
        async with open_device(device(port, words(1)), shared):
            pass
    assert error.value.reason == "connection-lost"
    assert not any(link.is_open for link in shared.links.values())


async def test_a_device_that_closes_the_connection_after_each_answer_is_read_all_the_same() -> None:
    unit = registers()
    unit.faults.close_after_answer()
    async with (
        ModbusSimulator([unit]) as simulator,
        open_device(device(simulator.port, words(1, 50, 100)), Shared("hall-3")) as driver,
    ):
        for _ in range(5):
            (sample,) = await poll(driver, 0, 1, 2)
            assert sample.values == (1, 50, 100)


async def test_a_device_that_was_restarted_between_two_polls_is_read_on_a_new_connection() -> None:
    async with (
        ModbusSimulator([registers()]) as simulator,
        open_device(device(simulator.port, words(1)), Shared("hall-3")) as driver,
    ):
        await poll(driver, 0)
        await simulator.stop()
        await simulator.start()
        (sample,) = await poll(driver, 0)
        assert sample.values == (1,)


async def test_nan_and_bad_text_are_bad_and_cost_no_neighbour() -> None:
    held = list(struct.unpack(">6H", struct.pack(">fIh2s", float("nan"), 7, -5, b"\xff\xfe")))
    async with ModbusSimulator([Unit("plain", 1, holdings=held)]) as simulator:
        tags = [
            {"name": "flow", "address": "holding:0", "type": "float32"},
            {"name": "count", "address": "holding:2", "type": "uint32"},
            {"name": "offset", "address": "holding:4", "type": "int16"},
            {"name": "text", "address": "holding:5", "type": "string", "length": 2},
            {"name": "flag", "address": "holding:3.0", "type": "bool"},
        ]
        async with open_device(device(simulator.port, tags), Shared("hall-3")) as driver:
            (sample,) = await poll(driver, 0, 1, 2, 3, 4)
    assert (sample.columns, sample.values) == ((1, 2, 4), (7, -5, True))
    assert sample.quality == {"flow": "bad:not-a-number", "text": "bad:invalid-string"}
    assert [type(value) for value in sample.values] == [int, int, bool]


async def test_p6_two_units_share_one_connection_and_the_silent_one_does_not_cost_the_other() -> None:
    shared = Shared("hall-3")
    units = [registers(unit_id=1), registers(unit_id=2)]
    units[0].faults.freeze()
    async with ModbusSimulator(units) as simulator:
        dead = device(simulator.port, words(1), unit_id=1, timeout=SHORT)
        alive = device(simulator.port, words(*range(100)), name="press-2", unit_id=2)
        async with open_device(dead, shared) as silent, open_device(alive, shared) as good:
            assert len(shared.links) == 1
            for _ in range(3):
                outcome, samples = await asyncio.gather(
                    poll(silent, 0), poll(good, *range(100)), return_exceptions=True
                )
                assert isinstance(outcome, DeviceError)
                assert outcome.reason == "timeout"
                assert not isinstance(samples, BaseException)
                assert samples[0].values == tuple(range(100))
        assert simulator.connections == 1
        assert not any(link.is_open for link in shared.links.values())


async def test_a_poll_that_is_cancelled_leaves_the_link_to_the_others() -> None:
    shared = Shared("hall-3")
    async with serving(lambda request: request.unit == 2 and request.send(request.good())) as peer:
        slow = device(peer.port, words(1), unit_id=1)
        other = device(peer.port, words(7), name="press-2", unit_id=2)
        async with (
            open_device(slow, shared) as first,
            open_device(other, shared) as second,
            asyncio.TaskGroup() as group,
        ):
            waiting = group.create_task(first.read((0,)), name="waiting")
            await peer.asked(1)
            waiting.cancel()
            (sample,) = await poll(second, 0)
            assert sample.values == (7,)
        assert peer.connections == 1
