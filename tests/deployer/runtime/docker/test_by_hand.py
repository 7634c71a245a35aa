"""Containers that somebody restarts, stops or kills by hand."""

from __future__ import annotations

import asyncio

import pytest

from schemas.events import ReplicaExited, ReplicaReady
from services.deployer.runtime.docker.state import is_signal
from tests.deployer.runtime.docker.site import DockerSite, serving, until_replaced
from tests.deployer.waiting import eventually

DEAF = "exec httpd -f -p 8080 -h /www"
"""Serves, and takes no notice of SIGTERM: the first process of a container has no default for it."""


async def test_a_container_restarted_by_hand_keeps_its_place(site: DockerSite) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await serving(site)
        container = site.ids()[before[1]]
        await asyncio.to_thread(site.engine.restart, before[1])
        await site.until(ReplicaReady, 3)
        assert sorted(await site.until_serving("1.0.0", 2)) == sorted(before)
        assert site.ids()[before[1]] == container
        assert site.visit(site.replicas[before[1]]) == "1.0.0"


@pytest.mark.parametrize("policy", [[], ["--restart", "always"]], ids=["alone", "always"])
async def test_a_slow_container_that_is_restarted_by_hand_keeps_its_place_and_its_files(
    site: DockerSite, policy: list[str]
) -> None:
    site.release("1.0.0", DEAF, Volumes={"/data": {}})
    async with site.deployer(docker_args=policy):
        (before,) = await serving(site, count=1)
        container, pid = site.ids()[before], site.replicas[before].pid
        created = site.engine.exec_create(before, ["touch", "/data/kept"])
        await asyncio.to_thread(site.engine.exec_start, created["Id"])
        await asyncio.to_thread(site.engine.restart, before, timeout=3)
        await eventually(lambda: before in site.replicas and site.replicas[before].pid not in (0, pid))
        assert await site.until_serving("1.0.0", 1) == [before]
        assert site.ids() == {before: container}
        check = site.engine.exec_create(before, ["test", "-e", "/data/kept"])
        await asyncio.to_thread(site.engine.exec_start, check["Id"])
        assert site.engine.exec_inspect(check["Id"])["ExitCode"] == 0


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_one_that_is_stopped_by_hand_is_replaced(site: DockerSite, how: str) -> None:
    site.release("1.0.0", DEAF)
    async with site.deployer(docker_args=["--restart", "always"]):
        (before,) = await serving(site, count=1)
        if how == "stopped":
            await asyncio.to_thread(site.engine.stop, before, timeout=2)
        else:
            await asyncio.to_thread(site.engine.kill, before)
        exited = await site.until(ReplicaExited)
        after = await until_replaced(site, before, 1)
        await eventually(lambda: site.containers() == dict.fromkeys(after, "running"))
    assert (exited.replica, exited.code) == (before, 137)


@pytest.mark.parametrize(
    ("number", "name", "same"),
    [
        ("15", "SIGTERM", True),
        ("15", "TERM", True),
        ("15", "15", True),
        ("3", "SIGQUIT", True),
        ("1", "SIGTERM", False),
        ("9", "SIGTERM", False),
        ("9", "SIGKILL", True),
        ("37", "SIGRTMIN+3", True),
        ("9", "SIGRTMIN+3", False),
        ("", "SIGTERM", False),
    ],
)
def test_only_the_stop_signal_of_an_image_asks_it_to_end(number: str, name: str, same: bool) -> None:
    assert is_signal(number, name) == same
