"""A real MQTT broker for tests: mosquitto, or amqtt where there is none, on a free port of 127.0.0.1, over TLS."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Self

import pytest
import trustme
import yaml

from tests.consumer import Consumer, Received

__all__ = ["Broker", "Consumer", "Received", "free_port", "mosquitto", "require_mosquitto"]

START_S = 30.0
"""How long a broker may take to start; far more than it needs."""


def mosquitto() -> str | None:
    """Where mosquitto is; Debian keeps it outside an ordinary user's path."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def require_mosquitto() -> None:
    """Skip a test that only mosquitto can serve, where it is not installed; in CI that is a failure."""
    if mosquitto() is not None:
        return
    if os.environ.get("CI"):
        pytest.fail("CI must have mosquitto: reason codes and MQTT 5 are tested against it")
    pytest.skip("mosquitto is not installed: apt-get install mosquitto")


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody listens on now, and that stays its owner's while he stops and starts.

    It lies below those that the kernel hands out of its own accord, and a process gives it once; processes that run
    side by side begin far apart.
    """
    for port in _ports:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no port of 127.0.0.1 is free")


_FIRST_PORT, _LAST_PORT = 15_000, 32_000
_start = random.Random(os.getpid()).randrange(_FIRST_PORT, _LAST_PORT)
_ports = itertools.chain(range(_start, _LAST_PORT), range(_FIRST_PORT, _start))


class Broker:
    """A broker on one port for its whole life, stopped or killed and started again as a test wants.

    `acl` is the text of a mosquitto ACL file; `write_acl` replaces it while the broker runs. With `persistent` it
    remembers sessions and retained messages over restarts. `settings` are further lines of mosquitto.conf.
    """

    def __init__(
        self,
        folder: Path,
        *,
        authority: trustme.CA | None = None,
        certificate: trustme.LeafCert | None = None,
        plain: bool = False,
        client_certificates: bool = False,
        acl: str | None = None,
        persistent: bool = False,
        settings: str = "",
        kind: str | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.host = "localhost"
        self.kind = kind or ("mosquitto" if mosquitto() else "amqtt")
        if self.kind == "amqtt" and (client_certificates or acl is not None or settings):
            require_mosquitto()
        self.plain = plain
        self.authority = authority or trustme.CA()
        self.ca_file = folder / "ca.pem"
        self.acl_file = folder / "acl"
        self._client_certificates = client_certificates
        self._acl = acl
        self._persistent = persistent
        self._settings = settings
        self._process: subprocess.Popen[str] | None = None
        self._log = _Log()
        self._consumers: list[Consumer] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.use_certificate(certificate or self.authority.issue_cert("localhost", "127.0.0.1"))
        if acl is not None:
            self.acl_file.write_text(acl)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for consumer in self._consumers:
            consumer.close()
        self.kill()

    def use_certificate(self, certificate: trustme.LeafCert) -> None:
        """Identify as this from the next start on."""
        certificate.private_key_and_cert_chain_pem.write_to_path(self.folder / "server.pem")

    def client_certificate(self, name: str, authority: trustme.CA | None = None, **validity: Any) -> tuple[Path, Path]:
        """Issue a client certificate; gives its file and its key's file."""
        leaf = (authority or self.authority).issue_cert(name, common_name=name, **validity)
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        leaf.cert_chain_pems[0].write_to_path(certificate)
        leaf.private_key_pem.write_to_path(key)
        return certificate, key

    def start(self) -> None:
        """Start on the same port as ever; returns when it takes connections."""
        assert self._process is None, "it runs already"
        command = self._mosquitto() if self.kind == "mosquitto" else self._amqtt()
        self._log = _Log()
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        threading.Thread(target=self._log.read, args=(self._process.stderr,), daemon=True).start()
        self.wait_for_log(" running", "Broker started")

    def stop(self) -> None:
        """End it politely: it saves what it is to remember."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start on the same port."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Make it answer nothing until `thaw`, with its connections open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def write_acl(self, acl: str) -> None:
        """Replace the ACL of a running mosquitto."""
        assert self._process is not None
        self.acl_file.write_text(acl)
        self._log.forget()
        self._process.send_signal(signal.SIGHUP)
        self.wait_for_log("Reloading config")

    def wait_for_log(self, *texts: str) -> str:
        """Wait until the broker has logged one of these texts, which no client could see; gives the line."""
        line = self._log.wait_for(texts)
        assert line is not None, f"{self.kind} did not log {texts}: {self._log.lines}"
        return line

    async def subscribe(self, *filters: str, name: str = "consumer", **certificate: Path) -> "Consumer":
        """Connect an independent client that collects what arrives; returns once it has subscribed."""
        ca_file = None if self.plain else self.ca_file
        consumer = Consumer(
            (self.host, self.port), filters or ("#",), name, ca_file=ca_file, v5=self.kind == "mosquitto", **certificate
        )
        self._consumers.append(consumer)
        await consumer.subscribed()
        return consumer

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.send_signal(how)
            self._process.wait(timeout=START_S)
            self._process = None

    def _mosquitto(self) -> list[str]:
        executable = mosquitto()
        assert executable is not None
        lines = [
            f"listener {self.port} 127.0.0.1",
            "allow_anonymous true",
            "log_dest stderr",
            "log_type all",
            "user root" if os.geteuid() == 0 else "",
        ]
        if not self.plain:
            pem = self.folder / "server.pem"
            lines += [f"cafile {self.ca_file}", f"certfile {pem}", f"keyfile {pem}"]
        if self._client_certificates:
            lines += ["require_certificate true", "use_identity_as_username true"]
        if self._acl is not None:
            lines.append(f"acl_file {self.acl_file}")
        if self._persistent:
            lines += ["persistence true", f"persistence_location {self.folder}/"]
            lines += ["autosave_on_changes true", "autosave_interval 1", "max_queued_messages 0"]
        config = self.folder / "mosquitto.conf"
        config.write_text("\n".join([*lines, self._settings, ""]))
        return [executable, "-c", str(config)]

    def _amqtt(self) -> list[str]:
        listener: dict[str, Any] = {"type": "tcp", "bind": f"127.0.0.1:{self.port}"}
        if not self.plain:
            pem = str(self.folder / "server.pem")
            listener |= {"ssl": True, "certfile": pem, "keyfile": pem}
        config = self.folder / "amqtt.yaml"
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        config.write_text(yaml.safe_dump({"listeners": {"default": listener}, "plugins": plugins}))
        return [sys.executable, "-m", "amqtt.scripts.broker_script", "-d", "-c", str(config)]


class _Log:
    """The lines that a broker logs, read by a thread so that its pipe never fills."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False

    def read(self, stream: Any) -> None:
        for line in stream:
            with self._more:
                self.lines.append(line.rstrip())
                self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def forget(self) -> None:
        with self._more:
            self.lines.clear()

    def wait_for(self, texts: tuple[str, ...]) -> str | None:
        def found() -> str | None:
            return next((line for line in self.lines if any(text in line for text in texts)), None)

        with self._more:
            self._more.wait_for(lambda: self._ended or found(), timeout=START_S)
            return found()
