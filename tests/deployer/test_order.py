"""A rollout over two hosts: a release starts here when the hosts of --after have deployed it.

Covers: services.deployer.rollout.order, services.deployer.reconcile.rollout_order
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from schemas import subjects
from schemas.commands import Deploy
from schemas.events import DeploymentFailed, DeploymentStarted, ReleaseWaiting
from schemas.routing import Decisions, Ongoing
from services.cli.overview import app_view
from services.cli.queries.report import report
from services.cli.queries.screen import lines
from services.common.bus.connection import Bus
from services.common.errors import SettingsError
from services.deployer.rollout.order import reason_to_wait
from services.deployer.settings import DeployerSettings
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.nats_server import NatsServer
from tests.support.releases import release

ONGOING = Ongoing("d", "2.0.0", "registry", "rolling", "t", 1.0)


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (None, "where the application has never run"),
        (Decisions(), "which has no release"),
        (Decisions(current="1.0.0"), "which has 1.0.0"),
        (Decisions(current="1.0.0", ongoing=ONGOING), "which is deploying it"),
        (Decisions(current="1.0.0", quarantined={"2.0.0": "check: no"}), "where it failed: check: no"),
        (Decisions(current="1.0.0", paused=True), "where deployments are paused"),
        (Decisions(current="1.0.0", pinned="1.0.0"), "which is pinned to 1.0.0"),
        (Decisions(current="1.0.0", removed=True), "from which the application was removed"),
    ],
)
def test_the_reason_names_the_host_and_what_is_there(there: Decisions | None, reason: str) -> None:
    others = {"web-1": there} if there else {}
    assert reason_to_wait("2.0.0", "web-2", ["web-1"], others) == f"waits for web-1, {reason}"


@pytest.mark.parametrize("there", [Decisions(current="2.0.0"), Decisions(current="2.0.0", paused=True, pinned="2.0.0")])
def test_a_release_that_the_host_has_deployed_does_not_wait(there: Decisions) -> None:
    assert reason_to_wait("2.0.0", "web-2", ["web-1"], {"web-1": there}) == ""


def test_the_first_host_that_has_not_deployed_it_is_the_reason() -> None:
    others = {"a": Decisions(current="2.0.0"), subjects.token("b.example.org"): Decisions(current="1.0.0")}
    assert reason_to_wait("2.0.0", "c", ["a", "b.example.org"], others) == "waits for b.example.org, which has 1.0.0"
    assert reason_to_wait("2.0.0", "c", [], others) == ""


@pytest.mark.parametrize(
    ("orders", "circle"),
    [
        ({"a": ["b"]}, "b after a after b"),
        ({"a": ["c"], "c": ["b"]}, "b after a after c after b"),
    ],
)
def test_a_circle_is_reported_even_when_its_hosts_have_the_release(orders: dict[str, list[str]], circle: str) -> None:
    others = {host: Decisions(current="2.0.0", after=after) for host, after in orders.items()}
    assert reason_to_wait("2.0.0", "b", ["a"], others) == f"waits in a circle: {circle}; remove one of these --after"


def test_a_circle_of_others_ends_the_search() -> None:
    others = {"a": Decisions(current="1.0.0", after=["b"]), "b": Decisions(current="1.0.0", after=["a"])}
    assert reason_to_wait("2.0.0", "c", ["a"], others) == "waits for a, which has 1.0.0"


def test_a_host_that_waits_for_itself_is_refused() -> None:
    with pytest.raises(SettingsError, match="--after web-1: this host would wait for itself; name other hosts"):
        DeployerSettings(host="web-1", after=["web-2", "web-1"])


def test_the_status_says_what_a_release_waits_for() -> None:
    decided = Decisions(current="1.0.0", waiting="waits for web-1, which has 1.0.0")
    shown = lines(report("there", app_view("web", decided, [], [], {}), None), 0.0, None)
    assert "a newer release waits for web-1, which has 1.0.0" in "\n".join(shown)


@pytest.fixture
async def second(nats_server: NatsServer, bus: Bus, site: Site, tmp_path: Path) -> AsyncIterator[Site]:
    """Another host on the bus of `site`, with the same registry."""
    other = Site(nats_server, bus, tmp_path / "second" / "state", site.registry, host="there")
    async with other.played():
        yield other


async def test_the_second_host_waits_for_the_first_and_a_person_may_overrule(site: Site, second: Site) -> None:
    release(site.registry, "1.0.0")
    async with second.deployer(port=["8081"], after=[site.host], stop_containers=True):
        assert (await second.until(ReleaseWaiting)).reason == "waits for here, where the application has never run"
        async with site.deployer(stop_containers=True):
            await site.until_serving("1.0.0")
            await second.until_serving("1.0.0")
            started = [one.of(DeploymentStarted)[0].time for one in (site, second)]
            assert started[0] < started[1]
            assert (await second.decisions()).waiting == ""

            site.sick.add("2.0.0")
            release(site.registry, "2.0.0")
            await site.until(DeploymentFailed)
            await eventually(lambda: "where it failed" in second.of(ReleaseWaiting)[-1].reason)
            assert len(second.of(DeploymentStarted)) == 1
            assert (await second.decisions()).waiting.startswith("waits for here, where it failed: ")

        reply = await second.ask(Deploy("2.0.0", "ann"))
        await second.until_serving("2.0.0")
        assert second.of(DeploymentStarted)[1].deployment == reply.deployment
        assert (await second.decisions()).waiting == ""


async def test_two_hosts_that_wait_for_each_other_say_so(site: Site, second: Site) -> None:
    release(site.registry, "1.0.0")
    async with (
        site.deployer(after=[second.host]),
        second.deployer(port=["8081"], after=[site.host]),
    ):
        for one, circle in ((site, "here after there after here"), (second, "there after here after there")):
            await _until_waiting(one, f"waits in a circle: {circle}; remove one of these --after")
            assert one.of(DeploymentStarted) == []


async def _until_waiting(site: Site, reason: str) -> None:
    await eventually(lambda: reason in [event.reason for event in site.of(ReleaseWaiting)])
