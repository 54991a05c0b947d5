"""What every Modbus transport promises: one set of tests, run over each of them against the simulators."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from gateway.drivers import Device
from gateway.drivers.base import DeviceSection, Driver, Shared
from gateway.drivers.modbus.link import shared_link
from gateway.errors import DeviceError
from gateway.model import Sample
from simulators import (
    Endpoint,
    ModbusRtuOverTcpSimulator,
    ModbusRtuSimulator,
    ModbusSimulator,
    ModbusTlsSimulator,
    ModbusUdpSimulator,
    TlsFiles,
    Unit,
)
from simulators.modbus_faults import WRONGS
from simulators.registers import encode, encode_text
from tests.faults.counter_plc import Audit, CounterUnit, tags_of
from tests.programs import serial_pair

WITHIN_S = 30.0
SHORT_S = 0.25
WAYS = ("tcp", "udp", "tls", "rtu-over-tcp", "rtu")
CONNECTED = ("tcp", "tls", "rtu-over-tcp")
READS = {1, 2, 3, 4}

HELD: dict[str, tuple[dict[str, Any], Any]] = {
    "running": ({"address": "coil:2", "type": "bool"}, True),
    "stopped": ({"address": "coil:3", "type": "bool"}, False),
    "guard": ({"address": "discrete:1999", "type": "bool"}, True),
    "level": ({"address": "holding:0", "type": "int16"}, -2),
    "program": ({"address": "holding:1", "type": "uint16"}, 65534),
    "depth": ({"address": "holding:2", "type": "int32", "byte_order": "CDAB"}, -70_000),
    "strokes": ({"address": "holding:4", "type": "uint32", "byte_order": "BADC"}, 4_000_000_000),
    "balance": ({"address": "holding:6", "type": "int64"}, -(2**40)),
    "total": ({"address": "holding:10", "type": "uint64", "byte_order": "DCBA"}, 2**63 + 1),
    "pressure": ({"address": "holding:14", "type": "float32", "byte_order": "CDAB"}, 21.5),
    "energy": ({"address": "holding:16", "type": "float64"}, 1.1),
    "serial": ({"address": "input:100", "type": "string", "length": 7}, "EG-0001"),
    "alarm": ({"address": "input:65535.5", "type": "bool"}, True),
    "quiet": ({"address": "input:65535.4", "type": "bool"}, False),
}


def typed() -> Unit:
    """A unit that holds `HELD`, and not a register more."""
    holdings: dict[int, int] = {}
    for keys, value in HELD.values():
        table, _, address = keys["address"].partition(":")
        if table == "holding":
            words = encode(value, keys["type"], keys.get("byte_order", "ABCD"))
            holdings.update(enumerate(words, start=int(address)))
    inputs = dict(enumerate(encode_text(b"EG-0001", 8), start=100)) | {65535: 1 << 5}
    return Unit("typed", 7, coils={2: 1, 3: 0}, discretes={1999: 1}, holdings=holdings, inputs=inputs)


def plain(unit_id: int = 1) -> Unit:
    """A unit whose registers tell their own address and the unit."""
    return Unit(f"plain-{unit_id}", unit_id, holdings=[unit_id * 1000 + at for at in range(300)])


def words(*addresses: int) -> list[dict[str, Any]]:
    return [{"name": f"r{at}", "address": f"holding:{at}", "type": "uint16"} for at in addresses]


@dataclass
class Line:
    """Simulated units on one transport, and the config of devices that are read there."""

    endpoint: Endpoint
    keys: dict[str, Any]
    shared: Shared

    def section(self, tags: Sequence[dict[str, Any]], unit_id: int = 1, **keys: Any) -> DeviceSection:
        whole = {"name": f"press-{unit_id}", "unit_id": unit_id, "timeout": "10s", **self.keys, **keys, "tags": tags}
        section: DeviceSection = TypeAdapter(Device).validate_python(whole)
        return section

    @asynccontextmanager
    async def opened(self, tags: Sequence[dict[str, Any]], unit_id: int = 1, **keys: Any) -> AsyncIterator[Driver]:
        async with self.section(tags, unit_id, **keys).open(self.shared) as driver:
            yield driver


Lines = Callable[..., "asyncio.Future[Line]"]


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return TlsFiles.of(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def serve(way: str, files: TlsFiles, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Put units on the transport; afterwards, whatever the test did, nothing but reads was on the wire (P10)."""
    made: list[Line] = []
    async with AsyncExitStack() as stack:

        async def put(*units: Unit) -> Line:
            endpoint, keys = await _endpoint(way, units, files, tmp_path, stack)
            await stack.enter_async_context(endpoint)
            where = endpoint.where
            place = {"host": where["host"], "port": where["port"]} if "host" in where else {}
            made.append(Line(endpoint, {**keys, **place}, Shared("hall-3")))
            return made[-1]

        yield put
        for line in made:
            assert line.endpoint.function_codes <= READS | {43}
            assert line.endpoint.mei_types <= {14}
            assert line.shared.links == {} or all(not link.users for link in line.shared.links.values())


