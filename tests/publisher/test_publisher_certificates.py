"""Certificates and keys for the broker turn over on disk, one file after the other, and nobody restarts the gateway."""

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

from gateway.model import MqttState
from tests.broker import Broker, require_mosquitto
from tests.publisher.line import Line, meta, sample, section


@dataclass
class Files:
    """What `mqtt.tls` of a gateway names: files of its own, not the broker's."""

    folder: Path

    def renew(self, authority: trustme.CA, *, trusts: tuple[trustme.CA, ...], until: datetime | None = None) -> None:
        """Put a new certificate with its key there, and the CAs that are trusted."""
        leaf = authority.issue_cert("hall-3", common_name="hall-3", not_after=until)
        leaf.cert_chain_pems[0].write_to_path(self.folder / "client.pem")
        leaf.private_key_pem.write_to_path(self.folder / "client.key")
        (self.folder / "ca.pem").write_bytes(b"".join(ca.cert_pem.bytes() for ca in trusts))

    @property
    def tls(self) -> dict[str, Any]:
        names = {"ca_file": "ca.pem", "cert_file": "client.pem", "key_file": "client.key"}
        return {key: str(self.folder / name) for key, name in names.items()}


@pytest.fixture
def files(tmp_path: Path) -> Files:
    require_mosquitto()
    return Files(tmp_path)


async def test_a_new_ca_for_both_sides_is_a_change_of_files_only(tmp_path: Path, files: Files) -> None:
    old, new = trustme.CA(), trustme.CA()
    with Broker(tmp_path / "broker", authority=old, client_certificates=True) as broker:
        files.renew(old, trusts=(old,))
        line = Line(section(broker, tls=files.tls))
        async with line.running():
            await line.until(MqttState.CONNECTED)
            files.renew(new, trusts=(old, new))  # in time: the connection stands, and the broker knows the old CA only
            line.rows.put(meta(), sample(1))
            await line.rows.until_empty()
            broker.stop()
            new.cert_pem.write_to_path(broker.ca_file)
            broker.use_certificate(new.issue_cert("localhost"))
            broker.start()
            line.rows.put(meta(), sample(2))
            await line.rows.until_empty()
            assert line.component.state is MqttState.CONNECTED


async def test_a_certificate_without_its_key_is_told_and_loses_nothing_until_the_key_comes(
    tmp_path: Path, files: Files
) -> None:
    """Between the writing of the two files a broken connection meets half a pair."""
    authority = trustme.CA()
    with Broker(tmp_path / "broker", authority=authority, client_certificates=True) as broker:
        files.renew(authority, trusts=(authority,))
        line = Line(section(broker, tls=files.tls))
        async with line.running():
            await line.until(MqttState.CONNECTED)
            broker.stop()
            leaf = authority.issue_cert("hall-3", common_name="hall-3")
            leaf.cert_chain_pems[0].write_to_path(tmp_path / "client.pem")
            broker.start()
            line.rows.put(meta(), sample(1), sample(2))
            await line.until(MqttState.CERTIFICATE_ERROR)
            assert "key values mismatch" in str(line.component.error)
            assert "belong together" in str(line.component.do)
            assert line.rows.acknowledged == []
            leaf.private_key_pem.write_to_path(tmp_path / "client.key")
            await line.rows.until_empty()


async def test_a_certificate_that_ends_while_it_is_in_use_ends_nothing_and_its_successor_is_used_at_the_next_connect(
    tmp_path: Path, files: Files
) -> None:
    authority = trustme.CA()
    with Broker(tmp_path / "broker", authority=authority, client_certificates=True) as broker:
        end = datetime.now(UTC) + timedelta(seconds=5)
        files.renew(authority, trusts=(authority,), until=end)
        line = Line(section(broker, tls=files.tls))
        async with line.running():
            await line.until(MqttState.CONNECTED)
            await asyncio.sleep((end - datetime.now(UTC)).total_seconds() + 1)  # until it has ended
            line.rows.put(meta(), sample(1))
            await line.rows.until_empty()
            assert line.component.state is MqttState.CONNECTED
            broker.restart()
            await line.until(MqttState.CERTIFICATE_ERROR)
            line.rows.put(meta(), sample(2))
            files.renew(authority, trusts=(authority,))
            await line.rows.until_empty()
