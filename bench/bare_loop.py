"""The least that could be called a gateway: read, encode, insert, commit, publish; the baseline of a benchmark."""

import asyncio
import sqlite3
import ssl
import sys
import time
from pathlib import Path

import aiomqtt
import orjson
from pymodbus.client import AsyncModbusTcpClient

from bench.counter import Counter

UNITS = 10
REGISTERS = 1000
BLOCK = 125
INTERVAL_S = 0.1


async def poll(
    unit: int, host: str, port: int, client: aiomqtt.Client, db: sqlite3.Connection, count: list[int]
) -> None:
    """Read one unit for ever, at its rate."""
    names = [f"r{n:04}" for n in range(REGISTERS)]
    modbus = AsyncModbusTcpClient(host, port=port, retries=0)
    await modbus.connect()
    due = time.monotonic()
    while True:
        registers: list[int] = []
        for start in range(1000, 1000 + REGISTERS, BLOCK):
            answer = await modbus.read_holding_registers(start, count=BLOCK, device_id=unit)
            registers += answer.registers
        payload = orjson.dumps({"ts": time.time_ns() // 1_000_000, "values": dict(zip(names, registers, strict=True))})
        db.execute("INSERT INTO readings(payload) VALUES (?)", (payload,))
        db.commit()
        await client.publish(f"bare/{unit}/data", payload, qos=1)
        count[0] += REGISTERS
        due += INTERVAL_S
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def main() -> None:
    """Run all units over one broker connection, and write the count of readings to a file."""
    host, port, broker, broker_port, ca_file, counter = sys.argv[1:]
    db = sqlite3.connect(Path(counter).with_suffix(".db"))
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("PRAGMA synchronous=FULL")
    db.execute("CREATE TABLE readings(id INTEGER PRIMARY KEY, payload BLOB)")
    count, counted = [0], Counter(Path(counter))
    client = aiomqtt.Client(
        broker, int(broker_port), protocol=aiomqtt.ProtocolVersion.V5,
        tls_context=ssl.create_default_context(cafile=ca_file),
    )  # fmt: skip
    client.pending_calls_threshold = 1_000_000
    async with client, asyncio.TaskGroup() as group:
        for unit in range(11, 11 + UNITS):
            group.create_task(poll(unit, host, int(port), client, db, count))
        while True:
            counted.write(count[0])
            await asyncio.sleep(0.5)


asyncio.run(main())
