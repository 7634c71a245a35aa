"""The health service: replicas in, probes, verdicts and events out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import msgspec
import pytest

from schemas import subjects
from schemas.routing import Check, Health, Replica
from services.common.errors import SettingsError
from services.health import service
from services.health.settings import HealthSettings
from tests.health.conftest import HOST, House, key, until
from tests.health.origins import BROKEN, HANG, OK, Origin, origin
from tests.support.ports import free_port


@pytest.fixture
async def site() -> AsyncIterator[Origin]:
    async with origin() as site:
        yield site


async def test_a_replica_that_answers_is_healthy(house: House, site: Origin) -> None:
    replica = site.replica()
    before = time.time()
    async with house.health():
        await house.add(replica)
        found = await house.until_verdict(replica, True)
    assert found == Health("web", "web-1", True, found.since if found else 0.0)
    assert before <= found.since <= time.time()
    await until(lambda: house.changes(replica) == [True])
    assert house.apps == {"web"}


async def test_replicas_that_are_there_before_the_service_are_probed(house: House, site: Origin) -> None:
    replicas = [site.replica(f"web-{n}") for n in range(5)]
    for replica in replicas:
        await house.add(replica)
    async with house.health(concurrency=2):
        for replica in replicas:
            await house.until_verdict(replica, True)


async def test_replicas_of_other_hosts_are_left_alone(house: House, site: Origin) -> None:
    mine, other = site.replica("web-1"), site.replica("web-2")
    await house.bus.put(subjects.REPLICAS, key(other, "elsewhere"), other)
    async with house.health():
        await house.add(mine)
        await until(lambda: len(house.checks(mine)) >= 3)
    assert house.checks(other) == []


async def test_every_request_that_the_origin_saw_is_one_event_and_the_other_way_round(
    house: House, site: Origin
) -> None:
    replica = site.replica()
    await house.add(replica)
    async with house.health():
        await until(lambda: len(site.requests) >= 10)
        site.reply = BROKEN
        await until(lambda: len(site.requests) >= 20)
    await until(lambda: len(house.checks(replica)) >= len(site.requests))
    checks = house.checks(replica)
    assert len(checks) == len(site.requests) == site.connections
    assert {check.reason for check in checks} == {"", "status 503"}
    assert all(check.ok == (not check.reason) and check.latency > 0 for check in checks)
    assert [check.time for check in checks] == sorted(check.time for check in checks)


async def test_fall_failures_in_a_row_make_it_unhealthy_and_rise_passes_healthy_again(
    house: House, site: Origin
) -> None:
    replica = site.replica(check=Check("/health", interval=0.05, rise=2, fall=3))
    await house.add(replica)
    async with house.health():
        await house.until_verdict(replica, True)
        site.reply = BROKEN
        ill = await house.until_verdict(replica, False)
        site.reply = OK
        await house.until_verdict(replica, True)
    assert ill is not None
    assert ill.reason == "status 503"
    await until(lambda: house.changes(replica) == [True, False, True])
    results = [check.ok for check in house.checks(replica)]
    assert results[:2] == [True, True]
    assert results.count(False) >= 3


async def test_a_replica_that_has_never_been_healthy_has_no_verdict_but_a_reason(house: House) -> None:
    port = free_port()
    replica = Replica("web", "web-1", "1.0.0", "127.0.0.1", port, Check("/health", interval=3600, fall=1))
    await house.add(replica)
    async with house.health():
        await until(lambda: len(house.checks(replica)) >= 3)
        assert await house.verdict(replica) is None
        told = await house.until_told(replica)
        assert (told.healthy, told.starting, told.reason) == (False, True, "refused")
        async with origin(port):
            await house.until_verdict(replica, True)
    await until(lambda: house.changes(replica) == [True])
    assert {check.reason for check in house.checks(replica)} == {"refused", ""}


async def test_a_replica_that_is_gone_is_probed_no_more_and_has_no_verdict(house: House, site: Origin) -> None:
    gone, stays = site.replica("web-1"), site.replica("web-2")
    async with house.health():
        await house.add(gone)
        await house.add(stays)
        await house.until_verdict(gone, True)
        await house.remove(gone)
        await house.until_verdict(gone, None)
        probes = len(house.checks(gone))
        later = len(house.checks(stays)) + 5
        await until(lambda: len(house.checks(stays)) >= later)
        assert len(house.checks(gone)) <= probes + 1
        assert await house.verdict(gone) is None


async def test_a_replica_at_a_new_address_is_judged_anew(house: House, site: Origin) -> None:
    port = free_port()
    replica = site.replica()
    moved = msgspec.structs.replace(replica, port=port)
    async with house.health():
        await house.add(replica)
        await house.until_verdict(replica, True)
        await house.add(moved)
        await house.until_verdict(moved, None)
        async with origin(port) as elsewhere:
            await house.until_verdict(moved, True)
            assert elsewhere.requests
    await until(lambda: house.changes(replica) == [True, True])


async def test_a_new_check_takes_over_and_keeps_the_verdict(house: House, site: Origin) -> None:
    replica = site.replica(check=Check("/old", interval=0.05))
    changed = msgspec.structs.replace(replica, check=Check("/new", interval=0.05))
    async with house.health():
        await house.add(replica)
        first = await house.until_verdict(replica, True)
        await house.add(changed)
        await until(lambda: site.requests[-1].startswith("GET /new "))
        assert await house.verdict(replica) == first
        seen = len(site.requests)
        await until(lambda: len(site.requests) >= seen + 5)
    assert not any(request.startswith("GET /old ") for request in site.requests[seen + 1 :])


async def test_a_restarted_service_tells_the_verdict_again(house: House, site: Origin) -> None:
    replica = site.replica()
    await house.add(replica)
    async with house.health():
        first = await house.until_verdict(replica, True)
    await until(lambda: house.changes(replica) == [True])
    async with house.health():
        await until(lambda: house.changes(replica) == [True, True])
    assert await house.verdict(replica) == first


async def test_a_restarted_service_finds_out_what_fell_ill_or_left_meanwhile(house: House, site: Origin) -> None:
    ill, gone = site.replica("web-1"), site.replica("web-2")
    await house.add(ill)
    await house.add(gone)
    async with house.health():
        await house.until_verdict(ill, True)
        await house.until_verdict(gone, True)
    site.reply = BROKEN
    await house.remove(gone)
    async with house.health():
        await house.until_verdict(ill, False)
        await house.until_verdict(gone, None)


async def test_probing_goes_on_while_the_bus_is_dead_and_nothing_is_lost(house: House, site: Origin) -> None:
    replica = site.replica()
    await house.add(replica)
    async with house.health():
        await house.until_verdict(replica, True)
        house.server.kill()
        seen = len(site.requests)
        await until(lambda: len(site.requests) >= seen + 3)
        site.reply = BROKEN
        await until(lambda: len(site.requests) >= seen + 8)
        house.server.start()
        await house.until_verdict(replica, False)
    await until(lambda: len(house.checks(replica)) >= len(site.requests))
    assert len(house.checks(replica)) == len(site.requests)
    assert house.changes(replica) == [True, False]


async def test_it_stops_although_a_replica_does_not_answer(
    house: House, site: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "CLOSE_TIMEOUT", 0.1)
    site.reply = HANG
    await house.add(site.replica(check=Check("/health", timeout=3600)))
    async with house.health():
        await until(lambda: site.requests)
    async with house.health():
        await until(lambda: len(site.requests) == 2)
    assert house.checks(site.replica()) == []


async def test_verdicts_come_back_when_the_bus_lost_them(house: House, site: Origin) -> None:
    replica = site.replica()
    await house.add(replica)
    async with house.health():
        first = await house.until_verdict(replica, True)
        await house.bus.delete(subjects.HEALTH, key(replica))
        house.server.kill()
        house.server.start()
        assert await house.until_verdict(replica, True) == first


async def test_a_value_that_is_not_a_replica_is_passed_over(house: House, site: Origin) -> None:
    replica = site.replica()
    await house.bus.put(subjects.REPLICAS, f"{HOST}.web.broken", Health("web", "broken", True, 0.0))
    async with house.health():
        await house.add(replica)
        await house.until_verdict(replica, True)


@pytest.mark.parametrize("concurrency", [0, -1])
def test_a_concurrency_below_one_is_a_setting_that_cannot_be(concurrency: int) -> None:
    with pytest.raises(SettingsError, match=r"--concurrency -?\d+: use 1 or more"):
        HealthSettings(concurrency=concurrency)
