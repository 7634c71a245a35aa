"""The drain signal of containers: by option or by the image's label, and whatever restarts them."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import DeploymentFailed, DeploymentSucceeded, ReplicaExited, ReplicaRetired
from services.deployer.service import replicas
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.waiting import eventually

POLITE = "trap 'echo polite; exit 0' USR1; trap 'echo stopped; exit 0' TERM; httpd -f -p 8080 -h /www & wait"
LABELED = {"Labels": {"longshore.drain-signal": "USR1", "longshore.note": "not one of ours"}}
STOPPED_BY_QUIT = {"StopSignal": "SIGQUIT"}
"""With this the engine restarts a container that another signal ended, if its policy says so."""


def output(site: DockerSite, replica: str) -> str:
    path = replicas(site.settings()) / replica / "output.log"
    return path.read_text() if path.exists() else ""


@pytest.mark.parametrize(
    ("options", "config"),
    [
        ({"drain_signal": "USR1"}, {}),
        ({}, LABELED),
        ({"drain_signal": "USR1", "docker_args": ["--restart", "always"]}, STOPPED_BY_QUIT),
    ],
    ids=["option", "label", "restart-policy"],
)
async def test_a_container_gets_its_signal_when_it_drains_and_stays_down(
    site: DockerSite, options: dict[str, Any], config: dict[str, Any]
) -> None:
    site.release("1.0.0", POLITE, **config)
    async with site.deployer(drain_time=600.0, **options):
        (old,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.busy[old] = 1
        site.release("2.0.0", POLITE, **config)
        (new,) = await site.until_serving("2.0.0")
        await site.until(DeploymentSucceeded, 2)
        await eventually(lambda: site.containers() == {new: "running"})
    assert [(event.replica, event.reason) for event in site.of(ReplicaRetired)] == [(old, "replaced")]
    assert site.of(ReplicaExited) == []
    assert "polite" in output(site, old)
    assert "stopped" not in output(site, old)


async def test_a_label_makes_no_container_a_strange_one_and_none_overrules_it(site: DockerSite) -> None:
    site.release("1.0.0", POLITE, **LABELED)
    async with site.deployer():
        before = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
    async with site.deployer(drain_signal="none", drain_time=0.2):
        assert await site.until_serving("1.0.0") == before
        site.busy[before[0]] = 1
        site.release("2.0.0", POLITE, **LABELED)
        await site.until(DeploymentSucceeded, 2)
        await eventually(lambda: "stopped" in output(site, before[0]))
    assert "polite" not in output(site, before[0])


async def test_a_label_that_names_no_signal_fails_the_deployment_in_one_line(site: DockerSite) -> None:
    site.release("1.0.0", POLITE, Labels={"longshore.drain-signal": "SOON"})
    async with site.deployer():
        failed = await site.until(DeploymentFailed)
    assert (failed.phase, failed.reason) == (
        "pull",
        "the image's label longshore.drain-signal: 'SOON' is not a signal; use a name such as SIGTERM, or none",
    )
