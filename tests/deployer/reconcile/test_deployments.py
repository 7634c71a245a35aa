"""Deployments of real processes over a real bus."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from types import SimpleNamespace

import pytest

from schemas import subjects
from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ImagePulled,
    RegistryFailed,
    ReleaseFound,
    ReleaseQuarantined,
    ReplicaDrained,
    ReplicaDraining,
    ReplicaExited,
    ReplicaReady,
    ReplicaRetired,
    ReplicaRouted,
    ReplicasSampled,
    ReplicaStarted,
    ScaleSet,
)
from tests.deployer.site import Site
from tests.deployer.waiting import DEADLINE, answer, eventually
from tests.support.releases import CRASHING, PYTHON, SERVER, release


async def test_the_newest_release_is_deployed_and_each_step_is_told(site: Site) -> None:
    release(site.registry, "1.0.0")
    release(site.registry, "1.1.0")
    async with site.deployer(replicas=2) as context:
        ids = await site.until_serving("1.1.0", 2)
        done = await site.until(DeploymentSucceeded)
    assert [answer(site.replicas[one].port) for one in ids] == ["1.1.0"] * 2
    (found,), (started,) = site.of(ReleaseFound), site.of(DeploymentStarted)
    assert (found.release, found.registry) == ("1.1.0", f"dir://{site.registry}")
    assert found.digest.startswith("sha256:")
    assert (started.release, started.previous, started.by, started.replicas) == ("1.1.0", "", "registry", 2)
    assert len(started.trace) == 32
    per_replica = [ReplicaStarted, ReplicaReady, ReplicaRouted]
    assert [type(event) for event in site.events if not isinstance(event, ReplicasSampled)] == [
        ScaleSet,
        ReleaseFound,
        DeploymentStarted,
        ImagePulled,
        *per_replica * 2,
        DeploymentSucceeded,
    ]
    assert done.deployment == started.deployment
    assert 0 < done.duration < 60
    assert all(one.startswith("web-1_1_0-") for one in ids)
    assert context.failure is None


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
async def test_a_clock_that_jumps_during_a_deployment_does_not_change_how_long_it_took(
    site: Site, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    jumps = itertools.chain([0.0], itertools.repeat(jump))
    clock = SimpleNamespace(time=lambda: time.time() + next(jumps), monotonic=time.monotonic)
    monkeypatch.setattr("services.deployer.reconcile.deployment.time", clock)
    release(site.registry, "1.0.0")
    async with site.deployer():
        done = await site.until(DeploymentSucceeded)
    assert abs(done.time - site.of(DeploymentStarted)[0].time) > 80000
    assert 0 < done.duration < 60


@pytest.mark.parametrize("strategy", ["rolling", "blue-green"])
async def test_a_new_release_takes_over_and_the_route_always_has_enough_backends(site: Site, strategy: str) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2, strategy=strategy):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        seen = len(site.routes)
        release(site.registry, "v2.0.0")
        await site.until_serving("v2.0.0", 2)
        await site.until(DeploymentSucceeded, 2)
        decisions = await site.decisions()
    assert (decisions.current, decisions.previous, decisions.ongoing) == ("v2.0.0", "1.0.0", None)
    active = [sum(backend.state == "active" for backend in route.backends) for route in site.routes[seen - 1 :]]
    assert min(active) == 2
    assert max(active) == (3 if strategy == "rolling" else 4)
    assert [event.reason for event in site.of(ReplicaRetired)] == ["replaced"] * 2
    retired = {event.replica for event in site.of(ReplicaRetired)}
    assert {event.replica for event in site.of(ReplicaDraining)} == retired
    assert not site.of(ReplicaExited)


async def test_generations_only_grow_and_every_port_leads_to_all_replicas(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(port=["8080", "8081"]):
        await site.until_serving("1.0.0")
    async with site.deployer(port=["8080", "8081"]):
        release(site.registry, "1.0.1")
        await site.until_serving("1.0.1")
    for port in (8080, 8081):
        generations = [route.generation for route in site.routes if route.port == port]
        assert generations == sorted(set(generations))
    last = {route.port: route.backends for route in site.routes}
    assert last[8080] == last[8081] != []


async def test_routes_without_backends_are_there_before_any_release_is_ready(site: Site) -> None:
    release(site.registry, "1.0.0")
    site.sick.add("1.0.0")
    async with site.deployer():
        await eventually(lambda: site.routes)
        assert site.routes[0].backends == []


async def test_the_route_of_a_port_that_is_no_longer_served_goes(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(port=["8080", "8081"]):
        await site.until_serving("1.0.0")
    key = subjects.route_key("here", "web", 8081)
    assert await site.bus.get(subjects.ROUTES, key)
    async with site.deployer(port=["8080"]), asyncio.timeout(DEADLINE):
        while await site.bus.get(subjects.ROUTES, key):  # noqa: ASYNC110 - a condition without an event
            await asyncio.sleep(0.02)


SILENT = PYTHON + "import time; print('no port', flush=True); time.sleep(600)"


@pytest.mark.parametrize(
    ("program", "phase", "reason", "output"),
    [
        (CRASHING, "check", "exited with code 3", "no database"),
        ("not a program", "start", "Exec format error", ""),
        (SILENT, "check", "was not ready within 1 s", "no port"),
    ],
)
async def test_a_bad_release_is_rolled_back_once_and_quarantined(
    site: Site, program: str, phase: str, reason: str, output: str
) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2, health_timeout=1.0):
        before = await site.until_serving("1.0.0", 2)
        release(site.registry, "2.0.0", program)
        back = await site.until(DeploymentRolledBack)
        failed = await site.until(DeploymentFailed)
        assert (failed.release, failed.phase, back.to) == ("2.0.0", phase, "1.0.0")
        assert reason in failed.reason
        assert failed.output == output
        assert [event.output for event in site.of(ReplicaExited)] == [output] * len(site.of(ReplicaExited))
        assert (await site.decisions()).last_lines == ({"2.0.0": output} if output else {})
        assert await site.until_serving("1.0.0", 2) == before
        assert (await site.decisions()).quarantined == {"2.0.0": failed.reason}
        release(site.registry, "2.0.1")
        await site.until_serving("2.0.1", 2)
        await site.until(DeploymentSucceeded, 2)
    assert len(site.of(DeploymentFailed)) == len(site.of(DeploymentRolledBack)) == len(site.of(ReleaseQuarantined)) == 1
    assert [event.release for event in site.of(DeploymentStarted)] == ["1.0.0", "2.0.0", "2.0.1"]


async def test_a_replica_that_dies_in_mid_deployment_brings_back_the_old_ones_that_still_drain(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2, drain_time=60.0):
        before = await site.until_serving("1.0.0", 2)
        site.busy = dict.fromkeys(before, 1)
        release(site.registry, "2.0.0")
        await site.until(ReplicaDraining)
        os.kill(site.pids()[site.of(ReplicaRouted)[2].replica], signal.SIGKILL)
        failed = await site.until(DeploymentFailed)
        assert (failed.phase, "was killed by signal 9" in failed.reason) == ("drain", True)
        assert sorted(await site.until_serving("1.0.0", 2)) == sorted(before)
        await site.until(DeploymentRolledBack)
    assert [event.code for event in site.of(ReplicaExited)] == [-9]


async def test_when_nothing_serves_the_newest_good_release_is_deployed(site: Site) -> None:
    release(site.registry, "1.0.0")
    release(site.registry, "2.0.0", CRASHING)
    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
    (failed,), (back,) = site.of(DeploymentFailed), site.of(DeploymentRolledBack)
    assert (failed.release, back.to) == ("2.0.0", "")


async def test_a_running_release_is_never_replaced_by_an_older_one(site: Site) -> None:
    release(site.registry, "1.0.0")
    release(site.registry, "2.0.0").joinpath("note").touch()
    async with site.deployer():
        await site.until_serving("2.0.0")
        site.registry.joinpath("2.0.0").rename(site.registry / "gone")
        release(site.registry, "1.5.0")
        await site.until(ReleaseFound, 2)
        assert len(site.of(DeploymentStarted)) == 1
        assert (await site.decisions()).current == "2.0.0"


async def test_a_draining_replica_lives_until_its_last_connection_ends(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(drain_time=60.0):
        (old,) = await site.until_serving("1.0.0")
        site.busy[old] = 2
        release(site.registry, "2.0.0")
        await site.until(ReplicaDraining)
        port = site.replicas[old].port
        await eventually(lambda: len(site.active()) == 1 and old not in site.active())
        assert answer(port) == "1.0.0"
        assert not site.of(ReplicaRetired)
        site.busy[old] = 0
        await site.until(DeploymentSucceeded, 2)
    assert [(event.replica, event.cut) for event in site.of(ReplicaDrained)] == [(old, 0)]
    assert answer(port) == ""
    states = [[(b.id, b.state) for b in route.backends if b.id == old] for route in site.routes]
    assert [state for n, state in enumerate(states) if n == 0 or state != states[n - 1]] == [
        [],
        [(old, "active")],
        [(old, "draining")],
        [],
    ]


async def test_a_draining_replica_goes_when_the_drain_time_is_over(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(drain_time=0.5):
        (old,) = await site.until_serving("1.0.0")
        site.busy[old] = 2
        release(site.registry, "2.0.0")
        await site.until(DeploymentSucceeded, 2)
    assert [event.replica for event in site.of(ReplicaRetired)] == [old]
    assert [(event.replica, event.cut) for event in site.of(ReplicaDrained)] == [(old, 2)]


async def test_a_registry_that_fails_is_told_with_its_streak_and_what_runs_is_left_alone(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        before = await site.until_serving("1.0.0")
        away = site.registry.rename(site.registry.with_name("away"))
        await site.until(RegistryFailed, 3)
        assert await site.until_serving("1.0.0") == before
        away.rename(site.registry)
        release(site.registry, "1.0.1")
        await site.until_serving("1.0.1")
    streaks = [event.streak for event in site.of(RegistryFailed)]
    assert streaks == list(range(1, len(streaks) + 1))
    assert str(site.registry) in site.of(RegistryFailed)[0].reason


async def test_without_a_health_path_a_replica_must_last_before_it_takes_traffic(site: Site) -> None:
    release(site.registry, "1.0.0")
    release(site.registry, "2.0.0", SERVER + "\n")
    async with site.deployer(health_path="", settle=1.0):
        await site.until_serving("2.0.0")
    (ready,) = site.of(ReplicaReady)
    assert ready.duration >= 1.0
