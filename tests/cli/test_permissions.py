"""Commands whose account lacks a permission: they name it at once instead of waiting for an answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from schemas import subjects
from schemas.commands import Pause
from schemas.routing import Route
from services.client.client import Client, Target, connect
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.errors import DeniedError
from services.common.jetstream.provisioning import ensure_streams
from tests.support.nats_server import NatsServer

CONFIG = """
authorization {
  users = [
    { user: "admin", password: "secret" }
    { user: "reader", password: "secret", permissions: { publish: { allow: ["$JS.API.INFO"] } } }
  ]
}
"""
SOON = 8.0
"""Seconds: less than any of the commands waits for an answer."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    config = tmp_path / "nats.conf"
    config.write_text(CONFIG)
    server = NatsServer(tmp_path, "-c", str(config))
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize(
    ("ask", "subject"),
    [
        (lambda client: client.send(Pause("me")), subjects.commands("web", "here")),
        (lambda client: client.values(subjects.ROUTES, Route), f"KV_{subjects.ROUTES}"),
        (lambda client: client.last_sequence(), subjects.STREAM),
    ],
    ids=["a command", "a bucket", "the log"],
)
async def test_what_the_account_may_not_do_is_named_at_once(
    server: NatsServer, ask: Callable[[Client], Awaitable[object]], subject: str
) -> None:
    admin = await Bus.connect("admin", Credentials([server.url], "admin", "secret"))
    await ensure_streams(admin)
    await admin.close()
    target = Target(app="web", host="here", nats_url=[server.url], nats_user="reader", nats_password="secret")
    async with connect(target) as client:
        with pytest.raises(DeniedError) as raised:
            async with asyncio.timeout(SOON):
                await ask(client)
    assert subject.lower() in str(raised.value).lower()
