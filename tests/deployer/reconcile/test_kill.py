"""A deployer that is killed with -9 in the middle of a deployment, at each point of it."""

from __future__ import annotations

import asyncio
import signal
import sys

import msgspec
import pytest

from schemas.events import DeploymentFailed, DeploymentRolledBack, DeploymentStarted, DeploymentSucceeded
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.releases import CRASHING, SERVER, release

ACTIONS = ("Pull", "Start", "MarkReady", "Activate", "Retire", "Drain", "Unroute", "Stop", "Succeed")
GOOD = ["spawned", "before Succeed", *(f"after {action}" for action in ACTIONS)]
GOOD += ["telling DeploymentStarted", "telling DeploymentSucceeded"]
BAD = ["before Fail", "after Fail", "before RollbackDone", "after RollbackDone"]
BAD += ["telling DeploymentFailed", "telling DeploymentRolledBack"]


async def killed(site: Site, point: str, strategy: str) -> None:
    """Run a deployer until it kills itself."""
    settings = msgspec.json.encode(site.settings(replicas=2, strategy=strategy)).decode()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.deployer.reconcile.mortal", settings, point
    )
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("program", "point", "strategy"),
    [
        *((SERVER, point, "rolling") for point in GOOD),
        *((SERVER, point, "blue-green") for point in ("after Start", "after Activate", "after Drain")),
        *((CRASHING, point, "rolling") for point in BAD),
    ],
    ids=lambda value: value if len(value) < 30 and "\n" not in value else "",
)
async def test_killed_at_any_point_the_app_serves_and_nothing_is_left_half_done(
    site: Site, program: str, point: str, strategy: str
) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
    seen = len(site.routes)
    release(site.registry, "2.0.0", program)
    await killed(site, point, strategy)
    async with site.deployer(replicas=2, strategy=strategy):
        serving = await site.until_serving("2.0.0" if program == SERVER else "1.0.0", 2)
        await eventually(lambda: site.alive() == set(serving))
        await site.until(
            DeploymentSucceeded if program == SERVER else DeploymentRolledBack, 2 if program == SERVER else 1
        )
        decisions = await site.decisions()
    assert decisions.ongoing is None
    thin = [route for route in site.routes[seen:] if sum(one.state == "active" for one in route.backends) < 2]
    assert not thin, site.routes[seen - 1 :]
    ends: list[DeploymentSucceeded | DeploymentFailed] = [*site.of(DeploymentSucceeded), *site.of(DeploymentFailed)]
    assert [event.deployment for event in ends] == [event.deployment for event in site.of(DeploymentStarted)]
