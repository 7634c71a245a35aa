"""Commands and changes are made in time or not at all, and only what is a request is answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping

import msgspec
import pytest
from nats.aio.msg import Msg

from schemas import subjects
from schemas.commands import Pause, Reply
from schemas.routing import Serving
from services.common.bus import deadline
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.bus.responder import is_request
from services.common.errors import BusError
from tests.support.nats_server import NatsServer
from tests.support.patience import patience

SUBJECT = subjects.commands("web", "host")


class Executor:
    """Remembers what it was asked to do."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.obeyed: list[bytes] = []

    async def answer(self, payload: bytes, _headers: Mapping[str, str]) -> bytes:
        self.obeyed.append(payload)
        return msgspec.json.encode(Reply(True, "done"))


@pytest.fixture
async def executor(nats_server: NatsServer, bus: Bus) -> AsyncIterator[Executor]:
    """On a bus of its own, so that it can be away while the requester is not."""
    own = await Bus.connect("deployer", Credentials([nats_server.url]))
    found = Executor(own)
    await own.respond(SUBJECT, found.answer)
    await own.client.flush()
    yield found
    await own.close()


async def _back(*buses: Bus) -> None:
    async with asyncio.timeout(patience(30)):
        for bus in buses:
            await bus.until_connected()
            await bus.client.flush()


async def test_a_command_while_the_bus_is_away_is_refused_at_once_and_never_carried_out(
    nats_server: NatsServer, bus: Bus, executor: Executor
) -> None:
    for _ in range(3):
        nats_server.kill()
        await bus.until_lost()
        await executor.bus.until_lost()
        async with asyncio.timeout(3):
            with pytest.raises(BusError, match="the bus is away: nothing was sent"):
                await bus.request(SUBJECT, Pause())
        nats_server.start()
        await _back(bus, executor.bus)
        reply = msgspec.json.decode(await bus.request(SUBJECT, Pause("later")), type=Reply)
        assert reply.ok
    assert len(executor.obeyed) == 3  # the ones after each restart


async def test_what_was_to_be_sent_when_the_connection_was_lost_is_not_sent_on_the_next_one(
    nats_server: NatsServer, bus: Bus, executor: Executor
) -> None:
    nats_server.kill()
    await bus.until_lost()
    bus.client._pending.append(b"PUB longshore.commands.deployer.web.host 2\r\n{}\r\n")
    bus.client._pending_data_size = 1
    nats_server.start()
    await _back(bus, executor.bus)
    assert msgspec.json.decode(await bus.request(SUBJECT, Pause()), type=Reply).ok
    assert len(executor.obeyed) == 1


async def test_a_key_that_could_not_be_written_is_not_written_later(nats_server: NatsServer, bus: Bus) -> None:
    await bus.put(subjects.SERVING, "host.web.80", Serving("web", 80, 1))
    nats_server.kill()
    await bus.until_lost()
    for change in (
        bus.put(subjects.SERVING, "host.web.80", Serving("web", 80, 2)),
        bus.delete(subjects.SERVING, "host.web.80"),
    ):
        with pytest.raises(BusError, match="the bus is away"):
            await change
    nats_server.start()
    await _back(bus)
    found = await bus.get(subjects.SERVING, "host.web.80")
    assert found
    assert msgspec.json.decode(found, type=Serving).generation == 1


async def test_a_command_that_reaches_its_executor_too_late_is_refused(
    bus: Bus, executor: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deadline, "BEGIN_WITHIN", 0.0)  # no time at all is left for the way
    reply = msgspec.json.decode(await bus.request(SUBJECT, Pause()), type=Reply)
    assert not reply.ok
    assert "too late" in reply.message
    assert executor.obeyed == []


async def test_an_executor_that_stood_still_does_not_obey_what_waited_for_it(bus: Bus, executor: Executor) -> None:
    until = deadline.now().later(-0.001)
    headers = {deadline.DEADLINE: str(until)}
    message = await bus.client.request(SUBJECT, b'{"type":"pause"}', timeout=10, headers=headers)
    assert not msgspec.json.decode(message.data, type=Reply).ok
    assert executor.obeyed == []


