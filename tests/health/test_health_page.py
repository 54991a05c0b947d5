"""The page as a real browser shows it."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest
from fake_parts import FakeDevice, fake_parts

from gateway.config.local import HttpSection
from gateway.health.http import serve
from gateway.model import DeviceState

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<img src=x onerror=\"document.title='owned'\">"


async def rendered(url: str, profile: Path) -> str:
    """Give the document as it is once the page's script has run."""
    assert CHROMIUM is not None, "CI must have Chromium: apt-get install chromium"
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=5000")
    flags += ("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync")
    command = (CHROMIUM, *flags, f"--user-data-dir={profile}", "--dump-dom", url)
    silent = asyncio.subprocess.DEVNULL
    browser = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=silent)
    try:
        async with asyncio.timeout(90):
            output, _ = await browser.communicate()
    finally:
        if browser.returncode is None:
            browser.kill()
            await browser.wait()
    return output.decode()


@pytest.mark.skipif(CHROMIUM is None and "CI" not in os.environ, reason="there is no Chromium on the PATH")
async def test_a_browser_shows_status_reasons_and_devices_and_takes_no_text_for_markup(tmp_path: Path) -> None:
    down = FakeDevice("press-2", DeviceState.UNREACHABLE, error=HOSTILE, do="Check power and network of the PLC.")
    async with serve(HttpSection(listen="127.0.0.1:0"), fake_parts(FakeDevice(), down)) as endpoint:
        page = await rendered(endpoint.url, tmp_path)
    assert "<title>degraded: hall-3</title>" in page
    assert '<h1 id="gateway">hall-3</h1>' in page
    assert "press-2: &lt;img src=x" in page
    assert "Check power and network of the PLC." in page
    assert "modbus-tcp, 192.0.2.10:502" in page
    assert "<img" not in page
    assert "no answer" not in page
