"""Commands in containers: in that of a replica, and in one of their own."""

from __future__ import annotations

import asyncio
from typing import Any

from schemas.events import SessionClosed, SessionOpened
from schemas.output import Execute, RunTask, output
from services.common.streaming.messages import End
from tests.deployer.output.reading import command, opened
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.waiting import DEADLINE, eventually

SIZE = """while [ "$(stty size 2>/dev/null)" != "30 90" ]; do sleep 0.05; done; stty size"""
"""Prints the size of the terminal. Engines before API 1.42 set it only after the start."""


def tasks(site: DockerSite) -> list[str]:
    """The containers of one-off tasks."""
    found = site.engine.containers(all=True, filters={"label": "longshore.task-of"})
    return [one["Names"][0] for one in found if one["Image"].startswith(f"{site.source}/{site.repository}")]


async def test_commands_run_in_the_container_of_a_replica_and_in_one_of_their_own(site: DockerSite) -> None:
    site.release("1.0.0")
    words = ["-e", "COLOUR=blue", "--restart", "always"]  # a task is never restarted
    async with site.deployer(docker_args=words):
        (replica,) = await site.until_serving("1.0.0")

        def shell(script: str, **options: Any) -> Execute:
            return Execute(replica, ["sh", "-c", script], **options)

        shown = await command(site.bus, shell("echo $COLOUR $LONGSHORE_REPLICA; echo problem >&2; exit 7"))
        assert shown == (f"blue {replica}\n".encode(), b"problem\n", End(7))
        many = [bytes([number]) * 10_000 for number in range(50)]
        assert await command(site.bus, Execute(replica, ["cat"], has_input=True), *many) == (b"".join(many), b"", End())
        *_, end = await command(site.bus, Execute(replica, ["no-such-program"]))
        assert end.code != 0

        terminal: dict[str, Any] = {"has_input": True, "terminal": "vt100", "rows": 30, "columns": 90}
        text, _, end = await command(site.bus, shell(f"echo $TERM; {SIZE}; exit 3", **terminal))
        assert (text, end) == (b"vt100\r\n30 90\r\n", End(3))

        reader = await opened(site.bus, shell("sleep 600 & echo started; sleep 600"))
        assert await anext(reader.read())
        await eventually(lambda: _count(site, replica, "sleep 600") >= 2)
        await reader.close()
        await eventually(lambda: _count(site, replica, "sleep 600") == 0)

        text, problem, end = await command(
            site.bus,
            RunTask(["sh", "-c", "echo $COLOUR $LONGSHORE_RELEASE; cat; echo problem >&2; exit 5"], True),
            b"in",
        )
        assert (text, problem, end) == (b"blue 1.0.0\nin", b"problem\n", End(5))
        text, _, end = await command(site.bus, RunTask(["sh", "-c", SIZE], **terminal))
        assert (text, end) == (b"30 90\r\n", End())
        assert tasks(site) == []

        reader = await opened(site.bus, RunTask(["sh", "-c", "echo started; sleep 600"]))
        async with asyncio.timeout(DEADLINE):
            chunk = await anext(reader.read())
        assert isinstance(chunk, bytes)
        assert output(chunk)[1] == b"started\n"
        assert len(tasks(site)) == 1
        await reader.close()
        await eventually(lambda: tasks(site) == [])
        kinds = [one.kind for one in site.of(SessionOpened)]
        assert kinds == ["exec"] * 5 + ["run"] * 3
        await site.until(SessionClosed, 8)
    assert site.containers().keys() == {replica}


def _count(site: DockerSite, replica: str, command: str) -> int:
    """The processes in a container whose command line has these words."""
    return sum(command in process[-1] for process in site.engine.top(replica)["Processes"])
