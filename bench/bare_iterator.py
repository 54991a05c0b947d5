"""The least that a subscriber can do: asyncua's iterator, whose notifications are counted; a benchmark's baseline."""

import asyncio
import sys
from pathlib import Path

from asyncua import Client, ua

from bench.counter import Counter

COUNT_EVERY = 500


async def main() -> None:
    """Subscribe to every item, and write the count of notifications to a file."""
    endpoint, items, interval_ms, counter = sys.argv[1:]
    async with Client(endpoint) as client:
        subscription = await client.create_subscription(float(interval_ms), queue_maxsize=200_000)
        index = await client.get_namespace_index("urn:bench:plc")
        nodes = [client.get_node(ua.NodeId(f"v{number:05}", index)) for number in range(int(items))]
        for first in range(0, len(nodes), 500):
            await subscription.subscribe_data_change(nodes[first : first + 500], sampling_interval=float(interval_ms))
        count, counted = 0, Counter(Path(counter))
        async with subscription:
            async for _ in subscription:
                count += 1
                if count % COUNT_EVERY == 0:
                    counted.write(count)


asyncio.run(main())
