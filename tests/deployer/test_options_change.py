"""A change of options is a deployment: rolled out, judged, rolled back and quarantined."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
import pytest

from schemas.commands import Deploy, Pause, Restart, Resume, Retry
from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ReleaseQuarantined,
)
from services.deployer.runtime import orphans
from services.deployer.runtime.options import Options, changed, fingerprint
from services.deployer.runtime.options_file import OptionsFile
from services.deployer.service import replicas
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.patience import patience
from tests.support.releases import SERVER, release

MOODY = SERVER.replace(
    "listener =",
    """if os.environ.get("MOOD") == "bad":
    raise SystemExit("no mood")
listener =""",
).replace('os.environ["LONGSHORE_RELEASE"]', 'os.environ.get("MOOD", "none")')
"""Answers with MOOD, and exits if that is bad."""


def answers(site: Site) -> set[str]:
    return {site.visit(replica) for replica in site.replicas.values()}


def test_the_names_of_what_changed_show_no_value() -> None:
    before = Options(command=["a"], environment={"A": "secret-1", "B": "same"})
    after = Options(arguments=["--memory=1g"], environment={"A": "secret-2", "B": "same", "C": "secret-3"})
    assert changed(before, after) == ["cmd", "docker-args", "env A", "env C"]
    assert changed(before, before) == []
    assert fingerprint(before) != fingerprint(after)
    assert fingerprint(Options(environment={"A": "1", "B": "2"})) == fingerprint(
        Options(environment={"B": "2", "A": "1"})
    )


def test_only_the_options_that_replicas_run_with_are_kept(tmp_path: Path) -> None:
    file = OptionsFile(tmp_path)
    one, two, three = (Options(command=[word]) for word in "abc")
    assert file.find(fingerprint(one)) is None
    file.keep(one, set())
    file.keep(two, {fingerprint(one)})
    file.keep(three, {fingerprint(two)})
    assert [file.find(fingerprint(options)) for options in (one, two, three)] == [None, two, three]
    (tmp_path / "options.json").write_text("damaged")
    assert file.find(fingerprint(three)) is None


async def test_a_change_is_rolled_out_without_a_gap(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    release(site.registry, "1.0.0", MOODY)
    monkeypatch.setenv("MOOD", "fine")
    async with site.deployer(replicas=2, pass_env=["MOOD"]):
        before = set(await site.until_serving("1.0.0", 2))
        await site.until(DeploymentSucceeded)
    seen = len(site.routes)
    async with site.deployer(replicas=2, pass_env=["MOOD"]):
        await site.until_serving("1.0.0", 2)
    monkeypatch.setenv("MOOD", "great")
    async with site.deployer(replicas=2, pass_env=["MOOD"]):
        await site.until(DeploymentSucceeded, 2)
        assert not before & set(await site.until_serving("1.0.0", 2))
        assert answers(site) == {"great"}
    assert not [route for route in site.routes[seen:] if sum(one.state == "active" for one in route.backends) < 2]
    started = site.of(DeploymentStarted)[1]
    assert (started.kind, started.by, started.release, started.changed) == (
        "options",
        "configuration",
        "1.0.0",
        ["env MOOD"],
    )
    assert oct((replicas(site.settings()) / "options.json").stat().st_mode)[-3:] == "600"


async def test_a_change_that_crashes_leaves_the_old_options_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(site.registry, "1.0.0", MOODY)
    monkeypatch.setenv("MOOD", "fine")
    async with site.deployer(replicas=2, pass_env=["MOOD"]):
        before = set(await site.until_serving("1.0.0", 2))
        await site.until(DeploymentSucceeded)
    monkeypatch.setenv("MOOD", "bad")
    async with site.deployer(replicas=2, pass_env=["MOOD"]):
        await site.until(DeploymentRolledBack)
        assert set(await site.until_serving("1.0.0", 2)) == before
    async with site.deployer(replicas=2, pass_env=["MOOD"]):  # its replicas, too, get the old options
        victim = (await site.until_serving("1.0.0", 2))[0]
        orphans.kill(victim)
        await eventually(lambda: victim not in site.active())
        await site.until_serving("1.0.0", 2)
        assert answers(site) == {"fine"}
        (reason,) = (await site.decisions()).failed_options.values()
        assert "exited with code 1" in reason
        release(site.registry, "2.0.0", MOODY)  # a release does not bring a change along that failed
        await site.until_serving("2.0.0", 2)
        await site.until(DeploymentSucceeded, 2)
        await site.until_serving("2.0.0", 2)
        assert answers(site) == {"fine"}
        await site.ask(Retry(by="ann"))
        await site.until(DeploymentRolledBack, 2)
    monkeypatch.setenv("MOOD", "great")
    async with site.deployer(replicas=2, pass_env=["MOOD"]):
        await site.until(DeploymentSucceeded, 3)
        await site.until_serving("2.0.0", 2)
        assert answers(site) == {"great"}
        decisions = await site.decisions()
    assert decisions.failed_options == {}
    assert decisions.quarantined == {}
    assert site.of(ReleaseQuarantined) == []
    kinds = [(event.kind, event.by, event.changed) for event in site.of(DeploymentStarted)]
    assert kinds == [
        ("release", "registry", []),
        ("options", "configuration", ["env MOOD"]),
        ("release", "registry", []),
        ("options", "ann", ["env MOOD"]),
        ("options", "configuration", ["env MOOD"]),
    ]
    assert [event.phase for event in site.of(DeploymentFailed)] == ["check", "check"]


async def test_a_change_waits_while_deployments_are_paused(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    release(site.registry, "1.0.0", MOODY)
    async with site.deployer(pass_env=["MOOD"]):
        (before,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await site.ask(Pause())
    monkeypatch.setenv("MOOD", "fine")
    async with site.deployer(pass_env=["MOOD"]):
        assert "paused" in (await site.ask(Deploy(), ok=False)).message
        assert await site.until_serving("1.0.0") == [before]
        reply = await site.ask(Resume(by="ann"))
        assert reply.deployment
        await site.until(DeploymentSucceeded, 2)
        await site.until_serving("1.0.0")
        assert answers(site) == {"fine"}


async def killed(site: Site, point: str, **options: object) -> None:
    settings = msgspec.json.encode(site.settings(replicas=2, **options)).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.deployer.reconcile.mortal", settings, point, env=dict(os.environ)
    )
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("mood", "point"),
    [
        *(("great", point) for point in ("after Pull", "spawned", "after Start", "after Activate", "after Drain")),
        *(("great", point) for point in ("before Succeed", "telling DeploymentSucceeded")),
        *(("bad", point) for point in ("before Fail", "after Fail", "before RollbackDone")),
    ],
)
async def test_killed_at_any_point_of_a_change_the_app_serves_and_nothing_is_left_half_done(
    site: Site, monkeypatch: pytest.MonkeyPatch, mood: str, point: str
) -> None:
    release(site.registry, "1.0.0", MOODY)
    monkeypatch.setenv("MOOD", "fine")
    async with site.deployer(replicas=2, pass_env=["MOOD"]):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
    seen = len(site.routes)
    monkeypatch.setenv("MOOD", mood)
    await killed(site, point, pass_env=["MOOD"])
    async with site.deployer(replicas=2, pass_env=["MOOD"]):
        is_good = mood == "great"
        await site.until(DeploymentSucceeded if is_good else DeploymentRolledBack, 2 if is_good else 1)
        serving = await site.until_serving("1.0.0", 2)
        await eventually(lambda: site.alive() == set(serving))
        assert answers(site) == {mood if is_good else "fine"}
        assert (await site.decisions()).ongoing is None
    assert not [route for route in site.routes[seen:] if sum(one.state == "active" for one in route.backends) < 2]
    assert len(site.of(DeploymentStarted)) == 2


@pytest.mark.parametrize("point", ["after Start", "after Activate", "after Drain", "before Succeed"])
async def test_killed_in_the_middle_of_a_restart_the_next_deployer_completes_it(site: Site, point: str) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = set(await site.until_serving("1.0.0", 2))
        await site.until(DeploymentSucceeded)
        await site.ask(Pause())
    kill = asyncio.create_task(killed(site, point))
    await site.ask(Restart(by="ann"))
    await kill
    async with site.deployer(replicas=2):
        await site.until(DeploymentSucceeded, 2)
        serving = set(await site.until_serving("1.0.0", 2))
        assert not before & serving
        await eventually(lambda: site.alive() == serving)
    assert [event.kind for event in site.of(DeploymentStarted)] == ["release", "restart"]


async def test_options_that_are_taken_back_are_no_failed_change_any_more(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(site.registry, "1.0.0", MOODY)
    for mood in ("fine", "bad"):
        monkeypatch.setenv("MOOD", mood)
        async with site.deployer(pass_env=["MOOD"]):
            await site.until_serving("1.0.0")
            await site.until(DeploymentSucceeded if mood == "fine" else DeploymentRolledBack)
    assert (await site.decisions()).failed_options
    monkeypatch.setenv("MOOD", "fine")
    async with site.deployer(pass_env=["MOOD"]):
        await site.until_serving("1.0.0")
        async with asyncio.timeout(patience(20)):
            while (await site.decisions()).failed_options:
                await site.bus.client.flush()
