"""A deployment that is ended by hand, whatever it waits for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.commands import Abort, Drain, Retry
from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ReleaseQuarantined,
    ReplicaDraining,
    ReplicaReady,
    ReplicaStarted,
)
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.releases import release

HOOK = "test $LONGSHORE_RELEASE = 1.0.0 || { touch {mark}; sleep 600; }"


def sick(site: Site) -> None:
    site.sick.add("2.0.0")


def away(site: Site) -> None:
    site.follows = False


def busy(site: Site) -> None:
    site.busy = dict.fromkeys(site.active(), 1)


@pytest.mark.parametrize(
    ("phase", "prepare", "reached"),
    [
        ("check", sick, lambda site: len(site.of(ReplicaStarted)) == 2),
        ("route", away, lambda site: len(site.of(ReplicaReady)) == 2),
        ("drain", busy, lambda site: site.of(ReplicaDraining)),
    ],
)
async def test_a_deployment_is_ended_in_each_phase_and_undone_as_after_a_failure(
    site: Site, phase: str, prepare: Callable[[Site], None], reached: Callable[[Site], Any]
) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(drain_time=600.0, health_timeout=600.0):
        before = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        prepare(site)
        release(site.registry, "2.0.0")
        await eventually(lambda: reached(site))
        reply = await site.ask(Abort("ann"))
        assert "quarantined until `longshore retry 2.0.0`" in reply.message
        site.follows = True
        site.busy.clear()
        await site.until(DeploymentRolledBack)
        await eventually(lambda: site.active() == before and list(site.replicas) == before)
        decisions = await site.decisions()
        assert (decisions.current, decisions.quarantined) == ("1.0.0", {"2.0.0": "aborted by ann"})
        assert (await site.ask(Abort(), ok=False)).message == "no deployment is under way: nothing to abort"
        assert len(site.of(DeploymentStarted)) == 2
        site.sick.clear()
        await site.ask(Retry())
        await site.until_serving("2.0.0")
        await site.until(DeploymentSucceeded, 2)
    (failed,) = site.of(DeploymentFailed)
    assert (failed.deployment, failed.phase, failed.reason) == (reply.deployment, phase, "aborted by ann")
    assert [(event.release, event.reason) for event in site.of(ReleaseQuarantined)] == [("2.0.0", "aborted by ann")]


async def test_a_hook_is_killed_with_its_deployment(site: Site, tmp_path: Path) -> None:
    mark = tmp_path / "hook"
    release(site.registry, "1.0.0")
    async with site.deployer(before_deploy=HOOK.replace("{mark}", str(mark))):
        await site.until(DeploymentSucceeded)
        release(site.registry, "2.0.0")
        await eventually(mark.exists)
        await site.ask(Abort("ann"))
        await site.until(DeploymentRolledBack)
        await eventually(lambda: not any(b"sleep\x00600" in command for command in commands()))
        assert site.active()
    (failed,) = site.of(DeploymentFailed)
    assert (failed.phase, failed.reason) == ("hook", "aborted by ann")


def commands() -> list[bytes]:
    """The command lines of all processes."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes())
        except OSError:
            continue
    return found


async def test_what_is_rolled_back_already_is_not_aborted_again(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2, drain_time=600.0):
        await site.until(DeploymentSucceeded)
        site.busy = dict.fromkeys(site.active(), 1)
        release(site.registry, "2.0.0")
        await site.until(ReplicaDraining)
        site.busy |= dict.fromkeys(site.active(), 1)
        await site.ask(Abort())
        refused = await site.ask(Abort(), ok=False)
        assert refused.message == "release 2.0.0 is being rolled back already: nothing to abort"
        refused = await site.ask(Drain("x"), ok=False)
        assert refused.message == "release 2.0.0 is being rolled back: wait for its end, then ask again"
        site.busy.clear()
        await site.until(DeploymentRolledBack)
