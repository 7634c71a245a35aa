"""Images that cannot be run here: one clear line is told, and the old release serves on."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import DeploymentFailed, DeploymentRolledBack, DeploymentStarted, DeploymentSucceeded
from tests.deployer.runtime.docker.site import DockerSite, get
from tests.deployer.waiting import eventually
from tests.support.images import HUNGRY, SERVE


@pytest.mark.parametrize(
    ("image", "phase", "reason"),
    [
        ({"arch": "s390x"}, "pull", "is for linux/s390x, and this engine runs linux/amd64"),
        ({"ExposedPorts": {}}, "pull", "exposes no TCP port: name one with --port 8080:CONTAINER-PORT"),
        ({"ExposedPorts": {"80/tcp": {}, "81": {}}}, "pull", "exposes the TCP ports 80, 81: name one with --port"),
        ({"ExposedPorts": {"8000-8002/tcp": {}}}, "pull", "exposes the TCP ports 8000, 8001, 8002: name one"),
        ({"ExposedPorts": {"http": {}}}, "pull", "exposes no TCP port"),
        ({"Cmd": ["/no/such/program"]}, "start", "/no/such/program"),
        ({"script": "exit 3"}, "check", "exited with code 3 after"),
        ({"script": "kill -11 $$"}, "check", "after"),
        ({"script": HUNGRY}, "check", "exited with code 137, out of memory after"),
        ({"script": SERVE.replace("8080", "8081")}, "check", "was not ready within 4 s"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value.partition(":")[0],
)
async def test_an_image_that_cannot_be_run_is_told_once_and_the_old_release_serves_on(
    site: DockerSite, capfd: pytest.CaptureFixture[str], image: dict[str, Any], phase: str, reason: str
) -> None:
    site.release("1.0.0")
    async with site.deployer(docker_args=["--memory", "12m"], health_timeout=4.0):
        before = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.release("2.0.0", **image)
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        assert site.active() == before
        assert get("127.0.0.1", site.replicas[before[0]].port) == "1.0.0"
        await eventually(lambda: site.containers() == {before[0]: "running"})
    assert failed.phase == phase
    assert reason in failed.reason
    assert "\n" not in failed.reason
    assert len(site.of(DeploymentStarted)) == 2
    told = [line for line in capfd.readouterr().out.splitlines() if "deployment failed" in line]
    assert len(told) == 1
    assert reason in told[0]
