"""mbpoll, a Modbus master of others, reads the simulators: what they speak is not our own dialect."""

import asyncio
import re
from pathlib import Path

import pytest

from simulators import ModbusRtuSimulator, ModbusSimulator, Unit
from tests.programs import require_program, serial_pair

WITHIN_S = 30.0


@pytest.fixture
def unit() -> Unit:
    return Unit("plain", 3, coils=[1, 0, 1, 1], discretes={7: 1}, holdings=range(200), inputs={100: 7, 101: 65535})


async def mbpoll(*arguments: str) -> dict[int, str]:
    """Read once; gives what it prints for each reference."""
    command = (require_program("mbpoll", "mbpoll"), "-0", "-1", "-o", "10", *arguments)
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said = (await asyncio.wait_for(process.communicate(), WITHIN_S))[0].decode()
    assert process.returncode == 0, said
    return {int(at): value for at, value in re.findall(r"^\[(\d+)\]:\s+(\S+)", said, re.MULTILINE)}


READS = [
    ("0", "0", "4", {0: "1", 1: "0", 2: "1", 3: "1"}),
    ("1", "7", "1", {7: "1"}),
    ("4", "5", "125", {at: str(at) for at in range(5, 130)}),
    ("3:hex", "100", "2", {100: "0x0007", 101: "0xFFFF"}),
]


async def test_mbpoll_reads_every_table_over_tcp(unit: Unit) -> None:
    async with ModbusSimulator([unit]) as simulator:
        for table, start, count, held in READS:
            place = ("-m", "tcp", "-p", str(simulator.port), "-a", "3", "-t", table, "-r", start, "-c", count)
            assert await mbpoll(*place, simulator.host) == held
        assert simulator.function_codes == {1, 2, 3, 4}


@pytest.mark.parametrize("own", [True, False], ids=["own pseudo-terminal", "given port"])
async def test_mbpoll_reads_every_table_on_a_serial_line(unit: Unit, tmp_path: Path, own: bool) -> None:
    async with serial_pair(tmp_path) as (ours, theirs):
        line = ModbusRtuSimulator([unit]) if own else ModbusRtuSimulator([unit], port=theirs, parity="N")
        async with line as simulator:
            for table, start, count, held in READS:
                place = ("-m", "rtu", "-b", "19200", "-P", "none", "-a", "3", "-t", table, "-r", start, "-c", count)
                assert await mbpoll(*place, simulator.port if own else ours) == held
            assert simulator.function_codes == {1, 2, 3, 4}
            assert simulator.overlapping == 0


async def test_mbpoll_is_refused_what_a_unit_does_not_have(unit: Unit) -> None:
    async with ModbusSimulator([unit]) as simulator:
        with pytest.raises(AssertionError, match="Illegal data address"):
            await mbpoll("-m", "tcp", "-p", str(simulator.port), "-a", "3", "-r", "199", "-c", "2", simulator.host)
