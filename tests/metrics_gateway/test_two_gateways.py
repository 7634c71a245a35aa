"""Two gateways on one bus: both answer, one saves and pushes, and the other one takes over."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from services.common.bus.connection import Bus
from services.common.jetstream.lease import Lease
from tests.metrics_gateway.export.test_otlp_temporality import Totals
from tests.metrics_gateway.snapshots.test_restart import until_equal
from tests.metrics_gateway.snapshots.test_saver import Gateway as Inside
from tests.metrics_gateway.snapshots.test_saver import connections_of, publish, saved
from tests.metrics_gateway.snapshots.test_saver import running as running_inside
from tests.metrics_gateway.traces.story import failed, succeeded
from tests.metrics_gateway.traces.test_push import record as record_story
from tests.metrics_gateway.traffic import record, serve, until_counted
from tests.support.gateway_process import Gateway, Launch
from tests.support.metrics_receiver import Receiver, receiving, scraped, until
from tests.support.traces_receiver import Traces
from tests.support.traces_receiver import receiving as receiving_traces

LEADER = "longshore_gateway_leader"


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


@pytest.fixture
def port(receiver: Receiver) -> Iterator[int]:
    with receiving(receiver) as port:
        yield port


def options(port: int, **more: object) -> dict[str, object]:
    return {"otlp_endpoint": f"localhost:{port}", "otlp_insecure": True, "otlp_interval": 0.2, **more}


async def duties(gateway: Gateway) -> dict[str, float]:
    answer = await gateway.until("/metrics", lambda got: got.status_code == 200)
    return {dict(labels)["duty"]: value for labels, value in scraped(answer.text)[LEADER].items()}


async def until_leading(gateway: Gateway) -> None:
    await gateway.until("/metrics", lambda got: f'{LEADER}{{duty="metrics"}} 1.0' in got.text)


async def test_both_say_the_same_and_each_duty_is_ones_alone(launch: Launch, bus: Bus, port: int) -> None:
    first = launch(**options(port))
    await until_leading(first)
    second = launch(host="web-2", **options(port))
    await second.until_ready()
    traffic = asyncio.create_task(serve(bus, 0, 200))
    for _ in range(5):
        await until_equal(first, second)
    await traffic
    await until_counted(second, 200)
    assert await duties(first) == {"snapshots": 1, "metrics": 1, "traces": 1}
    assert await duties(second) == {"snapshots": 0, "metrics": 0, "traces": 0}
    instance = await check_status(first, second)
    assert first.stop() == 0
    await until_leading(second)
    assert await check_status(second) != instance


async def check_status(leader: Gateway, *others: Gateway) -> str:
    """Each says that the leader has every duty; its instance."""
    for gateway in (leader, *others):
        answer = await gateway.until(
            "/api/status", lambda got: len({one["instance"] for one in got.json()["duties"]}) == 1
        )
        duties = answer.json()["duties"]
        assert [one["duty"] for one in duties] == ["snapshots", "metrics", "traces"]
        assert {one["here"] for one in duties} == {gateway is leader}
        assert {one["host"] for one in duties} == {leader.settings.host}
    services = {one["instance"]: one["host"] for one in answer.json()["services"] if one["service"] == "gateway"}
    instance: str = duties[0]["instance"]
    assert services[instance] == leader.settings.host
    return instance


async def test_deltas_add_up_over_one_that_stops_and_one_that_is_killed_and_comes_back(
    launch: Launch, bus: Bus, receiver: Receiver, port: int
) -> None:
    await record(bus)
    totals, delta = Totals(), options(port, otlp_temporality="delta")
    first = launch(**delta)
    await until_leading(first)
    second = launch(**delta, host="web-2")
    await serve(bus, 0, 30)
    await second.until_ready()
    assert first.stop() == 0
    await serve(bus, 30, 60)
    await until_leading(second)
    await until(lambda: receiver.calls > 3)
    first.start()
    await first.until_ready()
    await quiet(receiver)
    second.kill()
    await serve(bus, 60, 90)
    await until_leading(first)
    await quiet(receiver)
    totals.add(receiver)
    scrape = scraped((await first.get("/metrics")).text)
    totals.check(scrape)
    assert first.stop() == 0


async def quiet(receiver: Receiver) -> None:
    """Everything that was counted is pushed, and that is kept: two more pushes have come."""
    calls = receiver.calls
    await until(lambda: receiver.calls > calls + 2)


async def test_one_that_was_stopped_for_a_while_does_not_push_any_more(launch: Launch, bus: Bus) -> None:
    theirs, ours = Receiver(), Receiver()
    with receiving(theirs) as one, receiving(ours) as other:
        first = launch(**options(one))
        await until_leading(first)
        second = launch(**options(other), host="web-2")
        await second.until_ready()
        os.kill(first.pid, signal.SIGSTOP)
        try:
            await until_leading(second)
            await until(lambda: ours.calls > 1)
            calls = theirs.calls
        finally:
            os.kill(first.pid, signal.SIGCONT)
        await first.until("/metrics", lambda got: f'{LEADER}{{duty="metrics"}} 0.0' in got.text)
        count = ours.calls
        await until(lambda: ours.calls > count + 3)
        assert theirs.calls == calls


async def test_spans_come_once_over_one_that_stops_and_at_least_once_over_one_that_is_killed(
    launch: Launch, bus: Bus
) -> None:
    traces = Traces()
    with receiving_traces(traces) as port:
        first = launch(**options(port))
        await until_leading(first)
        second = launch(**options(port), host="web-2")
        await second.until_ready()
        await record_story(bus, "deployer-1", [*succeeded()])
        await asyncio.to_thread(traces.until, lambda: len(traces.spans) >= 8)
        first.stop()
        await until_leading(second)
        first.start()
        await first.until_ready()
        second.kill()
        await record_story(bus, "deployer-2", [*failed()])
        await asyncio.to_thread(traces.until, lambda: len(traces.named("deployment of web")) == 2)
    assert len({(span.trace, span.id) for span in traces.spans}) == len(traces.spans)


async def test_only_the_holder_saves_and_who_takes_over_replaces_the_oldest_snapshot(bus: Bus) -> None:
    def inside(name: str) -> tuple[Inside, Lease]:
        gateway, lease = Inside(bus), Lease(bus, "gateway.snapshots", name, "host")
        gateway.live.leases = {"snapshots": lease}
        return gateway, lease

    (one, first), (other, second) = inside("one"), inside("other")
    await first.round()
    await second.round()
    async with running_inside(one), running_inside(other):
        for number in range(1, 4):
            await publish(bus, f"p-{number}", 1)
            await asyncio.gather(one.until_folded(number), other.until_folded(number))
            await other.saver.save()
            await one.saver.save()
            assert await connections_saved(bus) == number
        await first.release()
        await second.round()
        await publish(bus, "p-4", 1)
        await asyncio.gather(one.until_folded(4), other.until_folded(4))
        await one.saver.save()
        assert await connections_saved(bus) == 3
        await other.saver.save()
        assert await connections_saved(bus) == 4


async def connections_saved(bus: Bus) -> int:
    state = await saved(bus)
    return connections_of(state) if state else 0
