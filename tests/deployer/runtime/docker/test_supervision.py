"""Containers that die, are restarted, removed, fall ill, or outlive their deployer."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from schemas.events import (
    UNSEEN,
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ReplicaAdopted,
    ReplicaExited,
    ReplicaReady,
    ReplicaRetired,
    ReplicasSampled,
    ReplicaStarted,
)
from schemas.routing import Backend
from services.common.errors import EngineError
from services.deployer.runtime.docker import watch
from services.deployer.runtime.docker.containers import Containers
from services.deployer.runtime.docker.output.outputs import ContainerOutputs
from services.deployer.runtime.docker.streaming import Stream
from tests.deployer.runtime.docker.site import DockerSite, serving, until_replaced
from tests.deployer.waiting import eventually
from tests.support.images import HUNGRY, SERVE


def backend(site: DockerSite, replica: str) -> Backend | None:
    """Where the newest route leads for a replica that takes traffic."""
    found = [one for one in site.routes[-1].backends if one.id == replica and one.state == "active"]
    return found[0] if found else None


async def test_a_container_killed_with_9_leaves_the_route_and_is_replaced(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await serving(site)
        os.kill(site.engine.inspect_container(before[0])["State"]["Pid"], signal.SIGKILL)
        exited = await site.until(ReplicaExited)
        after = await until_replaced(site, before[0])
        await eventually(lambda: site.containers() == dict.fromkeys(after, "running"))
    assert (exited.replica, exited.release, exited.code, exited.oom) == (before[0], "1.0.0", 137, False)
    assert before[1] in after
    assert len(site.of(DeploymentStarted)) == 1


async def test_a_container_removed_by_hand_is_replaced(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await serving(site)
        site.engine.remove_container(before[1], force=True)
        exited = await site.until(ReplicaExited)
        after = await until_replaced(site, before[1])
    assert (exited.replica, exited.code) == (before[1], 137)
    assert before[0] in after


async def test_one_that_takes_too_much_memory_is_told_as_such(
    site: DockerSite, capfd: pytest.CaptureFixture[str]
) -> None:
    site.release("1.0.0", f"while ! test -e /tmp/now; do sleep 0.1; done & {SERVE}; ")
    async with site.deployer(docker_args=["--memory=16m", "--memory", "12m"]):
        (before,) = await serving(site, count=1)
        assert site.engine.inspect_container(before)["HostConfig"]["Memory"] == 12 << 20
        site.release("2.0.0", HUNGRY)
        failed = await site.until(DeploymentFailed)
        exited = await site.until(ReplicaExited)
        await site.until(DeploymentRolledBack)
        assert site.active() == [before]
    assert exited.oom
    assert exited.code == 137
    assert "exited with code 137, out of memory" in failed.reason
    assert "out of memory" in capfd.readouterr().out


async def test_the_address_of_a_container_that_its_restart_policy_starts_again_is_followed(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2, docker_args=["--restart", "always"]):
        before = await serving(site)
        old, container = backend(site, before[0]), site.ids()[before[0]]
        os.kill(site.engine.inspect_container(before[0])["State"]["Pid"], signal.SIGKILL)
        exited = await site.until(ReplicaExited)
        await site.until(ReplicaStarted, 3)
        await eventually(lambda: backend(site, before[0]) not in (None, old))
        assert sorted(await site.until_serving("1.0.0", 2)) == sorted(before)
        assert site.visit(site.replicas[before[0]]) == "1.0.0"
        assert site.ids()[before[0]] == container
    assert (exited.replica, exited.code) == (before[0], 137)
    assert len(site.of(ReplicaReady)) == 3


async def test_an_image_that_crashes_again_and_again_fails_its_deployment_in_spite_of_a_restart_policy(
    site: DockerSite,
) -> None:
    site.release("1.0.0")
    async with site.deployer(docker_args=["--restart=always"]):
        before = await serving(site, count=1)
        site.release("2.0.0", "exit 7")
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        assert site.active() == before
        await eventually(lambda: site.containers() == {before[0]: "running"})
    assert "exited with code 7" in failed.reason


@pytest.mark.parametrize("stop", [True, False], ids=["stopped", "abandoned"])
async def test_the_next_deployer_adopts_what_runs_and_restarts_none(site: DockerSite, stop: bool) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await serving(site)
        containers = site.ids()
    if not stop:
        site.engine.remove_container(before[0], force=True)
    async with site.deployer(replicas=2):
        if stop:
            await site.until(ReplicaAdopted, 2)
            assert sorted(await site.until_serving("1.0.0", 2)) == sorted(before)
            assert site.ids() == containers
        else:
            await until_replaced(site, before[0])
    if stop:
        assert not site.of(ReplicaExited)
        assert len(site.of(ReplicaStarted)) == 2
    else:
        assert [(event.replica, event.code) for event in site.of(ReplicaExited)] == [(before[0], UNSEEN)]


async def test_what_ended_while_nobody_looked_is_told_with_its_exit_code(site: DockerSite) -> None:
    site.release("1.0.0", SERVE.replace("exit 0", "exit 5"))
    async with site.deployer():
        (before,) = await serving(site, count=1)
    await asyncio.to_thread(site.engine.kill, before, "SIGTERM")
    await eventually(lambda: site.containers() == {before: "exited"})
    async with site.deployer():
        await until_replaced(site, before, 1)
        await eventually(lambda: before not in site.containers())
    assert [(event.replica, event.code) for event in site.of(ReplicaExited)] == [(before, 5)]


async def test_one_that_was_restarted_while_nobody_looked_takes_no_traffic_before_it_has_passed_a_probe(
    site: DockerSite,
) -> None:
    site.release("1.0.0")
    async with site.deployer():
        before = await serving(site, count=1)
    site.probes = False
    await asyncio.to_thread(site.engine.restart, before[0])
    async with site.deployer():
        await site.until(ReplicaAdopted)
        await eventually(lambda: site.active() == [])
        site.probes = True
        assert await site.until_serving("1.0.0") == before
        await site.until(ReplicaReady, 2)


async def test_containers_whose_labels_lie_are_left_alone_and_told_once(
    site: DockerSite, capfd: pytest.CaptureFixture[str]
) -> None:
    site.release("1.0.0")
    async with site.deployer():
        (before,) = await serving(site, count=1)
    container = site.engine.inspect_container(before)
    labels = container["Config"]["Labels"]
    lies: dict[str, dict[str, str]] = {
        "copied": labels,
        "nameless": {name: value for name, value in labels.items() if name != "longshore.replica"},
        "unknown-release": labels | {"longshore.release": "9.9.9", "longshore.replica": "web-9_9_9-0-ffffff"},
        "web-1_0_0-0-ffffff": labels | {"longshore.replica": "web-1_0_0-0-ffffff"},
    }
    liars = [imposed(site, f"{site.repository}-{n}", lie, container["Image"]) for n, lie in enumerate(lies.values())]
    async with site.deployer():
        assert await site.until_serving("1.0.0", 1) == [before]
        await site.until(ReplicaAdopted)
        site.release("2.0.0")
        await site.until_serving("2.0.0", 1)
        await site.until(DeploymentSucceeded, 2)
    states = site.containers()
    assert [states[name] for name in liars] == ["running"] * len(liars)
    told = capfd.readouterr().out
    assert [told.count(f"container={name} ") for name in liars] == [1] * len(liars)
    assert len(site.of(ReplicaRetired)) == 1


def imposed(site: DockerSite, name: str, labels: dict[str, str], image: str) -> str:
    """A container that somebody else started with labels of ours."""
    body: dict[str, Any] = {"Image": image, "Labels": labels}
    site.engine.create_container_from_config(body, name)
    site.engine.start(name)
    return name


async def test_another_longshore_on_the_same_engine_is_not_touched(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer():
        (before,) = await serving(site, count=1)
    labels = site.engine.inspect_container(before)["Config"]["Labels"] | {"longshore.instance": "another"}
    other = imposed(
        site, f"{site.repository}-other", labels, f"{site.source}/{site.repository}@{labels['longshore.digest']}"
    )
    try:
        async with site.deployer(replicas=2):
            await site.until_serving("1.0.0", 2)
        assert site.engine.inspect_container(other)["State"]["Running"]
    finally:
        site.engine.remove_container(other, force=True)


async def test_containers_with_other_settings_than_those_of_now_are_replaced_one_by_one(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await serving(site)
    seen = len(site.routes)
    async with site.deployer(replicas=2, docker_args=["--env", "MODE=live"]):
        after = await eventually(
            lambda: site.active() if len(site.active()) == 2 and not set(site.active()) & set(before) else []
        )
        await eventually(lambda: site.containers() == dict.fromkeys(after, "running"))
        assert "MODE=live" in site.engine.inspect_container(after[0])["Config"]["Env"]
    assert min(sum(one.state == "active" for one in route.backends) for route in site.routes[seen:]) == 2
    changes = [(event.kind, event.changed) for event in site.of(DeploymentStarted)]
    assert changes == [("release", []), ("options", ["docker-args", "env MODE"])]


async def test_replicas_are_stopped_with_longshore_when_that_is_wanted(
    site: DockerSite, capfd: pytest.CaptureFixture[str]
) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2, stop_containers=True):
        await serving(site)
    assert [event.reason for event in site.of(ReplicaRetired)] == ["stopped"] * 2
    await eventually(lambda: site.containers() == {})
    assert "not stopped in time" not in capfd.readouterr().out


@pytest.mark.parametrize("failure", [EngineError("internal error", 500), KeyError("State")], ids=repr)
async def test_a_container_that_died_is_replaced_although_the_engine_could_not_say_so_at_first(
    site: DockerSite, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    inspect, failures = Containers.inspect, itertools.count(1)
    site.release("1.0.0")
    async with site.deployer():
        (before,) = await serving(site, count=1)

        async def failing(self: Containers, name: str) -> dict[str, Any] | None:
            if name == before and next(failures) <= 6:
                raise failure
            return await inspect(self, name)

        monkeypatch.setattr(Containers, "inspect", failing)
        await asyncio.to_thread(site.engine.kill, site.ids()[before])
        await site.until(ReplicaExited)
        assert await site.until_serving("1.0.0") != [before]


async def test_what_is_no_event_of_an_engine_is_passed_over(site: DockerSite, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Stream.objects

    async def with_rubbish(self: Stream) -> AsyncIterator[dict[str, Any]]:
        for rubbish in ({}, {"Actor": None}, {"Actor": {"Attributes": {"name": 1}}}, {"Action": 7}):
            yield rubbish
        async for one in objects(self):
            yield one

    monkeypatch.setattr(Stream, "objects", with_rubbish)
    site.release("1.0.0")
    async with site.deployer():
        (before,) = await serving(site, count=1)
        await asyncio.to_thread(site.engine.kill, site.ids()[before])
        await site.until(ReplicaExited)
        assert await site.until_serving("1.0.0") != [before]


async def test_a_containers_resources_are_those_that_docker_stats_shows(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(docker_args=["--memory=64m"]):
        (name,) = await serving(site, count=1)
        sampled = await site.until(ReplicasSampled)
        shown = site.engine.stats(name, stream=False)
    assert 0 < sampled.cpu[name] <= shown["cpu_stats"]["cpu_usage"]["total_usage"] / 1e9
    assert 0 < sampled.memory[name] <= sampled.memory_limit[name] == 64 << 20
    assert 0 <= sampled.received[name] <= sum(one["rx_bytes"] for one in shown["networks"].values())
    assert set(sampled.sent) == {name}
    assert not sampled.restarts


async def test_a_container_gets_its_variables_and_is_replaced_when_they_change(
    site: DockerSite, tmp_path: Path
) -> None:
    (tmp_path / "env").write_text("FROM_FILE=1\n")
    (tmp_path / "secret").write_text("correct horse battery\n")
    options = {"env_file": [str(tmp_path / "env")], "secret": [f"KEY={tmp_path / 'secret'}"]}
    site.release("1.0.0")

    def variables(name: str) -> set[str]:
        return set(site.engine.inspect_container(name)["Config"]["Env"])

    async with site.deployer(env=["A=option", "B=option"], docker_args=["-e", "B=behind"], **options):
        (before,) = await serving(site, count=1)
        assert variables(before) >= {"A=option", "B=behind", "FROM_FILE=1", "KEY=correct horse battery"}
    async with site.deployer(env=["A=option", "B=option"], docker_args=["-e", "B=behind"], **options):
        assert (await site.until(ReplicaAdopted)).replica == before
        assert await serving(site, count=1) == [before]
    (tmp_path / "env").write_text("FROM_FILE=2\n")
    async with site.deployer(env=["A=option", "B=option"], docker_args=["-e", "B=behind"], **options):
        (after,) = await until_replaced(site, before, count=1)
        assert "FROM_FILE=2" in variables(after)


async def test_a_container_is_replaced_with_its_ports_after_a_change_of_them_failed(site: DockerSite) -> None:
    site.release("1.0.0", ExposedPorts={})
    async with site.deployer(port=["8080:8080"]):
        await serving(site, count=1)
    async with site.deployer(port=["8080"]):  # which port of the container is unknown now
        assert (await site.until(DeploymentFailed)).kind == "options"
        await site.until(DeploymentRolledBack)
        (before,) = await site.until_serving("1.0.0")
        site.engine.remove_container(before, force=True)
        (after,) = await until_replaced(site, before, 1)
        assert site.visit(site.replicas[after]) == "1.0.0"


async def test_the_end_of_a_container_is_reported_whatever_becomes_of_its_log(
    site: DockerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_: Any) -> str:
        await asyncio.Event().wait()
        return ""

    monkeypatch.setattr(watch, "OUTPUT_TIMEOUT", 0.5)
    monkeypatch.setattr(ContainerOutputs, "save", hang)
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await serving(site)
        os.kill(site.engine.inspect_container(before[0])["State"]["Pid"], signal.SIGKILL)
        assert (await site.until(ReplicaExited)).replica == before[0]
        await until_replaced(site, before[0])
