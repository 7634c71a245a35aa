"""Commands as processes, without a bus."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.output import RunTask
from schemas.routing import Artifact
from services.common.ids import uuid7
from services.deployer.runtime.output import process_session
from services.deployer.runtime.output.process_session import ProcessCommands, ProcessSession
from services.deployer.runtime.protocol import Spec
from tests.support.patience import patience

SIZE = 300_000
"""More than a pipe and the buffers behind it hold."""
PAUSE = 0.1


async def started(root: Path, script: str, terminal: str = "") -> ProcessSession:
    spec = Spec("web-task-1", "web", "1.0.0", -1, Artifact("1.0.0", str(root)))
    return await ProcessCommands(root).run(uuid7(), spec, RunTask(["sh", "-c", script], terminal=terminal))


async def read_slowly(session: ProcessSession) -> bytes:
    """All output, for a reader that needs longer for the first parts than the output may be silent."""
    found = b""
    async with asyncio.timeout(patience(30)):
        async for _, data in session.output():
            await asyncio.sleep(4 * PAUSE if len(found) < SIZE // 2 else 0)
            found += data
    await session.close()
    return found


@pytest.mark.parametrize("terminal", ["", "vt100"])
async def test_a_slow_reader_gets_all_that_a_command_has_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, terminal: str
) -> None:
    monkeypatch.setattr(process_session, "LAST_OUTPUT", PAUSE)
    session = await started(tmp_path, f"head -c {SIZE} /dev/zero | tr '\\0' x; printf end", terminal)
    found = await read_slowly(session)
    assert (len(found), found[-4:]) == (SIZE + 3, b"xend")


async def test_the_output_ends_although_a_silent_process_that_is_left_behind_holds_the_pipes(tmp_path: Path) -> None:
    session = await started(tmp_path, "setsid sleep 600 & echo done")
    async with asyncio.timeout(patience(10)):
        assert [data async for _, data in session.output()] == [b"done\n"]
        assert await session.wait() == 0
    await session.close()
