"""The commands of docs/bus.md work as they are printed, and its links and options exist."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from schemas.events import ServiceStopped
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.config.settings import Settings
from services.common.delivery.outbox import Outbox
from tests.support.configured_server import serving
from tests.support.program import PROGRAM

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "bus.md").read_text()
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
SECRETS = "secrets/{service}.nk"
ELSEWHERE = {"--auth", "--out", "--host", "--registry"}


def _run(command: str, folder: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(PROGRAM).parent}:{os.environ['PATH']}", "HOME": str(folder)}
    done = subprocess.run(
        ["sh", "-ec", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{command}\n{done.stderr}"


async def _record(settings: Settings) -> None:
    """Publish an event, as a service does: a log without any is nothing to verify."""
    bus = await Bus.connect("health", credentials.find(settings, "health"))
    outbox = Outbox(bus, "health", settings.host, "i")
    running = asyncio.create_task(outbox.run())
    outbox.record(ServiceStopped(time.time(), "over"))
    assert await outbox.flush(60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await bus.close()


def test_every_command_works_as_it_is_printed(tmp_path: Path) -> None:
    config, *others = COMMANDS
    _run(config, tmp_path)
    with serving(tmp_path / "nats", (tmp_path / "longshore.conf").read_text()) as server:
        for command in others:
            if "verify" in command:
                asyncio.run(_record(Settings(nats_url=[server.url], nats_nkey_file=str(tmp_path / SECRETS))))
            _run(command.replace("nats://localhost:4222", server.url), tmp_path)
    assert len(others) == 4


def test_every_option_exists() -> None:
    options = {
        word.removeprefix("--").replace("-", "_") for word in set(re.findall(r"--[a-z][a-z-]+", PAGE)) - ELSEWHERE
    }
    assert options <= set(Settings.__struct_fields__)


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((?!https?:)([^)#]+)", PAGE))))
def test_links_lead_somewhere(target: str) -> None:
    assert (DOCS / target).exists()
