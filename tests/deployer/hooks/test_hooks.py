"""Hooks: real shell commands around real deployments."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest
import structlog

from schemas.commands import Pause
from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ImagePulled,
    ReleaseQuarantined,
    ReplicaExited,
    ReplicaStarted,
)
from services.deployer.hooks.hooks import HookContext, variables
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.releases import CRASHING, release


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder in which hooks leave what they have to say."""
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def told(note: Path) -> list[str]:
    return note.read_text().splitlines() if note.exists() else []


def is_gone(pid: int) -> bool:
    """No process, or one that only waits for somebody to collect its exit code."""
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True


def noting(note: Path, *names: str) -> str:
    values = "|".join(f"$LONGSHORE_{name}" for name in names)
    return f'set -u; echo "{values}" >> {note}'


def waiting(note: Path) -> str:
    """A hook that starts a process of its own, notes both, and does not end."""
    return f"sleep 600 & echo $$ $! >> {note}; wait"


async def test_hooks_run_before_and_after_a_deployment_and_are_told_of_it(site: Site, notes: Path) -> None:
    release(site.registry, "1.0.0")
    names = ("APP", "RELEASE", "PREVIOUS", "DEPLOYMENT", "PHASE", "REASON", "DURATION")
    hooks = {"before_deploy": noting(notes / "before", *names), "after_deploy": noting(notes / "after", *names)}
    async with site.deployer(**hooks, on_failure=noting(notes / "failure")):
        await site.until(DeploymentSucceeded)
        release(site.registry, "2.0.0")
        await site.until(DeploymentSucceeded, 2)
        await eventually(lambda: len(told(notes / "after")) == 2)
    first, second = (event.deployment for event in site.of(DeploymentStarted))
    assert told(notes / "before") == [f"web|1.0.0||{first}|||", f"web|2.0.0|1.0.0|{second}|||"]
    after = [line.rpartition("|") for line in told(notes / "after")]
    assert [line for line, _, _ in after] == [f"web|1.0.0||{first}||", f"web|2.0.0|1.0.0|{second}||"]
    assert float(after[1][2]) == pytest.approx(site.of(DeploymentSucceeded)[1].duration, abs=0.01)
    assert not (notes / "failure").exists()


async def test_a_before_hook_that_fails_stops_the_deployment_before_anything_is_pulled_or_started(
    site: Site, notes: Path
) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
    release(site.registry, "2.0.0")
    failing = noting(notes / "failure", "RELEASE", "PREVIOUS", "PHASE", "REASON")
    async with site.deployer(before_deploy="exit 7", on_failure=failing):
        await site.until(DeploymentRolledBack)
        await eventually(lambda: told(notes / "failure"))
        assert list((await site.decisions()).quarantined) == ["2.0.0"]
        assert len(await site.until_serving("1.0.0")) == 1
    (failed,) = site.of(DeploymentFailed)
    reason = "before-deploy ended with exit code 7"
    assert (failed.release, failed.phase, failed.reason) == ("2.0.0", "hook", reason)
    assert told(notes / "failure") == [f"2.0.0|1.0.0|hook|{reason}"]
    assert [event.release for event in site.of(ReleaseQuarantined)] == ["2.0.0"]
    assert {event.release for event in site.of(ReplicaStarted)} == {"1.0.0"}
    assert len(site.of(ImagePulled)) == 1


async def test_a_hook_is_killed_with_all_that_it_started_when_its_time_is_over(site: Site, notes: Path) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(before_deploy=waiting(notes / "pids"), hook_timeout=0.5):
        failed = await site.until(DeploymentFailed)
    assert failed.reason == "before-deploy did not end within 0.5 s"
    pids = [int(pid) for pid in told(notes / "pids")[0].split()]
    assert len(pids) == 2
    await eventually(lambda: all(map(is_gone, pids)))


async def test_what_a_hook_leaves_in_the_background_ends_with_it_and_nobody_waits_for_it(
    site: Site, notes: Path
) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(before_deploy=f"sleep 600 & echo $! > {notes / 'pid'}"):
        await site.until(DeploymentSucceeded)
    await eventually(lambda: is_gone(int(told(notes / "pid")[0])))


async def test_while_a_hook_runs_what_dies_is_replaced_and_commands_are_answered(site: Site, notes: Path) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
    release(site.registry, "2.0.0")
    until = f"echo > {notes / 'began'}; while ! [ -e {notes / 'go'} ]; do sleep 0.05; done"
    async with site.deployer(replicas=2, before_deploy=until):
        await eventually((notes / "began").exists)
        first = site.active()[0]
        os.kill(site.pids()[first], signal.SIGKILL)
        await site.until(ReplicaExited)
        serving = await site.until_serving("1.0.0", 2)
        assert first not in serving
        assert (await site.ask(Pause())).ok
        (notes / "go").touch()
        await site.until_serving("2.0.0", 2)
        await site.until(DeploymentSucceeded, 2)
    assert not site.of(DeploymentFailed)
    replacement = next(
        event for event in site.of(ReplicaStarted) if event.replica in serving and event.replica != first
    )
    assert replacement.release == "1.0.0"


async def test_hooks_that_fail_afterwards_are_logged_and_change_nothing(site: Site) -> None:
    release(site.registry, "1.0.0")
    with structlog.testing.capture_logs() as logs:
        async with site.deployer(after_deploy="exit 3", on_failure="kill -9 $$"):
            await site.until(DeploymentSucceeded)
            release(site.registry, "2.0.0", CRASHING)
            await site.until(DeploymentRolledBack)
            await eventually(lambda: len(warnings(logs)) == 2)
            assert (await site.decisions()).current == "1.0.0"
    assert warnings(logs) == ["after-deploy ended with exit code 3", "on-failure ended with exit code 137"]


