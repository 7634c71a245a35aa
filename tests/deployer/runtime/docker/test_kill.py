"""A deployer of containers that is killed with -9 in the middle of a deployment."""

from __future__ import annotations

import pytest

from schemas.events import DeploymentRolledBack, DeploymentStarted, DeploymentSucceeded
from tests.deployer.reconcile.test_kill import killed
from tests.deployer.runtime.docker.site import DockerSite
from tests.deployer.waiting import eventually
from tests.support.images import SERVE


@pytest.mark.parametrize(
    ("script", "point"),
    [
        *(
            (SERVE, point)
            for point in ("spawned", "after Pull", "after Start", "after Activate", "after Unroute", "after Stop")
        ),
        *(("exit 3", point) for point in ("before Fail", "after Fail")),
    ],
    ids=lambda value: value if len(value) < 20 else "",
)
async def test_killed_at_any_point_the_app_serves_and_no_container_is_left_over(
    site: DockerSite, script: str, point: str
) -> None:
    site.release("1.0.0")
    async with site.deployer(replicas=2):
        before = await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
    containers, seen = site.ids(), len(site.routes)
    site.release("2.0.0", script)
    await killed(site, point, "rolling")
    assert set(site.containers().values()) <= {"running", "created", "exited", "removing"}
    async with site.deployer(replicas=2):
        serving = await site.until_serving("2.0.0" if script == SERVE else "1.0.0", 2)
        await site.until(*((DeploymentSucceeded, 2) if script == SERVE else (DeploymentRolledBack, 1)))
        await eventually(lambda: site.containers() == dict.fromkeys(serving, "running"))
    assert min(sum(one.state == "active" for one in route.backends) for route in site.routes[seen:]) >= 2
    assert len(site.of(DeploymentStarted)) == 2
    if script != SERVE:
        assert sorted(serving) == sorted(before)
        assert site.ids() == containers
