"""A PLC's certificate is unknown, is trusted with the command that health names, and data flows; then it gets another.

Nobody restarts anything: the commands are those of the messages, run as they are written there.
"""

import asyncio
import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.broker import Broker, Consumer
from tests.end_to_end.opcua_line import samples
from tests.end_to_end.rig import WITHIN_S, Gateway, configure, plant, running

pytestmark = pytest.mark.timeout(240)

ROBOT = "robot-1"
BACK_OFF_S = 5.0
"""The longest pause between two attempts to connect."""
CONNECTING_S = 10.0


async def edge_gateway(*arguments: str) -> str:
    """Run a command as an operator does; gives what it prints."""
    command = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(command.communicate(), WITHIN_S)
    assert (command.returncode, err) == (0, b"")
    return out.decode()


def told(health: dict[str, Any], verb: str) -> list[str]:
    """Take a command out of the sentence that says what to do about the robot."""
    do = next(reason["do"] for reason in health["reasons"] if reason.get("device") == ROBOT)
    found = re.search(rf"edge-gateway (certs --pki-dir [^ ]+ {verb} [0-9a-f]{{64}})", do)
    assert found is not None, do
    return shlex.split(found[1])


async def trust_what_was_rejected(gateway: Gateway, certificate: Path) -> None:
    """Do what an operator does: list, show, compare with the PLC's own screen, trust."""
    sha256 = x509.load_der_x509_certificate(certificate.read_bytes()).fingerprint(hashes.SHA256()).hex()
    refused = await gateway.until(
        lambda now: now["devices"][ROBOT]["state"] == "certificate-error" and sha256 in json.dumps(now["reasons"])
    )
    listed = await edge_gateway("certs", "-c", str(gateway.config_file), "list")
    assert sha256[:16] in listed.partition("rejected")[2]
    shown = await edge_gateway(*told(refused, "show"))
    assert sha256 in shown.lower().replace(":", "")
    assert "is trusted" not in shown
    await edge_gateway(*told(refused, "trust"))


async def values_flow(consumer: Consumer) -> None:
    """Wait for a value that comes from now on, as long as the back-off and a connect may take."""
    mark = len(consumer.messages)
    await consumer.until(
        lambda all_: any("counter" in sample.get("values", {}) for sample in samples(all_[mark:], ROBOT)),
        within=BACK_OFF_S + CONNECTING_S,
    )


async def test_an_unknown_plc_and_a_plc_with_a_new_certificate_are_each_trusted_with_the_command_that_is_told(
    tmp_path: Path,
) -> None:
    async with plant(tmp_path, "--pki-dir", str(tmp_path / "plant-pki")) as simulated:
        certificate = Path(simulated.where["opcua"]["certificate"])
        with Broker(tmp_path / "broker") as broker:
            consumer = await broker.subscribe("#")
            config = configure(tmp_path, simulated.where, broker)
            config["devices"] = [device for device in config["devices"] if device["name"] == ROBOT]
            shutil.rmtree(tmp_path / "pki")  # nobody has trusted anything yet, nor made a certificate
            async with running(Gateway(tmp_path, config)) as gateway:
                await trust_what_was_rejected(gateway, certificate)
                await values_flow(consumer)
                await simulated.order(ROBOT, "renew_certificate")
                await trust_what_was_rejected(gateway, certificate)
                await values_flow(consumer)
                health = await gateway.until(lambda now: now["devices"][ROBOT]["state"] == "ok")
                assert health["devices"][ROBOT]["ledger"]["unaccounted"] == 0
                assert "Traceback" not in gateway.said