async def _endpoint(
    way: str, units: Sequence[Unit], files: TlsFiles, folder: Path, stack: AsyncExitStack
) -> tuple[Endpoint, dict[str, Any]]:
    match way:
        case "tcp":
            return ModbusSimulator(units), {"protocol": "modbus-tcp"}
        case "udp":
            return ModbusUdpSimulator(units), {"protocol": "modbus-udp"}
        case "tls":
            tls = {"cert_file": files.client, "key_file": files.client_key, "ca_file": files.authority}
            keys = {"protocol": "modbus-tls", "tls": {key: str(path) for key, path in tls.items()}}
            return ModbusTlsSimulator(units, files), keys
        case "rtu-over-tcp":
            return ModbusRtuOverTcpSimulator(units), {"protocol": "modbus-rtu-over-tcp"}
        case _:
            ours, theirs = await stack.enter_async_context(serial_pair(folder))
            keys = {"protocol": "modbus-rtu", "serial": {"port": ours, "parity": "N"}}
            return ModbusRtuSimulator(units, port=theirs, parity="N"), keys


async def poll(driver: Driver, count: int, *columns: int) -> tuple[Sample, ...]:
    return await asyncio.wait_for(driver.read(columns or tuple(range(count))), WITHIN_S)


def values(samples: Sequence[Sample]) -> dict[int, Any]:
    return {at: value for sample in samples for at, value in zip(sample.columns, sample.values, strict=True)}


def qualities(samples: Sequence[Sample]) -> dict[str, str]:
    return {name: quality for sample in samples for name, quality in sample.quality.items()}


async def good(driver: Driver, count: int) -> dict[int, Any]:
    """Poll once; a device that cannot be read as a whole has no values."""
    try:
        return values(await poll(driver, count))
    except DeviceError:
        return {}


async def whole(driver: Driver, count: int) -> dict[int, Any]:
    """Poll until every tag has a value, as the poller would: a device that just came to may need a moment."""
    async with asyncio.timeout(WITHIN_S):
        while True:
            try:
                found = values(await driver.read(tuple(range(count))))
            except DeviceError:
                await asyncio.sleep(0.05)  # the pace of trying again
                continue
            if len(found) == count:
                return found


async def test_every_table_and_type_is_read_as_the_device_holds_it(serve: Any) -> None:
    line = await serve(typed())
    tags = [{"name": name, **keys} for name, (keys, _) in HELD.items()]
    async with line.opened(tags, 7) as driver:
        for _ in range(2):
            samples = await poll(driver, len(tags))
            assert qualities(samples) == {}
            assert [values(samples)[at] for at in range(len(tags))] == [value for _, value in HELD.values()]
    assert line.endpoint.function_codes == READS
    assert line.endpoint.overlapping == 0


async def test_p6_a_refused_register_is_bad_and_costs_no_neighbour_a_cycle(serve: Any) -> None:
    unit = plain()
    unit.faults.refuse("holding", [57])
    line = await serve(unit)
    async with line.opened(words(*range(100))) as driver:
        for _ in range(2):
            samples = await poll(driver, 100)
            assert qualities(samples) == {"r57": "bad:illegal-address"}
            assert values(samples) == {at: 1000 + at for at in range(100) if at != 57}


async def test_p5_no_wrong_answer_is_ever_a_value_and_the_next_poll_is_right(serve: Any) -> None:
    unit = plain()
    line = await serve(unit)
    blocks = (1, 50, 100, 150)
    held = {column: 1000 + address for column, address in enumerate(blocks)}
    async with line.opened(words(*blocks), timeout="250ms") as driver:
        for kind in WRONGS:
            unit.faults.wrong(kind, times=1)
            assert (await good(driver, 4)).items() <= held.items(), kind
            assert await whole(driver, 4) == held, kind