@pytest.mark.parametrize(
    ("headers", "says"),
    [
        ({}, "no deadline"),
        ({deadline.DEADLINE: "soon"}, "is invalid"),
        ({deadline.DEADLINE: "somebody-else:1e9"}, "too late"),
        ({deadline.DEADLINE: f"{deadline.now().process}:nan"}, "too late"),
    ],
)
async def test_a_command_without_a_deadline_of_this_executor_is_refused(
    headers: dict[str, str], says: str, bus: Bus, executor: Executor
) -> None:
    message = await bus.client.request(SUBJECT, b'{"type":"pause"}', timeout=10, headers=headers)
    reply = msgspec.json.decode(message.data, type=Reply)
    assert not reply.ok
    assert says in reply.message
    assert executor.obeyed == []


async def test_an_executor_that_knows_no_deadlines_is_sent_no_command(bus: Bus) -> None:
    got: list[bytes] = []

    async def old(message: object) -> None:
        got.append(message.data)  # type: ignore[attr-defined]
        await message.respond(b'{"ok":false,"message":"not a command"}')  # type: ignore[attr-defined]

    await bus.client.subscribe(SUBJECT, cb=old)
    with pytest.raises(BusError, match="upgrade its deployer; nothing was sent"):
        await bus.request(SUBJECT, Pause())
    assert got == [b""]


async def test_what_the_server_itself_writes_to_a_subject_is_no_request(bus: Bus, executor: Executor) -> None:
    """Tried as an account that may read and write one bucket only could: the server checks neither subject."""
    stored = f"$KV.{subjects.SERVING}.x"
    headers = {deadline.DEADLINE: str(deadline.now().later(3600))}
    await bus.client.request(stored, b'{"type":"pause"}', timeout=5, headers=headers)
    config = {"deliver_subject": SUBJECT, "ack_policy": "none", "deliver_policy": "all"}
    request = {"stream_name": f"KV_{subjects.SERVING}", "config": config}
    created = await bus.client.request(
        f"$JS.API.CONSUMER.CREATE.KV_{subjects.SERVING}", json.dumps(request).encode(), timeout=5
    )
    assert "error" not in json.loads(created.data)
    await bus.client.publish(stored, b"another", reply=SUBJECT)
    await bus.client.publish(f"$JS.API.STREAM.INFO.KV_{subjects.SERVING}", b"", reply=SUBJECT)
    assert msgspec.json.decode(await bus.request(SUBJECT, Pause()), type=Reply).ok
    assert executor.obeyed == [msgspec.json.encode(Pause())]


@pytest.mark.parametrize(
    ("subject", "reply", "expected"),
    [
        ("a.b", "_INBOX_cli.x", True),
        ("a.b", "_INBOX.x", True),
        ("a.b", "_R_.x", True),
        ("a.b", "", False),
        ("a.b", "$JS.ACK.x", False),
        ("$KV.a", "_INBOX_cli.x", False),
        ("a.c", "_INBOX_cli.x", False),
    ],
)
def test_a_request_has_the_subject_that_was_subscribed_to_and_an_inbox(
    subject: str, reply: str, expected: bool
) -> None:
    assert is_request(subject, reply, "a.b") is expected


async def test_a_cancellation_that_comes_together_with_the_answer_is_not_lost(bus: Bus) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"answer")

    await bus.client.subscribe("question", cb=answer)
    went_on = False

    async def ask() -> None:
        nonlocal went_on
        await bus.client.request("question", timeout=patience(20))
        went_on = True

    asking = asyncio.create_task(ask())
    async with asyncio.timeout(patience(20)):
        while not bus.client._resp_map:  # noqa: ASYNC110 - the library reports no request that it has sent
            await asyncio.sleep(0)
        (answered,) = bus.client._resp_map.values()
        answered.add_done_callback(lambda _: asking.cancel())
        await asyncio.wait({asking})
    assert asking.cancelled()
    assert not went_on
