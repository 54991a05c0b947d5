"""What waits to be taken from a subscription keeps nothing else from its turn."""

import asyncio
from itertools import count

from opcua_peer import BOUND_S, SHARED, Peer, section


async def test_between_two_answers_that_have_both_come_others_get_their_turn(peer: Peer) -> None:
    await peer.add(count=0)
    async with section(peer, ["count"], mode="subscribe", interval="100ms").open(SHARED) as driver:
        changes = driver.changes()
        numbers = count(1)
        async with asyncio.timeout(BOUND_S):
            for _ in range(2):
                await anext(changes)
                await peer.write("count", next(numbers))
            while driver._follower._publishing._answers.qsize() < 2:  # type: ignore[attr-defined]
                await peer.write("count", next(numbers))
                await asyncio.sleep(0.05)  # the pace of writing
        turns: list[int] = []
        for turn in range(2):
            asyncio.get_running_loop().call_soon(turns.append, turn)
            await anext(changes)
        assert turns == [0, 1]
