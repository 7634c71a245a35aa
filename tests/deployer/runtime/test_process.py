"""Replicas as real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from schemas.events import UNSEEN
from services.common.errors import ReleaseError
from services.deployer.runtime import orphans, shim
from services.deployer.runtime.protocol import Exit
from services.deployer.runtime.replica_dir import KEPT_FOLDERS
from tests.deployer.runtime.process_host import Host
from tests.deployer.waiting import answer, eventually, proc
from tests.support.ports import first_ephemeral_port
from tests.support.releases import CRASHING, PYTHON, SERVER, STUBBORN


async def test_a_replica_gets_its_port_and_its_name_and_no_setting_of_longshore(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_NATS_URL", "nats://secret@bus")
    for name in ("GITHUB_TOKEN", "DOCKER_PASSWORD", "OTEL_EXPORTER_OTLP_HEADERS", "NOTIFY_SOCKET"):
        monkeypatch.setenv(name, "secret")
    for name, value in (("COLOUR", "blue"), ("TZ", "Asia/Tokyo"), ("LC_ALL", "C.UTF-8")):
        monkeypatch.setenv(name, value)
    running = await host.start(PYTHON + "import os; print(sorted(os.environ.items()), os.getcwd(), os.getpid())")
    assert (await host.exit()).code == 0
    printed = host.folder().output.read_text()
    for name, value in [("PORT", str(running.port)), ("COLOUR", "blue"), ("TZ", "Asia/Tokyo"), ("LC_ALL", "C.UTF-8")]:
        assert f"('{name}', '{value}')" in printed
    for name, value in [("LONGSHORE_RELEASE", "1.0.0"), ("LONGSHORE_REPLICA", "web-1-0-x")]:
        assert f"('{name}', '{value}')" in printed
    assert "ABSENT" not in printed
    assert "secret" not in printed
    assert f"{host.registry / '1.0.0'} {running.pid}" in printed


@pytest.mark.parametrize(("program", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -9 $$", -9), ("kill -15 $$", -15)])
async def test_the_exit_code_is_told_as_soon_as_a_replica_ends(host: Host, program: str, code: int) -> None:
    await host.start(f"#!/bin/sh\n{program}\n")
    assert await host.exit() == Exit("web-1-0-x", code)


async def test_the_last_lines_of_a_replica_come_with_its_exit_and_show_no_secret(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", "hunter2-is-secret")
    host.restart("DB_PASSWORD")
    await host.start("#!/bin/sh\nseq 30\nprintf 'cannot log in with %s\\033[31m' $DB_PASSWORD\nexit 3\n")
    end = await host.exit()
    assert (end.code, end.output.split("\n")[-2:]) == (3, ["30", "cannot log in with ***\N{REPLACEMENT CHARACTER}[31m"])
    assert end.output.split("\n")[0] == "12"
    assert await host.runtime.outputs.last_lines("web-1-0-x") == end.output


async def test_a_stopped_replica_is_asked_first(host: Host) -> None:
    running = await host.start(SERVER)
    await eventually(lambda: answer(running.port) == "1.0.0")
    host.runtime.stop("web-1-0-x", 20)
    assert (await host.exit()).code == -signal.SIGTERM


async def test_a_replica_that_ignores_sigterm_is_killed_with_its_whole_group(host: Host) -> None:
    await host.start(STUBBORN)
    await eventually(lambda: "ready" in host.folder().output.read_text())
    host.runtime.stop("web-1-0-x", 0.2)
    assert (await host.exit()).code == -signal.SIGKILL
    assert not list(orphans.find("web-1-0-x"))


async def test_a_wrapper_that_dies_of_sigterm_leaves_its_server_the_time_to_finish(host: Host) -> None:
    finishing = "trap 'sleep 0.3; echo finished; exit' TERM; echo up; while :; do sleep 0.05; done"
    await host.start(f'#!/bin/sh\nsh -c "{finishing}" & wait\n')
    await eventually(lambda: "up" in host.folder().output.read_text())
    host.runtime.stop("web-1-0-x", 20)
    assert (await host.exit()).code == -signal.SIGTERM
    assert "finished" in host.folder().output.read_text()


async def test_the_search_for_what_replicas_left_holds_up_nothing_and_there_is_one_at_a_time(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, searched, kill = threading.Event(), list[set[str]](), orphans.kill

    def slowly(*replicas: str) -> None:
        searched.append(set(replicas))
        gate.wait(20)
        kill(*replicas)

    monkeypatch.setattr(orphans, "kill", slowly)
    names = {f"web-1-{slot}-x" for slot in range(5)}
    for name in sorted(names):
        await host.start("#!/bin/sh\nsetsid sleep 600 & exec sleep 600\n", name)
    first, *others = sorted(names)
    os.kill(host.shim(first), signal.SIGUSR1)
    await eventually(lambda: searched == [{first}])
    for name in others:
        os.kill(host.shim(name), signal.SIGUSR1)
    await eventually(lambda: not any(host.folder(name).is_alive for name in others))  # the event loop goes on
    assert searched == [{first}]
    gate.set()
    assert {(await host.exit()).id for _ in names} == names
    assert set().union(*searched[1:]) == set(others)
    assert not list(orphans.find(*names))


async def test_a_replica_that_dies_by_itself_leaves_no_process_behind(host: Host) -> None:
    await host.start("#!/bin/sh\nsleep 600 & setsid sleep 600 & exit 1\n")
    assert (await host.exit()).code == 1
    await eventually(lambda: not list(orphans.find("web-1-0-x")))


async def test_no_process_is_left_when_the_shim_is_killed(host: Host) -> None:
    await host.start(STUBBORN)
    await eventually(lambda: "ready" in host.folder().output.read_text())
    os.kill(host.shim(), signal.SIGKILL)
    assert (await host.exit()).code == UNSEEN
    await eventually(lambda: not list(orphans.find("web-1-0-x")))


async def test_a_shim_that_hangs_is_killed_with_its_replica(host: Host) -> None:
    await host.start(SERVER)
    os.kill(host.shim(), signal.SIGSTOP)
    host.runtime.stop("web-1-0-x", 0.1)
    assert (await host.exit()).code == UNSEEN
    await eventually(lambda: not list(orphans.find("web-1-0-x")))


async def test_a_replica_outlives_its_runtime_and_is_adopted(host: Host) -> None:
    running = await host.start(SERVER)
    host.runtime.close()
    host.restart()
    (found,) = await host.runtime.adopt()
    assert (found.id, found.release, found.running, found.stopping) == ("web-1-0-x", "1.0.0", running, False)
    await eventually(lambda: answer(running.port) == "1.0.0")
    os.kill(running.pid, signal.SIGKILL)
    assert (await host.exit()).code == -9


async def test_an_exit_while_nobody_watched_is_told_with_its_code_until_it_is_forgotten(host: Host) -> None:
    running = await host.start(SERVER)
    host.runtime.close()
    os.kill(running.pid, signal.SIGSEGV)
    await eventually(lambda: not host.folder().is_alive)
    for _ in range(2):
        host.restart()
        (found,) = await host.runtime.adopt()
        assert found.exit == Exit("web-1-0-x", -signal.SIGSEGV)
        assert found.running is None
    host.runtime.forget("web-1-0-x")
    assert await host.runtime.adopt() == []


async def test_a_number_that_now_belongs_to_somebody_else_is_not_adopted(host: Host) -> None:
    """As after a reboot: the recorded process id is alive, but it is not the shim."""
    running = await host.start(SERVER)
    host.runtime.close()
    os.kill(host.shim(), signal.SIGKILL)
    await eventually(lambda: not host.folder().is_alive)
    (host.root / "web-1-0-x" / "started").write_text(f"{os.getpid()} {running.pid}")
    host.restart()
    (found,) = await host.runtime.adopt()
    assert found.exit == Exit("web-1-0-x", UNSEEN)


async def test_a_stop_goes_on_when_the_runtime_is_gone(host: Host) -> None:
    await host.start(STUBBORN)
    await eventually(lambda: "ready" in host.folder().output.read_text())
    host.runtime.stop("web-1-0-x", 60)
    host.runtime.close()
    host.restart()
    (found,) = await host.runtime.adopt()
    assert found.stopping
    host.runtime.stop("web-1-0-x", 0.1)
    assert (await host.exit()).code == -9


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("not a program", "Exec format error: .*/run has no #! line and is no program of this machine; begin it with"),
        ("#!/no/such/interpreter\n", ".*/run names the interpreter /no/such/interpreter, which is not here"),
        ("#!/bin/sh\r\n", r".*/run has Windows line ends \(CRLF\)"),
    ],
)
async def test_a_program_that_cannot_be_started_says_why(host: Host, program: str, reason: str) -> None:
    with pytest.raises(ReleaseError, match=f"cannot start .*/1.0.0/run: {reason}"):
        await host.start(program)
    assert await host.runtime.adopt() == []
    assert not list(orphans.find("web-1-0-x"))


async def test_replicas_that_start_together_get_different_ports(host: Host) -> None:
    running = await asyncio.gather(*(host.start(SERVER, f"web-1-{n}-x") for n in range(8)))
    assert len({replica.port for replica in running}) == 8
    assert all(replica.port < first_ephemeral_port() for replica in running)


async def test_output_goes_to_rotating_files_that_stay_bounded(host: Host) -> None:
    size = shim.LOG_SIZE * (shim.LOG_FILES + 2)
    await host.start(f"#!/bin/sh\nhead -c {size} /dev/zero\necho the last line >&2\n")
    assert (await host.exit()).code == 0
    files = sorted(path.name for path in (host.root / "web-1-0-x").glob("output.log*"))
    assert files == ["output.log", "output.log.1", "output.log.2"]
    assert host.folder().output.read_bytes().endswith(b"the last line\n")
    total = sum((host.root / "web-1-0-x" / name).stat().st_size for name in files)
    assert total <= shim.LOG_FILES * (shim.LOG_SIZE + shim.CHUNK)


async def test_the_output_of_the_last_replicas_is_kept_and_the_older_goes(host: Host) -> None:
    for n in range(KEPT_FOLDERS + 3):
        await host.start(CRASHING, f"web-1-{n}-x")
        ended = await host.exit()
        host.runtime.forget(ended.id)
    kept = sorted(int(path.name.split("-")[2]) for path in host.root.iterdir())
    assert kept == list(range(3, KEPT_FOLDERS + 3))
    assert "no database" in host.folder(f"web-1-{KEPT_FOLDERS}-x").output.read_text()


async def test_a_folder_that_was_never_finished_is_removed(host: Host) -> None:
    (host.root / "web-1-0-half").mkdir(parents=True)
    assert await host.runtime.adopt() == []
    assert not (host.root / "web-1-0-half").exists()


async def test_a_full_disk_costs_output_and_not_the_replica(host: Host) -> None:
    output = host.folder().output
    output.parent.mkdir(parents=True)
    output.symlink_to("/dev/full")
    running = await host.start(SERVER.replace("listening", "x" * 1000000))
    await eventually(lambda: answer(running.port) == "1.0.0")


async def test_a_shim_is_small(host: Host) -> None:
    await host.start(SERVER)
    memory = proc(host.shim(), "smaps_rollup").splitlines()
    private = sum(int(line.split()[1]) for line in memory if line.startswith("Private_Dirty"))
    assert private < 6000, memory
    assert "ctypes" not in proc(host.shim(), "maps")