def warnings(logs: list[structlog.typing.EventDict]) -> list[str]:
    return [line["reason"] for line in logs if line["event"].startswith("a hook failed")]


async def test_undoing_a_deployment_runs_no_hooks_of_its_own(site: Site, notes: Path) -> None:
    release(site.registry, "1.0.0")
    hooks = {
        name: f'echo "{name} $LONGSHORE_RELEASE" >> {notes / "order"}'
        for name in ("before_deploy", "after_deploy", "on_failure")
    }
    async with site.deployer(**hooks):
        await site.until(DeploymentSucceeded)
        release(site.registry, "2.0.0", CRASHING)
        await site.until(DeploymentRolledBack)
        release(site.registry, "3.0.0")
        await site.until(DeploymentSucceeded, 2)
        await eventually(lambda: len(told(notes / "order")) == 6)
    assert told(notes / "order") == [
        "before_deploy 1.0.0",
        "after_deploy 1.0.0",
        "before_deploy 2.0.0",
        "on_failure 2.0.0",
        "before_deploy 3.0.0",
        "after_deploy 3.0.0",
    ]


async def test_the_output_of_a_hook_is_in_the_log_line_by_line_and_a_flood_of_it_is_cut(site: Site) -> None:
    release(site.registry, "1.0.0")
    with structlog.testing.capture_logs() as logs:
        async with site.deployer(before_deploy="echo one; echo two >&2", after_deploy="seq 100000; exit 1"):
            await site.until(DeploymentSucceeded)
            await eventually(lambda: warnings(logs))
    lines = {name: [line["line"] for line in logs if line.get("hook") == name and "line" in line] for name in HOOKS}
    assert lines["before-deploy"] == ["one", "two"]
    assert lines["after-deploy"][:200] == [str(number) for number in range(1, 201)]
    assert lines["after-deploy"][200:] == [f"... {len_of(201, 100000)} bytes left out"]


HOOKS = ("before-deploy", "after-deploy")


def len_of(first: int, last: int) -> int:
    return sum(len(f"{number}\n") for number in range(first, last + 1))


async def test_a_hook_sees_no_settings_of_longshore_for_they_may_be_secret(
    site: Site, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_NOTIFY_SECRET", "hush")
    monkeypatch.setenv("FLAVOUR", "vanilla")
    monkeypatch.setenv("GITHUB_SECRET", "hush")
    site.state_dir.mkdir()
    release(site.registry, "1.0.0")
    async with site.deployer(pass_env=["FLAVOUR"], before_deploy=f"env > {notes / 'env'}; pwd > {notes / 'folder'}"):
        await site.until(DeploymentSucceeded)
    seen = told(notes / "env")
    assert "FLAVOUR=vanilla" in seen
    assert not [line for line in seen if "SECRET" in line]
    assert told(notes / "folder") == [str(site.state_dir)]


async def test_a_hook_that_cannot_be_started_is_a_failure_that_says_why(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOO_LONG", "x" * 200_000)
    release(site.registry, "1.0.0", "#!/bin/sh\nexit 0\n")
    async with site.deployer(before_deploy="true", pass_env=["TOO_LONG"]):
        failed = await site.until(DeploymentFailed)
    assert failed.reason == "before-deploy could not be started: Argument list too long"


async def test_a_hook_dies_with_its_deployer_and_runs_again_for_the_same_deployment(site: Site, notes: Path) -> None:
    release(site.registry, "1.0.0")
    settings = msgspec.json.encode(site.settings(before_deploy=waiting(notes / "pids"))).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.deployer.reconcile.mortal", settings, "at no point"
    )
    await eventually(lambda: told(notes / "pids"))
    process.kill()
    await process.wait()
    pids = [int(pid) for pid in told(notes / "pids")[0].split()]
    await eventually(lambda: all(map(is_gone, pids)))
    with structlog.testing.capture_logs() as logs:
        async with site.deployer(before_deploy=noting(notes / "again", "RELEASE", "DEPLOYMENT")):
            await site.until_serving("1.0.0")
            await site.until(DeploymentSucceeded)
    (started,) = site.of(DeploymentStarted)
    assert told(notes / "again") == [f"1.0.0|{started.deployment}"]
    assert any("maybe again" in line["event"] for line in logs)


async def test_a_hook_ends_when_its_deployer_is_stopped_and_the_deployment_goes_on_later(
    site: Site, notes: Path
) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(before_deploy=waiting(notes / "pids")):
        await eventually(lambda: told(notes / "pids"))
    pids = [int(pid) for pid in told(notes / "pids")[0].split()]
    await eventually(lambda: all(map(is_gone, pids)))
    async with site.deployer():
        await site.until_serving("1.0.0")
    assert not site.of(DeploymentFailed)


def test_a_hook_sees_the_usual_variables_and_those_that_are_passed_on() -> None:
    base = {"PATH": "/bin", "GITHUB_TOKEN": "secret", "DEPLOY_KEY": "key", "LONGSHORE_NATS_URL": "secret"}
    seen = variables(base, HookContext("web", "1.0.0", "", "id"), ["DEPLOY_KEY", "LONGSHORE_NATS_URL"])
    assert {name: value for name, value in seen.items() if not name.startswith("LONGSHORE_")} == {
        "PATH": "/bin",
        "DEPLOY_KEY": "key",
    }
    assert "secret" not in seen.values()


def test_a_reason_that_no_variable_can_hold_is_told_without_what_cannot() -> None:
    told = variables({}, HookContext("web", "1.0.0", "", "id", reason="a\0b"))
    assert told["LONGSHORE_REASON"] == "ab"
