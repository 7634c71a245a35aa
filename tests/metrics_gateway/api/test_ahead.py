"""What waits in memory for a reader that is slow."""

from __future__ import annotations

from contextlib import aclosing

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.jetstream import log_reader
from services.metrics_gateway.api import streams
from services.metrics_gateway.api.stream_routes import AHEAD

MESSAGE = 30_000
"""Bytes of a batch of a busy proxy."""


async def delivered(bus: Bus) -> dict[str, int]:
    """How many messages each consumer of the log has been sent."""
    consumers = await bus.jetstream.consumers_info(subjects.STREAM)
    return {one.name: one.delivered.consumer_seq or 0 for one in consumers if one.delivered}


async def test_no_more_is_sent_than_was_asked_for_however_slow_the_reader_is(bus: Bus) -> None:
    for number in range(100):
        await bus.jetstream.publish("longshore.events.proxy.shop", b"x", headers={"N": str(number)})
    async with aclosing(log_reader.read(bus, 1, wait=False, ahead=AHEAD)) as reading:
        got = len(await anext(reading))
        (sent,) = (await delivered(bus)).values()
        assert 0 < got <= sent <= AHEAD * 3 // 2
        async for entries in reading:
            got += len(entries)
    assert got == 100
    assert streams.MOST * MESSAGE * AHEAD * 3 // 2 < 32 << 20
