"""Deployments, backends and events, out of a log that says what happened."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from schemas import events as e
from services.common.bus.connection import Bus
from services.metrics_gateway.state.application import DEPLOYMENTS_KEPT
from services.metrics_gateway.state.state import RECENT_KEPT
from services.metrics_gateway.views.backends import backends
from services.metrics_gateway.views.deployments import deployments
from services.metrics_gateway.views.events import Wanted, newest
from services.metrics_gateway.views.times import iso
from tests.metrics_gateway.events import Log, accepted, started
from tests.support.gateway_process import Gateway, Launch, publishing


def deployed(number: int, outcome: e.AnyEvent | None = None) -> list[e.AnyEvent]:
    begun = e.DeploymentStarted(
        float(number), f"d{number}", f"1.{number}", previous="", by="ann", strategy="rolling", replicas=2, trace=""
    )
    return [begun, outcome or e.DeploymentSucceeded(number + 0.5, f"d{number}", f"1.{number}", 0.5)]


async def publish(bus: Bus) -> None:
    async with publishing(bus, "deployer", "d-1") as deployer:
        deployer.record(started("deployer:shop"))
        for event in deployed(1) + deployed(
            2, e.DeploymentFailed(2.5, "d2", "1.2", phase="check", reason="timeout", duration=0.5)
        ):
            deployer.record(event, "shop")
        deployer.record(e.ReplicaStarted(3.0, "d1", "shop-1", release="1.1", address="127.0.0.1:4000", pid=7), "shop")
        deployer.record(e.ReplicaStarted(3.0, "d1", "shop-2", release="1.1", address="127.0.0.1:4001", pid=8), "shop")
        deployer.record(e.ReplicaRouted(3.1, "d1", "shop-1"), "shop")
        deployer.record(e.ReplicaDraining(3.2, "d1", "shop-2"), "shop")
    async with publishing(bus, "proxy", "p-1") as proxy:
        proxy.record(e.BackendJoined(3.3, 8080, "shop-1", "127.0.0.1:4000"), "shop")
        proxy.record(e.ConnectionAccepted(3.4, 1, 8080), "shop")
        proxy.record(e.BackendEjected(time.time(), 8081, "other-1", "refused"), "other")


async def test_the_addresses_answer_out_of_the_log(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await publish(bus)
    answer = await gateway.until("/api/deployments?app=shop", lambda got: "d2" in got.text)
    assert [(one["id"], one["outcome"], one["failed_phase"]) for one in answer.json()["deployments"]] == [
        ("d2", "failed", "check"),
        ("d1", "succeeded", ""),
    ]
    answer = await gateway.until("/api/backends?app=shop", lambda got: "active" in got.text)
    assert [(one["backend"], one["state"], one["release"]) for one in answer.json()["backends"]] == [
        ("shop-1", "active", "1.1"),
        ("shop-2", "draining", "1.1"),
    ]
    await gateway.until("/api/events", lambda got: "BackendEjected" in got.text)
    assert [one["kind"] for one in (await events(gateway, "app=shop&limit=2"))] == ["ReplicaDraining", "ReplicaRouted"]
    ejected = (await events(gateway, "kind=BackendEjected"))[0]
    assert (ejected["service"], ejected["app"], ejected["details"]["backend"]) == ("proxy", "other", "other-1")
    assert ejected["sequence"] > 0
    kinds = [one["kind"] for one in (await events(gateway, "kind=ReplicaRouted&kind=ServiceStarted&limit=500"))]
    assert set(kinds) == {"ReplicaRouted", "ServiceStarted"}


async def events(gateway: Gateway, query: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await gateway.get(f"/api/events?{query}")).json()["events"]
    return found


async def test_a_query_that_makes_no_sense_is_a_problem_of_one_line(client: httpx.AsyncClient) -> None:
    for query in ("limit=0", "limit=501", "limit=x", "kind=Nothing", "app=a.b"):
        answer = await client.get(f"/api/events?{query}")
        assert answer.status_code == 400
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.text.count("\n") == 1
        assert query.split("=")[0] in answer.json()["detail"]


async def test_answers_are_not_kept_by_caches_and_not_guessed_at(client: httpx.AsyncClient) -> None:
    for path in ("/", "/api/status", "/metrics", "/nothing"):
        headers = (await client.get(path)).headers
        assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff"), path


def test_of_many_deployments_the_last_ones_are_remembered() -> None:
    log = Log()
    for number in range(DEPLOYMENTS_KEPT + 10):
        log.say("d", *deployed(number))
    found = deployments(log.state, "", 500).deployments
    assert [one.id for one in found[:2]] == [f"d{DEPLOYMENTS_KEPT + 9}", f"d{DEPLOYMENTS_KEPT + 8}"]
    assert len(found) == DEPLOYMENTS_KEPT + 1
    assert deployments(log.state, "nobody", 500).deployments == []
    assert len(deployments(log.state, "web", 3).deployments) == 3


def test_a_deployment_that_ends_late_is_told_where_it_belongs() -> None:
    log = Log()
    log.say("d", deployed(1)[0])
    log.say("d", *deployed(2), sequence=3)
    log.say("d", deployed(1)[1], sequence=2)
    assert [(one.id, one.outcome) for one in deployments(log.state, "", 9).deployments] == [
        ("d2", "succeeded"),
        ("d1", "succeeded"),
    ]


def test_of_many_events_the_last_ones_are_remembered_and_details_are_not() -> None:
    log = Log()
    for number in range(3 * RECENT_KEPT):
        log.say("d", e.ReplicaReady(float(number), "d", f"r{number}", 1.0), accepted(number))
    found = newest(log.state, Wanted(), RECENT_KEPT).events
    assert len(found) == RECENT_KEPT
    assert found[0].details["replica"] == f"r{3 * RECENT_KEPT - 1}"
    assert {one.kind for one in found} == {"ReplicaReady"}
    assert len(log.state.recent) <= 2 * RECENT_KEPT


def test_a_backend_that_nobody_deployed_is_told_as_well() -> None:
    log = Log()
    log.say("p", e.BackendJoined(1.0, 80, "b", "10.0.0.1:80"))
    (one,) = backends(log.state, "").backends
    assert (one.backend, one.address, one.release, one.healthy) == ("b", "10.0.0.1:80", "", None)


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1e300, 1e18, None])
def test_a_time_that_no_calendar_knows_is_told_as_none(seconds: float | None) -> None:
    assert iso(seconds) is None