async def test_p5_a_unit_that_answers_wrong_all_the_time_has_no_values_and_comes_back(serve: Any) -> None:
    unit = plain()
    line = await serve(unit)
    async with line.opened(words(1, 50), timeout="250ms") as driver:
        for kind in ("short", "unit", "check", "half"):
            unit.faults.wrong(kind)
            for _ in range(2):
                assert await good(driver, 2) == {}, kind
            unit.faults.clear()
            assert await whole(driver, 2) == {0: 1001, 1: 1050}, kind


async def test_p6_a_silent_unit_is_a_device_error_and_is_read_again_once_it_answers(serve: Any) -> None:
    unit = plain()
    unit.faults.freeze()
    line = await serve(unit)
    async with line.opened(words(1, 50), timeout="250ms") as driver:
        with pytest.raises(DeviceError, match=r"does not answer") as error:
            await poll(driver, 2)
        assert error.value.reason == "timeout"
        unit.faults.resume()
        assert await whole(driver, 2) == {0: 1001, 1: 1050}


async def test_p5_answers_that_come_after_their_timeout_are_never_taken_for_others(serve: Any) -> None:
    """Each value of this unit tells its address and when it was read; all requests are of the same size."""
    unit = CounterUnit(1)
    line = await serve(unit)
    tags = tags_of([("holding", 0), ("holding", 128), ("holding", 256)])
    section = line.section(tags, timeout="150ms")
    audit = Audit(unit, section.tags)
    async with section.open(line.shared) as driver:
        for late_s in (0.0, 0.16, 0.21, 0.29, 0.4):
            unit.faults.delay(late_s)
            try:
                audit.take(await poll(driver, len(section.tags)))
            except DeviceError:
                audit.take(())
            unit.faults.delay(0)
            for _ in range(2):
                try:
                    audit.take(await poll(driver, len(section.tags)))
                except DeviceError:
                    audit.take(())
    assert audit.wrong == []
    assert audit.checked >= 2 * len(section.tags)


async def test_a_device_that_closes_idle_connections_is_read_without_an_error(serve: Any) -> None:
    line = await serve(plain())
    async with line.opened(words(1, 50)) as driver:
        for _ in range(3):
            assert values(await poll(driver, 2)) == {0: 1001, 1: 1050}
            line.endpoint.cut()
            await asyncio.sleep(0.02)  # the end of the connection arrives, or it does not yet


async def test_a_device_that_closes_after_each_answer_is_read_without_an_error(serve: Any) -> None:
    unit = plain()
    unit.faults.close_after_answer()
    line = await serve(unit)
    async with line.opened(words(1, 50, 100)) as driver:
        for _ in range(3):
            assert values(await poll(driver, 3)) == {0: 1001, 1: 1050, 2: 1100}


async def test_p11_a_device_that_was_restarted_is_read_again(serve: Any) -> None:
    line = await serve(plain())
    async with line.opened(words(1, 50), timeout="250ms") as driver:
        assert await whole(driver, 2) == {0: 1001, 1: 1050}
        await line.endpoint.stop()
        with pytest.raises(DeviceError) as error:
            await poll(driver, 2)
        assert error.value.reason in {"timeout", "connection-lost"}
        await line.endpoint.start()
        assert await whole(driver, 2) == {0: 1001, 1: 1050}


async def test_units_of_one_link_share_a_connection_with_one_request_in_flight(serve: Any) -> None:
    units = [plain(number) for number in (1, 2, 3, 4)]
    line = await serve(*units)
    line.endpoint.faults.delay(0.01)
    async with AsyncExitStack() as stack:
        drivers = [await stack.enter_async_context(line.opened(words(1, 50), unit.unit_id)) for unit in units]
        for _ in range(3):
            polls = await asyncio.gather(*(poll(driver, 2) for driver in drivers))
            for unit, samples in zip(units, polls, strict=True):
                assert values(samples) == {0: unit.unit_id * 1000 + 1, 1: unit.unit_id * 1000 + 50}
    assert (line.endpoint.connections, line.endpoint.overlapping) == (1, 0)
    assert [unit.requests for unit in units] == [6, 6, 6, 6]


