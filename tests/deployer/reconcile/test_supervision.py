"""Replicas that die, fall ill, or outlive their deployer."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import msgspec
from msgspec.structs import replace

from schemas import subjects
from schemas.commands import Resume
from schemas.events import (
    DeploymentStarted,
    DeploymentSucceeded,
    ReplicaAdopted,
    ReplicaDraining,
    ReplicaExited,
    ReplicaReady,
    ReplicaRetired,
    ReplicaRouted,
    ReplicaStarted,
)
from schemas.routing import Serving
from services.common.process import state_lock
from tests.deployer.site import HOST, Site
from tests.deployer.waiting import answer, eventually
from tests.support.nats_server import NatsServer
from tests.support.releases import release


async def test_a_dead_replica_leaves_the_route_at_once_and_is_replaced(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        os.kill(site.pids()[before[0]], signal.SIGKILL)
        exited = await site.until(ReplicaExited)
        assert (exited.replica, exited.release, exited.code) == (before[0], "1.0.0", -9)
        after = await eventually(
            lambda: site.active() if len(site.active()) == 2 and before[0] not in site.active() else []
        )
        assert before[1] in after
        await eventually(lambda: set(site.replicas) == set(after))
    assert site.of(ReplicaStarted)[-1].deployment == ""
    assert [one.replaces for one in site.of(ReplicaStarted)] == [False, False, True]
    assert len(site.of(DeploymentStarted)) == 1
    assert not site.of(ReplicaRetired)


async def test_an_unhealthy_replica_gets_no_new_connections_until_it_recovers(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2, replace_after=60.0):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        site.sick.add(before[0])
        await eventually(lambda: site.active() == [before[1]])
        assert answer(site.replicas[before[0]].port) == "1.0.0"
        site.sick.clear()
        await eventually(lambda: sorted(site.active()) == sorted(before))
        await site.until(ReplicaRouted, 3)
    assert [event.replica for event in site.of(ReplicaDraining)] == [before[0]]
    assert len(site.of(ReplicaReady)) == 2


async def test_a_replica_that_stays_unhealthy_is_replaced(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replace_after=0.3):
        (before,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.sick.add(before)
        retired = await site.until(ReplicaRetired)
        assert (retired.replica, retired.reason) == (before, "replaced")
        assert await site.until_serving("1.0.0") != [before]
    assert [one.replaces for one in site.of(ReplicaStarted)][:2] == [False, True]


async def test_replicas_are_adopted_without_a_restart_and_stay_in_the_route(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
    pids, seen = site.pids(), len(site.routes)
    async with site.deployer(replicas=2):
        await site.until(ReplicaAdopted, 2)
        await eventually(lambda: len(site.routes) > seen)
        await site.ask(Resume())
        assert await site.until_serving("1.0.0", 2) == before
    assert site.pids() == pids
    assert all(len(route.backends) == 2 for route in site.routes[seen:])
    assert len(site.of(ReplicaStarted)) == len(site.of(ReplicaReady)) == len(site.of(ReplicaRouted)) == 2
    assert {(event.replica, event.pid) for event in site.of(ReplicaAdopted)} == set(pids.items())


async def test_a_replica_that_died_while_nobody_watched_is_told_with_its_code_and_replaced(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
    os.kill(site.pids()[before[0]], signal.SIGSEGV)
    await eventually(lambda: answer(site.replicas[before[0]].port) == "")
    async with site.deployer(replicas=2):
        exited = await site.until(ReplicaExited)
        assert (exited.replica, exited.code) == (before[0], -11)
        await eventually(lambda: before[0] not in site.replicas and before[0] not in site.active())
        assert before[1] in await site.until_serving("1.0.0", 2)
    async with site.deployer(replicas=2):
        await site.until(ReplicaAdopted, 3)
    assert len(site.of(ReplicaExited)) == 1


async def test_everything_comes_back_when_the_host_had_lost_all_of_it(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=3):
        await site.until_serving("1.0.0", 3)
        await site.until(DeploymentSucceeded)
    for pid in site.pids().values():
        os.kill(pid, signal.SIGKILL)
    async with site.deployer(replicas=3):
        await site.until(ReplicaExited, 3)
        await site.until_serving("1.0.0", 3)
    assert len(site.of(DeploymentStarted)) == 1


async def test_another_number_of_replicas_scales_at_the_next_start(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=3):
        await site.until_serving("1.0.0", 3)
        await site.until(DeploymentSucceeded)
    async with site.deployer(replicas=1):
        await site.until_serving("1.0.0", 1)
        await site.until(ReplicaRetired, 2)
    async with site.deployer(replicas=2):
        await site.until_serving("1.0.0", 2)
    assert {event.reason for event in site.of(ReplicaRetired)} == {"scaled down"}
    assert len(site.of(DeploymentStarted)) == 1


async def test_a_deployment_under_way_is_gone_on_with_after_a_restart(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        site.busy = dict.fromkeys(before, 1)
        release(site.registry, "2.0.0")
        await site.until(ReplicaDraining)
    assert (await site.decisions()).ongoing
    site.busy.clear()
    async with site.deployer(replicas=2):
        await site.until_serving("2.0.0", 2)
        done = await site.until(DeploymentSucceeded, 2)
    started = site.of(DeploymentStarted)
    assert len(started) == 2
    assert done.deployment == started[1].deployment


async def test_a_deployment_takes_no_negative_time_although_the_clock_was_set_back(site: Site) -> None:
    release(site.registry, "1.0.0")
    site.sick.add("1.0.0")
    async with site.deployer():
        await site.until(DeploymentStarted)
    decisions = await site.decisions()
    assert decisions.ongoing
    later = replace(decisions, ongoing=replace(decisions.ongoing, started=decisions.ongoing.started + 86400))
    await site.bus.put(subjects.DECISIONS, subjects.decisions_key(HOST, "web"), later)
    site.sick.clear()
    async with site.deployer():
        done = await site.until(DeploymentSucceeded)
    assert done.duration == 0


async def test_stop_containers_drains_and_stops_all_replicas(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2, stop_containers=True):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
    await site.until(ReplicaRetired, 2)
    assert {event.reason for event in site.of(ReplicaRetired)} == {"stopped"}
    await eventually(lambda: not site.replicas)
    assert site.routes[-1].backends == []
    async with site.deployer():
        await site.until_serving("1.0.0")
    assert len(site.of(DeploymentStarted)) == 1


async def test_while_the_bus_is_away_nothing_is_changed_and_then_everything_is_made_up_for(
    site: Site, nats_server: NatsServer
) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        pids = site.pids()
        nats_server.kill()
        os.kill(pids[before[0]], signal.SIGKILL)
        await eventually(lambda: answer(site.replicas[before[0]].port) == "")
        release(site.registry, "2.0.0")
        for _ in range(20):  # time for many looks at the registry, and for the dead replica to be seen
            await asyncio.sleep(0.1)
            assert site.pids() == pids
        nats_server.start()
        await site.until_serving("2.0.0", 2)
        await site.until(DeploymentSucceeded, 2)
    assert [event.code for event in site.of(ReplicaExited)] == [-9]


async def test_a_bus_that_lost_everything_is_told_again_what_is_true(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
    await site.lose_buckets()
    pids = site.pids()
    async with site.deployer(replicas=2):
        assert sorted(await site.until_serving("1.0.0", 2)) == sorted(before)
        assert (await site.decisions()).current == "1.0.0"
    assert site.pids() == pids
    assert len(site.of(DeploymentStarted)) == 1


async def test_a_second_deployer_of_the_same_app_says_whom_it_waits_for_and_then_takes_over(
    site: Site, tmp_path: Path
) -> None:
    release(site.registry, "1.0.0")
    settings = msgspec.json.encode(site.settings()).decode()
    log = tmp_path / "second.log"
    with log.open("wb") as output:
        with state_lock.lock(str(site.state_dir), "replicas/web/deployer"):
            second = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "tests.deployer.reconcile.mortal", settings, "never"], stdout=output
            )
            await eventually(lambda: "waiting until it ends" in log.read_text())
            assert f"pid={os.getpid()}" in log.read_text()
            assert not site.events
        await site.until_serving("1.0.0")
    second.terminate()
    assert await asyncio.wait_for(second.wait(), 60) == 0


async def test_a_second_deployer_with_another_state_directory_waits_as_well_and_changes_nothing(
    site: Site, tmp_path: Path
) -> None:
    release(site.registry, "1.0.0")
    settings = msgspec.json.encode(site.settings(state_dir=str(tmp_path / "other"), stop_containers=True)).decode()
    log = tmp_path / "second.log"
    with log.open("wb") as output:
        async with site.deployer():
            before = await site.until_serving("1.0.0")
            await site.until(DeploymentSucceeded)
            second = await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", "tests.deployer.reconcile.mortal", settings, "never"], stdout=output
            )
            await eventually(lambda: "waiting until it ends" in log.read_text())
            assert f"--state-dir {site.state_dir}" in log.read_text()
            release(site.registry, "2.0.0")
            after = await site.until_serving("2.0.0")
            await site.until(DeploymentSucceeded, 2)
            assert {event.replica for event in site.of(ReplicaStarted)} == {*before, *after}
        await eventually(lambda: site.active() and site.active() != after)
        (successor,) = await site.until_serving("2.0.0")
        assert (tmp_path / "other" / "replicas" / "web" / successor).is_dir()
    second.terminate()
    assert await asyncio.wait_for(second.wait(), 60) == 0


async def test_a_route_is_newer_than_the_one_that_the_proxy_still_follows_although_the_bus_lost_it(site: Site) -> None:
    key = subjects.route_key(HOST, "web", 8080)
    await site.bus.put(subjects.SERVING, key, Serving("web", 8080, 57))
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
    assert min(route.generation for route in site.routes) > 57


async def test_routes_and_replicas_of_this_host_alone_are_touched(site: Site) -> None:
    await site.bus.put(subjects.ROUTES, subjects.route_key("elsewhere", "web", 8080), site.settings())
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
    assert await site.bus.get(subjects.ROUTES, subjects.route_key("elsewhere", "web", 8080))
