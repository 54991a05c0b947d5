"""P10: the guard over the whole suite (tests/conftest.py) sees what a client sends, on a wire and at a simulator."""

from typing import Any

import asyncua
import pytest
from asyncua import Client
from opcua_peer import BOUND_S, Peer

from simulators.opcua_faults import changes

ua: Any = asyncua.ua


@pytest.mark.changes_a_plc
@pytest.mark.parametrize("service", ["Write", "Call"])
async def test_the_guard_sees_a_request_that_would_change_the_plc(peer: Peer, service: str) -> None:
    client = Client(peer.endpoint, timeout=BOUND_S)
    await client.connect()
    assert not changes
    await client.uaclient._send_request(getattr(ua, f"{service}Request")(), BOUND_S)
    assert changes == {service: 1}
    await client.disconnect()