async def test_p6_a_silent_unit_does_not_cost_the_others_of_its_link_their_polls(serve: Any) -> None:
    units = [plain(1), plain(2)]
    units[0].faults.freeze()
    line = await serve(*units)
    async with (
        line.opened(words(1), 1, timeout="250ms") as silent,
        line.opened(words(*range(100)), 2, timeout="250ms") as good,
    ):
        for _ in range(3):
            outcome, samples = await asyncio.gather(poll(silent, 1), poll(good, 100), return_exceptions=True)
            assert isinstance(outcome, DeviceError)
            assert not isinstance(samples, BaseException)
            assert values(samples) == {at: 2000 + at for at in range(100)}
    assert line.endpoint.connections == 1


async def test_p5_after_a_cancelled_read_the_next_one_gets_its_own_values(serve: Any) -> None:
    unit = CounterUnit(1)
    line = await serve(unit)
    section = line.section(tags_of([("holding", 0), ("holding", 128)]), timeout="250ms")
    first = [at for at, tag in enumerate(section.tags) if tag.register < 128]
    second = [at for at, tag in enumerate(section.tags) if tag.register >= 128]
    audit = Audit(unit, section.tags)
    async with section.open(line.shared) as driver, asyncio.TaskGroup() as group:
        audit.take(await poll(driver, 0, *first))
        for delay_s in (0.0, 0.02, 0.2):
            unit.faults.delay(delay_s)
            asked = line.endpoint.requests
            reading = group.create_task(driver.read(tuple(first)), name="reading")
            while line.endpoint.requests == asked and not reading.done():
                await asyncio.sleep(0)
            reading.cancel()
            audit.take(())
            unit.faults.delay(0)
            audit.take(await poll(driver, 0, *second))
            assert audit.wrong == []
            assert audit.checked


@pytest.mark.parametrize("way", CONNECTED, indirect=True)
async def test_a_connection_that_is_cut_in_flight_is_a_device_error_at_once_or_is_made_anew(serve: Any) -> None:
    unit = plain()
    line = await serve(unit)
    async with line.opened(words(1), timeout="20s") as driver, asyncio.TaskGroup() as group:
        await poll(driver, 1)
        unit.faults.freeze()
        reading = group.create_task(whole(driver, 1), name="reading")
        asked = line.endpoint.requests
        async with asyncio.timeout(WITHIN_S):
            while line.endpoint.requests == asked:
                await asyncio.sleep(0)
        unit.faults.resume()
        line.endpoint.cut()
        assert await asyncio.wait_for(reading, 10) == {0: 1001}


async def test_a_unit_says_who_it_is(serve: Any) -> None:
    line = await serve(
        plain(1), Unit("mute", 2, identity={}), Unit("long", 3, identity=dict.fromkeys(range(7), "x" * 99))
    )
    with shared_link(line.shared, line.section(words(1))) as link:
        await link.connect(5.0)
        assert (await link.identify(1, timeout=5.0))[1] == "PLAIN-1"
        assert await link.identify(2, timeout=5.0) == 1
        assert await link.identify(3, timeout=5.0) == dict.fromkeys(range(7), "x" * 99)
    assert line.endpoint.mei_types == {14}


async def test_p11_a_serial_adapter_that_is_unplugged_comes_back_when_it_is_plugged_in_again() -> None:
    async with ModbusRtuSimulator([plain()]) as line:
        keys = {"protocol": "modbus-rtu", "serial": {"port": line.port, "parity": "N"}}
        section = Line(line, keys, Shared("hall-3")).section(words(1), timeout="250ms")
        async with section.open(Shared("hall-3")) as driver:
            assert await whole(driver, 1) == {0: 1001}
            await line.stop()
            with pytest.raises(DeviceError) as error:
                await poll(driver, 1)
            assert error.value.reason == "connection-lost"
            await line.start()
            assert await whole(driver, 1) == {0: 1001}


async def test_a_paced_line_hears_no_request_before_its_silence_is_over() -> None:
    async with ModbusRtuSimulator([plain(1), plain(2)], baudrate=9600, paced=True) as line:
        keys = {"protocol": "modbus-rtu", "serial": {"port": line.port, "parity": "N", "baudrate": 9600}}
        place = Line(line, keys, Shared("hall-3"))
        async with place.opened(words(1, 5), 1) as one, place.opened(words(2), 2) as two:
            for _ in range(5):
                polls = await asyncio.gather(poll(one, 2), poll(two, 1))
                assert [values(samples) for samples in polls] == [{0: 1001, 1: 1005}, {0: 2002}]
        assert (line.crowded, line.overlapping) == (0, 0)
