"""Commands as processes, without a bus."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.output import RunTask
from schemas.routing import Artifact
from services.common.errors import LongshoreError
from services.common.ids import uuid7
from services.deployer.runtime.output import process_session
from services.deployer.runtime.output.process_session import ProcessCommands, ProcessSession
from services.deployer.runtime.process import ProcessRuntime
from services.deployer.runtime.protocol import Spec
from tests.support.harness import runs
from tests.support.patience import patience

SIZE = 300_000
"""More than a pipe and the buffers behind it hold."""
PAUSE = 0.1
SPEC = Spec("web-task-1", "web", "1.0.0", -1, Artifact(location="/"))


async def started(root: Path, script: str, terminal: str = "") -> ProcessSession:
    return await ProcessCommands(root, set).run(uuid7(), SPEC, RunTask(["sh", "-c", script], terminal=terminal))


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


async def test_a_deployer_ends_what_the_commands_of_a_killed_one_left_and_nothing_else(tmp_path: Path) -> None:
    deployers = [ProcessRuntime(tmp_path / name / "replicas" / "web") for name in ("mine", "other")]
    left: list[int] = []
    sessions = []
    for deployer in deployers:
        task = RunTask(["sh", "-c", "setsid sleep 600 & echo $!"])
        sessions.append(await deployer.commands.run(uuid7(), SPEC, task))
        left += [int(data) async for _, data in sessions[-1].output()]
    assert [runs(pid) for pid in left] == [True, True]
    await ProcessRuntime(tmp_path / "mine" / "replicas" / "web").adopt()
    async with asyncio.timeout(patience(5)):
        while runs(left[0]):  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.01)
    assert runs(left[1])
    for session in sessions:
        await session.close()


@pytest.mark.process
async def test_a_command_that_no_process_can_have_is_refused_with_a_line(tmp_path: Path) -> None:
    with pytest.raises(LongshoreError, match=r"cannot start 'a\\x00b': embedded null byte"):
        await ProcessCommands(tmp_path, set).run(uuid7(), SPEC, RunTask(["a\0b"]))
