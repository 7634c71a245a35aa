"""Commands in process replicas, and beside them, over a real bus."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from schemas.events import UNSEEN, SessionClosed, SessionOpened
from schemas.output import Execute, RunTask, output
from services.common.streaming.messages import End
from services.deployer.runtime import orphans
from tests.deployer.output.reading import command, opened, refused
from tests.deployer.site import Site
from tests.deployer.waiting import DEADLINE, eventually
from tests.support.releases import release


def shell(replica: str, script: str, **options: Any) -> Execute:
    return Execute(replica, ["sh", "-c", script], **options)


async def test_a_command_runs_in_the_folder_and_with_the_environment_of_its_replica(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLOUR", "blue")
    release(site.registry, "1.0.0")
    async with site.deployer(pass_env=["COLOUR"]):
        (replica,) = await site.until_serving("1.0.0")
        monkeypatch.setenv("COLOUR", "red")  # replicas and tasks have the one of the deployment
        script = "echo $COLOUR $LONGSHORE_REPLICA; pwd; echo problem >&2; exit 7"
        found = await command(site.bus, shell(replica, script, by="ann"))
        folder = (site.registry / "1.0.0").resolve()
        assert found == (f"blue {replica}\n{folder}\n".encode(), b"problem\n", End(7))
        opening, closing = await site.until(SessionOpened), await site.until(SessionClosed)
        assert (opening.kind, opening.by, opening.release, opening.replica) == ("exec", "ann", "1.0.0", replica)
        assert (opening.program, opening.terminal) == ("sh", False)
        assert (closing.session, closing.code, closing.reason) == (opening.session, 7, "")
        assert (await command(site.bus, shell(replica, "kill -9 $$")))[2] == End(137)

        many = [bytes([number]) * 10_000 for number in range(50)]
        assert await command(site.bus, Execute(replica, ["cat"], has_input=True), *many) == (b"".join(many), b"", End())

        *_, end = await command(site.bus, Execute(replica, ["no-such-program"]))
        assert (end.code, end.reason) == (1, "cannot start no-such-program: No such file or directory")
        *_, end = await command(site.bus, Execute("x", ["true"]))
        assert end.reason == "no replica 'x' runs here: `longshore status` lists those that do"
        assert "the command is missing" in await refused(site.bus, Execute(replica, []))
        # No reader of the log takes an event with longer texts: the command would run without a record.
        for request in (
            shell(replica, "true", by="x" * 1025),
            Execute("x" * 1025, ["true"]),
            RunTask(["x" * ((1 << 16) + 1)]),
            RunTask(["true"], by="x" * 1025),
        ):
            assert "not a request for output: Expected `str` of length" in await refused(site.bus, request)

        task, _, end = await command(site.bus, RunTask(["sh", "-c", "echo $COLOUR $LONGSHORE_RELEASE; pwd"]))
        assert (task, end) == (f"blue 1.0.0\n{folder}\n".encode(), End())
        assert [one.kind for one in site.of(SessionOpened)][-1] == "run"


async def test_a_command_with_a_terminal_has_its_size_and_its_control_keys(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        (replica,) = await site.until_serving("1.0.0")
        script = "trap 'stty size; exit 3' WINCH; echo $TERM; stty size; while :; do sleep 0.05; done"
        options: dict[str, Any] = {"has_input": True, "terminal": "vt100", "rows": 30, "columns": 90}
        reader = await opened(site.bus, shell(replica, script, **options))
        shown, end = b"", None
        async with asyncio.timeout(DEADLINE):
            async for item in reader.read():
                if isinstance(item, End):
                    end = item
                    break
                shown += output(item)[1]
                if b"30 90" in shown and b"40" not in shown:
                    await reader.write(rows=40, columns=100)
        await reader.close()
        assert (shown.split(b"\r\n")[:3], end) == ([b"vt100", b"30 90", b"40 100"], End(3))
        shown, _, end = await command(site.bus, shell(replica, "exec sleep 600", **options), b"\x03")
        assert end == End(130)


async def test_a_command_ends_with_its_reader_and_so_does_everything_that_it_started(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        (replica,) = await site.until_serving("1.0.0")
        for request in (
            shell(replica, "setsid sleep 600 & echo $!; sleep 600"),
            shell(replica, "setsid sleep 600 & echo $!; sleep 600", terminal="vt100"),
            RunTask(["sh", "-c", "setsid sleep 600 & echo $!; sleep 600"]),
        ):
            reader = await opened(site.bus, request)
            chunk = await anext(reader.read())
            assert isinstance(chunk, bytes)
            pid = int(output(chunk)[1])
            assert _runs(pid)
            await reader.close()
            await eventually(lambda pid=pid: not _runs(pid))  # type: ignore[misc] # bound now
        closed = await site.until(SessionClosed, 3)
        assert (closed.code, closed.reason) == (UNSEEN, "ended with its reader, or with the deployer")
        assert len(list(orphans.find(replica))) == 2  # the replica and its shim


async def test_a_deployer_that_stops_ends_commands_and_records_it(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        (replica,) = await site.until_serving("1.0.0")
        running = asyncio.create_task(command(site.bus, shell(replica, "echo $$; exec sleep 600")))
        await site.until(SessionOpened)
    shown, _, end = await running
    assert end == End(1, "the deployer of web stops")
    assert not shown or not _runs(int(shown))
    await site.until(SessionClosed)


async def test_commands_can_be_switched_off(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(no_exec=True):
        (replica,) = await site.until_serving("1.0.0")
        refusal = "web was started with --no-exec: it runs no commands of people"
        assert await refused(site.bus, shell(replica, "true")) == refusal
        assert await refused(site.bus, RunTask(["true"])) == refusal


def _runs(pid: int) -> bool:
    """Whether it runs; one that was killed may wait for its parent to see that."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
