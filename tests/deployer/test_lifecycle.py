"""Restart, scale, stop, start, remove, and the redeployment of a release whose files have changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import subjects
from schemas.commands import Command, Deploy, Drain, Remove, Reply, Restart, Rollback, Scale, Start, Stop
from schemas.events import (
    ApplicationRemoved,
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    ReleaseQuarantined,
    ReplicaRetired,
    ReplicaStarted,
    ScaleSet,
)
from services.cli.commands import control
from services.client.client import Client, Target
from services.deployer.service import replicas
from tests.deployer.site import HOST, Site
from tests.deployer.waiting import DEADLINE, eventually
from tests.support.releases import CRASHING, SERVER, release


async def test_a_restart_replaces_every_replica_one_by_one_and_keeps_the_release(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = set(await site.until_serving("1.0.0", 2))
        first = await site.until(DeploymentSucceeded)
        seen = len(site.routes)
        reply = await site.ask(Restart(by="ann"))
        await site.until(DeploymentSucceeded, 2)
        after = set(await site.until_serving("1.0.0", 2))
        decisions = await site.decisions()
    assert not before & after
    assert not [route for route in site.routes[seen:] if sum(one.state == "active" for one in route.backends) < 2]
    started = site.of(DeploymentStarted)[1]
    assert (started.deployment, started.kind, started.by, started.changed) == (reply.deployment, "restart", "ann", [])
    assert started.deployment != first.deployment
    assert (decisions.current, decisions.previous, decisions.pinned) == ("1.0.0", "", "")


async def test_a_restart_that_fails_is_undone_and_quarantines_nothing(site: Site) -> None:
    folder = release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        before = set(await site.until_serving("1.0.0", 2))
        await site.until(DeploymentSucceeded)
        folder.joinpath("run").write_text(CRASHING)
        await site.ask(Restart())
        await site.until(DeploymentRolledBack)
        assert set(await site.until_serving("1.0.0", 2)) == before
        folder.joinpath("run").write_text(SERVER)
        await site.ask(Restart())
        await site.until(DeploymentSucceeded, 2)
    assert site.of(ReleaseQuarantined) == []


async def test_the_number_of_replicas_that_an_operator_sets_lasts_until_the_option_changes(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await site.ask(Scale(3, "ann"))
        await site.until_serving("1.0.0", 3)
        assert "already" in (await site.ask(Scale(3))).message
        assert "use 0 to 1000" in (await site.ask(Scale(-1), ok=False)).message
    async with site.deployer():
        await site.until_serving("1.0.0", 3)
        await site.ask(Scale(0, "bob"))
        await eventually(lambda: not site.alive())
        for command in (Deploy(), Restart(), Rollback()):
            assert "`longshore scale 1` first" in (await site.ask(command, ok=False)).message
        await site.ask(Scale(1))
        await site.until_serving("1.0.0", 1)
        await site.ask(Scale(4))
        await site.until_serving("1.0.0", 4)
    async with site.deployer(replicas=2):
        await site.until_serving("1.0.0", 2)
    set_by = [(event.replicas, event.by) for event in site.of(ScaleSet)]
    assert set_by == [(1, ""), (3, "ann"), (3, ""), (0, "bob"), (1, "operator"), (4, "operator"), (2, "")]
    assert len(site.of(DeploymentStarted)) == 1
    assert not any(event.replaces for event in site.of(ReplicaStarted)), "no replica failed"


async def test_a_stopped_application_stays_stopped_until_it_is_started(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        await site.ask(Stop(by="ann"))
        await eventually(lambda: not site.alive())
        assert "already" in (await site.ask(Stop())).message
    release(site.registry, "2.0.0")
    async with site.deployer(replicas=2):
        assert "`longshore start` first" in (await site.ask(Deploy(), ok=False)).message
        assert "`longshore start` first" in (await site.ask(Scale(1), ok=False)).message
        assert not site.alive()
        await site.ask(Start(by="ann"))
        await site.until_serving("2.0.0", 2)
        await site.until(DeploymentSucceeded, 2)
        assert "not stopped" in (await site.ask(Start())).message
    assert {event.reason for event in site.of(ReplicaRetired)[:2]} == {"stopped"}
    assert [event.replicas for event in site.of(ScaleSet)] == [2, 0, 0, 2]


async def test_a_stop_waits_for_open_connections(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(drain_time=60.0):
        (replica,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.busy[replica] = 1
        await site.ask(Stop())
        await eventually(lambda: not site.active())
        assert site.alive() == {replica}
        site.busy.clear()
        await eventually(lambda: not site.alive())


async def test_a_removed_application_is_gone_also_after_a_restart_until_it_is_started(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer(replicas=2):
        await site.until_serving("1.0.0", 2)
        await site.until(DeploymentSucceeded)
        await site.ask(Remove("ann"))
        assert (await site.until(ApplicationRemoved)).by == "ann"
        assert not site.alive()
        assert await site.bus.get(subjects.ROUTES, subjects.route_key(HOST, "web", 8080)) is None
        assert (await site.decisions()).removed
    release(site.registry, "2.0.0")
    async with site.deployer(replicas=2):
        await site.until(ApplicationRemoved, 2)
        refusal = await site.ask(Restart(), ok=False)
        assert refusal.message == "web was removed: `longshore start --app web` first"
        assert (await site.decisions()).removed
        await site.ask(Start())
        await site.until_serving("2.0.0", 2)
        decisions = await site.decisions()
    assert not decisions.removed
    assert not decisions.removed_by


async def test_the_command_line_sees_a_removal_that_is_over_before_its_first_look(site: Site) -> None:
    class Slow(Client):
        async def send(self, command: Command) -> Reply:
            reply = await super().send(command)
            await site.until(ApplicationRemoved)
            return reply

    release(site.registry, "1.0.0")
    async with site.deployer():
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await control._send(Slow(site.bus, Target(host=HOST)), Remove("ann"), control.Waiting(timeout=DEADLINE))
        assert (await site.decisions()).removed


async def test_a_name_that_stands_for_something_else_is_deployed_again_by_force(site: Site) -> None:
    folder = release(site.registry, "1.0.0")
    async with site.deployer():
        (before,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        first = site.of(DeploymentStarted)[0]
        assert (await site.ask(Deploy("1.0.0"))).message == "release 1.0.0 is the current one already"
        folder.joinpath("more").write_text("a new file")
        reply = await site.ask(Deploy("1.0.0"))
        assert f"its name stood for {first.digest} when it was deployed, and stands for sha256:" in reply.message
        assert "`longshore deploy --force`" in reply.message
        forced = await site.ask(Deploy("1.0.0", by="ann", force=True))
        await site.until(DeploymentSucceeded, 2)
        assert await site.until_serving("1.0.0") != [before]
        started = site.of(DeploymentStarted)[1]
        assert (started.deployment, started.kind) == (forced.deployment, "redeploy")
        assert started.digest == (await site.decisions()).artifacts["1.0.0"].digest != first.digest
        folder.joinpath("run").write_text(CRASHING)
        await site.ask(Deploy(force=True))
        failed = await site.until(DeploymentFailed)
        await site.until(DeploymentRolledBack)
        assert (await site.decisions()).artifacts["1.0.0"].digest == started.digest != failed.digest
    assert site.of(ReleaseQuarantined) == []


@pytest.mark.parametrize(
    "command", [Restart(), Scale(2), Stop(), Start(), Remove()], ids=lambda one: type(one).__name__
)
async def test_a_deployment_under_way_is_not_disturbed(site: Site, command: Command) -> None:
    release(site.registry, "1.0.0")
    site.probes = False
    async with site.deployer():
        await site.until(DeploymentStarted)
        refused = await site.ask(command, ok=False)
        assert refused.message == (
            "release 1.0.0 is being deployed: wait for its end, or end it with `longshore abort`"
        )
        site.probes = True
        await site.until(DeploymentSucceeded)


async def test_a_drained_replica_is_replaced_by_one_of_the_same_deployment(site: Site) -> None:
    release(site.registry, "1.0.0")
    async with site.deployer():
        (before,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        await site.ask(Drain(before))
        await site.until(ReplicaRetired)
        (after,) = await site.until_serving("1.0.0")
    async with site.deployer():
        assert await site.until_serving("1.0.0") == [after]
    assert len(site.of(DeploymentStarted)) == 1


async def test_a_restart_takes_secrets_that_were_rotated_and_no_output_shows_the_old_one(
    site: Site, tmp_path: Path
) -> None:
    secret = tmp_path / "key"
    secret.write_text("first-value")
    release(site.registry, "1.0.0", SERVER.replace('os.environ["LONGSHORE_RELEASE"]', 'os.environ["KEY"]'))
    async with site.deployer(secret=[f"KEY={secret}"]):
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        secret.unlink()
        assert "No such file" in (await site.ask(Restart(), ok=False)).message
        secret.write_text("second-value")
        await site.ask(Restart("ann"))
        await site.until(DeploymentSucceeded, 2)
        await site.until_serving("1.0.0")
        assert {site.visit(replica) for replica in site.replicas.values()} == {"second-value"}
        assert site.of(DeploymentStarted)[-1].changed == ["env KEY"]


async def test_a_replica_that_was_started_with_a_former_secret_does_not_show_it(site: Site, tmp_path: Path) -> None:
    secret = tmp_path / "key"
    secret.write_text("first-value")
    telling = "#!/bin/sh\necho the key is $KEY\nexit 1\n"
    release(site.registry, "1.0.0")
    async with site.deployer(secret=[f"KEY={secret}"]):
        await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        secret.write_text("second-value")
        release(site.registry, "2.0.0", telling)
        assert (await site.until(DeploymentFailed)).output == "the key is ***"


async def test_a_deployer_that_restarts_in_the_middle_of_a_removal_completes_it(site: Site) -> None:
    release(site.registry, "1.0.0")
    site.busy = {}
    async with site.deployer(drain_time=600.0):
        (replica,) = await site.until_serving("1.0.0")
        await site.until(DeploymentSucceeded)
        site.busy[replica] = 1  # a connection that keeps the replica draining
        await site.ask(Remove("ann"))
        await eventually(lambda: replica not in site.active())
    async with site.deployer(drain_time=600.0):
        assert site.alive() == {replica}
        assert not (await site.decisions()).removed
        assert site.of(ApplicationRemoved) == []
        site.busy.clear()
        await site.until(ApplicationRemoved)
        assert not site.alive()
    assert not (replicas(site.settings()) / "options.json").exists()
