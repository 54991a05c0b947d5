"""A PLC whose clock runs local time."""

from datetime import UTC, datetime

import pytest
from opcua_peer import SHARED, Peer, section
from pydantic import ValidationError

from gateway.drivers.opcua.local_time import LocalClock
from gateway.drivers.opcua.section import OpcuaDevice

OSLO = LocalClock("Europe/Oslo")
HOUR = 3_600_000


def ms(*moment: int) -> int:
    return int(datetime(*moment, tzinfo=UTC).timestamp()) * 1000  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(("month", "hours"), [(1, 1), (7, 2)])
def test_local_time_becomes_utc_in_winter_and_in_summer(month: int, hours: int) -> None:
    local = ms(2026, month, 2, 12)
    assert OSLO.utc(local, local) == local - hours * HOUR


def test_the_hour_that_comes_twice_is_told_apart_by_when_it_was_received() -> None:
    first, second = ms(2026, 10, 25, 0, 30), ms(2026, 10, 25, 1, 30)
    local = ms(2026, 10, 25, 2, 30)
    assert OSLO.utc(local, first + 200) == first
    assert OSLO.utc(local, second + 200) == second


def test_a_time_that_the_change_skips_is_taken_as_not_put_forward_yet() -> None:
    assert OSLO.utc(ms(2026, 3, 29, 2, 30), ms(2026, 3, 29, 1, 30)) == ms(2026, 3, 29, 1, 30)


def test_a_time_for_which_no_zone_has_rules_stays() -> None:
    assert OSLO.utc(10**18, 0) == 10**18


async def test_source_timestamps_of_a_local_clock_are_sent_as_utc(peer: Peer) -> None:
    await peer.add(speed=1.5)
    await peer.write("speed", 2.5, ts=datetime(2026, 7, 2, 12, tzinfo=UTC))
    for mode in ("poll", "subscribe"):
        device = section(peer, ["speed"], timezone="Europe/Oslo", mode=mode)
        async with device.open(SHARED) as driver:
            if mode == "poll":
                (sample,) = await driver.read((0,))
            else:
                (sample,) = (await anext(driver.changes())).samples
        assert (sample.ts, sample.values) == (ms(2026, 7, 2, 10), (2.5,))


@pytest.mark.parametrize("keys", [{"timezone": "Europe/Olso"}, {"timezone": "Europe/Oslo", "timestamp": "server"}])
def test_a_timezone_that_means_nothing_is_refused(keys: dict[str, str]) -> None:
    plain = {"policy": "None", "insecure": True}
    given = {"name": "plc", "protocol": "opcua", "endpoint": "opc.tcp://192.0.2.1", "security": plain, "tags": []}
    with pytest.raises(ValidationError):
        OpcuaDevice.model_validate({**given, **keys})
