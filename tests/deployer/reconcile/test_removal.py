"""An application is taken off its host: the buckets, the log, and the status."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import codec, subjects
from schemas.events import ApplicationRemoved, ServiceStopped
from schemas.routing import Backend, Check, Decisions, Lease, Replica, Route
from services.cli.overview import overview
from services.client.client import Client, Target
from services.common.bus.connection import Bus
from services.common.errors import BusError
from services.common.jetstream.log_reader import read
from services.deployer.reconcile import removal
from services.deployer.reconcile.removal import left, remove
from services.deployer.settings import DeployerSettings
from tests.support.nats_server import NatsServer

HOST = "here"


def settings(server: NatsServer, directory: Path, app: str = "web") -> DeployerSettings:
    return DeployerSettings(app=app, host=HOST, nats_url=[server.url], state_dir=str(directory))


async def deploy(bus: Bus, app: str) -> None:
    """What a deployer of the application leaves on the bus."""
    route = Route(app, 8080, 3, [Backend(f"{app}-1", "127.0.0.1", 4000)])
    replica = Replica(app, f"{app}-1", "1.0.0", "127.0.0.1", 4000, Check("/"))
    await bus.put(subjects.ROUTES, subjects.route_key(HOST, app, 8080), route)
    await bus.put(subjects.REPLICAS, subjects.replica_key(HOST, app, replica.id), replica)
    decisions = Decisions(current="1.0.0", quarantined={"1.1.0": "it crashed"}, pinned="1.0.0")
    await bus.put(subjects.DECISIONS, subjects.decisions_key(HOST, app), decisions)


async def told(bus: Bus) -> list[tuple[str, type]]:
    found = []
    async for entries in read(bus, wait=False):
        for entry in entries:
            batch = codec.decode(entry.payload, entry.subject).batch
            found += [(batch.app, type(event)) for event in batch.events]
    return found


async def test_what_is_true_of_it_ends_and_what_was_decided_is_kept(
    bus: Bus, nats_server: NatsServer, tmp_path: Path
) -> None:
    await deploy(bus, "web")
    await deploy(bus, "webshop")
    junk = await bus.jetstream.key_value(subjects.ROUTES)
    await junk.put(f"{HOST}.web.9090", b"no route")
    assert sorted(await left(settings(nats_server, tmp_path))) == ["web", "webshop"]
    await remove(settings(nats_server, tmp_path), "ann")
    client = Client(bus, Target(host=HOST, nats_url=[nats_server.url]))
    assert [one.app for one in await overview(client)] == ["webshop"]
    assert await client.app() == "webshop"
    assert await left(settings(nats_server, tmp_path)) == ["webshop"]
    assert [await bus.get(subjects.ROUTES, f"{HOST}.web.{port}") for port in (8080, 9090)] == [None, None]
    assert await bus.get(subjects.REPLICAS, subjects.replica_key(HOST, "web", "web-1")) is None
    assert await bus.get(subjects.ROUTES, subjects.route_key(HOST, "webshop", 8080))
    kept = codec.value(await bus.get(subjects.DECISIONS, f"{HOST}.web") or b"", Decisions)
    assert (kept.removed, kept.quarantined, kept.pinned) == (True, {"1.1.0": "it crashed"}, "1.0.0")
    assert await told(bus) == [("web", ApplicationRemoved), (subjects.NO_APP, ServiceStopped)]


async def test_one_that_a_deployer_still_has_is_left_alone(
    bus: Bus, nats_server: NatsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(removal, "LEASE_TIMEOUT", 1.0)
    await deploy(bus, "web")
    await bus.put(
        subjects.LEASES,
        subjects.deployer_lease_key(HOST, "web"),
        Lease("another", HOST, description="another deployer"),
    )
    with pytest.raises(BusError, match="web on here is not removed: a deployer still has it"):
        await remove(settings(nats_server, tmp_path), "ann")
    assert await left(settings(nats_server, tmp_path)) == ["web"]
    assert await bus.get(subjects.ROUTES, subjects.route_key(HOST, "web", 8080))
    assert await told(bus) == []
