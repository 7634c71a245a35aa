"""Routes on the bus that are damaged or hostile: each is a line, and the proxy serves on."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import subjects
from services.common.bus.connection import Bus
from services.proxy.settings import ProxySettings
from tests.proxy.backends import named, serving
from tests.proxy.master.test_master import connect, finish
from tests.proxy.proxy_service import APP, HOST, proxy
from tests.support.nats_server import NatsServer


def routes(port: int) -> list[Any]:
    """Values for the key of a port, each of a higher generation than the one before."""
    numbers = (70000, -1, 0, 2**31, 2**64, 1.5, "80", None)
    hosts = ("fe80::1%nosuch", "nohost", "", "\x00", "::1%")
    bad: list[Any] = [[{"id": "a", "host": "127.0.0.1", "port": number}] for number in numbers]
    bad += [[{"id": "a", "host": host, "port": 80}] for host in hosts]
    bad += [[{"id": "", "host": "127.0.0.1", "port": 80}], [None], "no list"]
    ours = {"app": APP, "port": port, "generation": 100}
    return [*({**ours, "backends": one} for one in bad), {**ours, "app": "other"}, {**ours, "port": 70000}, 7, None]


JUNK = {"empty": b"", "bytes": b"\xff", "deep": b"[" * 100_000, "text": b'{"app":"\xff"}'}


async def test_no_route_that_is_written_ends_a_connection_or_a_worker(bus: Bus, nats_server: NatsServer) -> None:
    with serving(named("a")) as backend:
        async with proxy(bus, nats_server.url, ProxySettings(workers=1)) as made:
            await made.serve(backend.backend())
            held = await connect(made.port)
            bucket = await bus.jetstream.key_value(subjects.ROUTES)
            for value in [*map(msgspec.json.encode, routes(made.port)), *JUNK.values()]:
                await bucket.put(subjects.route_key(HOST, APP, made.port), value)
                (await connect(made.port))[1].close()
            made.generation = 1000
            await made.serve(backend.backend())
            assert await finish(await connect(made.port)) == b"abye"
            assert await finish(held) == b"abye"
            assert len(made.workers()) == 1
