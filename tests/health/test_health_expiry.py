"""The log tells of a certificate's end 30, 7 and 1 days before: once each, not every hour."""

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from gateway.files import CertificateFile
from gateway.health.certificates import CertificateFiles
from gateway.health.expiry import ExpiryLog, tell_of_expiry
from gateway.health.parts import Certificate

END = datetime(2030, 3, 1, tzinfo=UTC)
CERTIFICATE = Certificate("mqtt client", int(END.timestamp() * 1000), "Replace it.")


@pytest.fixture(autouse=True)
def level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.health.expiry")


def at(days_before: float) -> int:
    return int((END - timedelta(days=days_before)).timestamp() * 1000)


def test_of_every_hour_until_the_end_four_are_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    expiry = ExpiryLog()
    for hour in range(40 * 24 + 30):
        expiry.tell([CERTIFICATE], at(40 - hour / 24))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "The certificate 'mqtt client' expires in 30 days, on 2030-03-01. Replace it."),
        ("WARNING", "The certificate 'mqtt client' expires in 7 days, on 2030-03-01. Replace it."),
        ("ERROR", "The certificate 'mqtt client' expires in 1 day, on 2030-03-01. Replace it."),
        ("ERROR", "The certificate 'mqtt client' expired on 2030-03-01. Replace it."),
    ]


def test_a_gateway_that_starts_late_tells_once(caplog: pytest.LogCaptureFixture) -> None:
    expiry = ExpiryLog()
    for hour in range(12):
        expiry.tell([CERTIFICATE], at(5 - hour / 24))
    assert len(caplog.records) == 1


def test_a_renewed_certificate_is_told_of_anew(caplog: pytest.LogCaptureFixture) -> None:
    expiry = ExpiryLog()
    expiry.tell([CERTIFICATE], at(3))
    expiry.tell([Certificate("mqtt client", at(-2))], at(3))
    assert len(caplog.records) == 2


async def test_the_files_of_a_running_gateway_are_looked_at(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "client.pem"
    soon = datetime.now(UTC) + timedelta(days=6, hours=12)
    trustme.CA().issue_cert("localhost", not_after=soon).cert_chain_pems[0].write_to_path(path)
    task = asyncio.create_task(tell_of_expiry(CertificateFiles({"mqtt client": CertificateFile(path)})))
    await asyncio.sleep(0)
    task.cancel()
    assert [record.getMessage() for record in caplog.records] == [
        f"The certificate 'mqtt client' expires in 6 days, on {soon:%Y-%m-%d}. Replace it."
    ]
