"""What a person may ask of a running deployer."""

from __future__ import annotations

import msgspec
import pytest

from schemas import subjects
from schemas.commands import Abort, Command, Deploy, Drain, Pause, Reply, Resume, Retry, Rollback
from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentsPaused,
    DeploymentsResumed,
    DeploymentStarted,
    DeploymentSucceeded,
    QuarantineLifted,
    ReleaseFound,
    ReplicaDraining,
    ReplicaRetired,
)
from tests.deployer.site import HOST, Site
from tests.support.releases import CRASHING, release


async def test_a_rollback_is_a_new_deployment_and_the_newest_release_waits_until_resumed(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        release(site.registry, "2.0.0")
        await site.until(DeploymentSucceeded, 2)
        reply = await site.ask(Rollback(by="ann"))
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded, 3)
    third = site.of(DeploymentStarted)[2]
    assert (third.deployment, third.release, third.previous, third.by) == (reply.deployment, "1.0.0", "2.0.0", "ann")
    async with site.deployer():
        release(site.registry, "2.0.1")
        await site.until(ReleaseFound, 3)
        assert (await site.decisions()).pinned == "1.0.0"
        assert len(site.of(DeploymentStarted)) == 3
        reply = await site.ask(Resume(by="bob"))
        await site.until_serving("2.0.1")
        await site.until(DeploymentSucceeded, 4)
    assert site.of(DeploymentStarted)[3].deployment == reply.deployment
    assert [event.by for event in site.of(DeploymentsResumed)] == ["bob"]


async def test_what_took_effect_is_answered_so_although_the_registry_fails(site: Site) -> None:
    away = site.registry.with_name("away")
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until(DeploymentSucceeded)
        await site.ask(Pause())
        release(site.registry, "2.0.0")
        await site.until(ReleaseFound, 2)
        site.registry.rename(away)
        reply = await site.ask(Resume())
        assert "the newest release is followed again; release 2.0.0 is deployed as soon as" in reply.message
        assert not (await site.decisions()).paused
        away.rename(site.registry)
        await site.until_serving("2.0.0")
        await site.until(DeploymentSucceeded, 2)


async def test_a_named_release_is_deployed_and_stays(site: Site) -> None:
    for version in ("1.0.0", "1.1.0", "2.0.0"):
        release(site.registry, version)
    async with site.deployer():
        await site.until(DeploymentSucceeded)
        await site.ask(Deploy("1.1.0"))
        await site.until_serving("1.1.0")
        await site.until(DeploymentSucceeded, 2)
        assert (await site.decisions()).pinned == "1.1.0"
        await site.ask(Rollback("1.0.0"))
        await site.until(DeploymentSucceeded, 3)
        await site.ask(Deploy())
        await site.until(DeploymentSucceeded, 4)
        decisions = await site.decisions()
    assert (decisions.current, decisions.previous, decisions.pinned) == ("2.0.0", "1.0.0", "")


async def test_paused_deployments_wait_and_dead_replicas_are_still_replaced(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        (before,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await site.ask(Pause(by="ann"))
        assert "already" in (await site.ask(Pause())).message
        release(site.registry, "2.0.0")
        await site.until(ReleaseFound, 2)
        refused = await site.ask(Deploy(), ok=False)
        assert "`longshore resume`" in refused.message
    assert [event.by for event in site.of(DeploymentsPaused)] == ["ann"]
    async with site.deployer():
        await site.ask(Drain(before))
        await site.until(ReplicaRetired)
        assert (await site.until_serving("1.0.0")) != [before]
        assert len(site.of(DeploymentStarted)) == 1
        reply = await site.ask(Resume())
        await site.until_serving("2.0.0")
        assert reply.deployment


async def test_a_quarantined_release_is_refused_until_it_is_retried(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until(DeploymentSucceeded)
        bad = release(site.registry, "2.0.0", CRASHING)
        await site.until(DeploymentRolledBack)
        for command in (Deploy(), Deploy("2.0.0"), Rollback("2.0.0")):
            refused = await site.ask(command, ok=False)
            assert "`longshore retry 2.0.0`" in refused.message
            assert "exited with code 3" in refused.message
        refused = await site.ask(Retry("1.0.0"), ok=False)
        assert refused.message == "release 1.0.0 is not quarantined; quarantined: 2.0.0"
        bad.joinpath("run").write_text((site.registry / "1.0.0" / "run").read_text())
        reply = await site.ask(Retry(by="ann"))
        await site.until_serving("2.0.0")
        await site.until(DeploymentSucceeded, 2)
        assert (await site.decisions()).quarantined == {}
    assert site.of(DeploymentStarted)[-1].deployment == reply.deployment
    assert [(event.release, event.by) for event in site.of(QuarantineLifted)] == [("2.0.0", "ann")]


async def test_a_drained_replica_leaves_when_its_successor_serves(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        (old,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        seen = len(site.routes)
        await site.ask(Drain(old))
        retired = await site.until(ReplicaRetired)
        assert (retired.replica, retired.deployment, retired.reason) == (old, "", "replaced")
        await site.until_serving("1.0.0")
    assert [event.replica for event in site.of(ReplicaDraining)] == [old]
    assert all(any(one.state == "active" for one in route.backends) for route in site.routes[seen:])


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (Deploy("3.0.0"), "offers no release 3.0.0; it has 1.0.0"),
        (Rollback(), "there is no release before the current one: name one, `longshore rollback RELEASE`"),
        (Rollback("0.9.0"), "holds no release 0.9.0"),
        (Retry("1.0.0"), "no release is quarantined: nothing to retry"),
        (Drain("web-x"), "no replica 'web-x' runs here; these do: web-1_0_0-0-"),
        (Abort(), "no deployment is under way: nothing to abort"),
    ],
)
async def test_what_cannot_be_done_is_refused_in_one_line(site: Site, command: Command, message: str) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until(DeploymentSucceeded)
        refused = await site.ask(command, ok=False)
    assert message in refused.message
    assert "\n" not in refused.message
    assert len(site.of(DeploymentStarted)) == 1


async def test_during_a_deployment_only_a_pause_and_an_abort_are_taken(site: Site) -> None:
    release(site.registry, "1.0.0")
    site.sick.add("1.0.0")
    async with site.deployer():
        await site.until(DeploymentStarted)
        for command in (Deploy(), Rollback(), Resume(), Retry(), Drain("x")):
            refused = await site.ask(command, ok=False)
            assert refused.message == (
                "release 1.0.0 is being deployed: wait for its end, or end it with `longshore abort`"
            )
        await site.ask(Pause())
        site.sick.clear()
        await site.until(DeploymentSucceeded)
        assert (await site.decisions()).paused


async def test_the_current_release_is_not_deployed_again(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until(DeploymentSucceeded)
        assert await site.ask(Deploy()) == Reply(True, "release 1.0.0 is the current one already")


async def test_what_is_not_a_command_is_answered(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until(DeploymentSucceeded)
        answer = await site.bus.client.request(subjects.commands("web", HOST), b"{", timeout=5)
    assert not msgspec.json.decode(answer.data, type=Reply).ok


async def test_a_failed_rollback_leaves_the_current_release_and_follows_the_registry_as_before(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(health_timeout=1.0):
        await site.until(DeploymentSucceeded)
        release(site.registry, "2.0.0")
        await site.until(DeploymentSucceeded, 2)
        site.sick.add("1.0.0")
        await site.ask(Rollback())
        await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        decisions = await site.decisions()
        assert (decisions.current, decisions.pinned) == ("2.0.0", "")
        release(site.registry, "2.0.1")
        await site.until_serving("2.0.1")
