"""Each account tries to write, by every way that the server offers, what is not its own. It writes nothing there."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import nats.errors
import nats.js.errors
import pytest
from nats.aio.msg import Msg

from schemas import subjects
from schemas.commands import Pause, Reply
from services.bus.export import export
from services.bus.permissions import ACCESS
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.bus.responder import is_request
from services.common.config.settings import Settings
from services.common.errors import BusError, SettingsError
from services.common.jetstream.provisioning import ensure_streams
from tests.support.configured_server import serving

HOSTS = ("here", "there")
STREAMS = (
    subjects.STREAM,
    *(f"KV_{bucket}" for bucket in subjects.BUCKETS),
    *(f"OBJ_{store}" for store in subjects.OBJECT_STORES),
)
FORGED = b'{"type":"pause","by":"forged"}'


class Place:
    """A bus and how accounts sign in there. `hosts`: those that have accounts of their own."""

    def __init__(self, hosts: tuple[str, ...], settings: dict[str, Any]) -> None:
        self.hosts = hosts
        self.settings = settings

    async def account(self, service: str, host: str) -> Bus:
        settings = Settings(**self.settings, host=host)
        if service == "admin" and self.hosts:
            file = settings.nats_nkey_file.replace("{host}/", "")
            settings = msgspec.structs.replace(settings, nats_nkey_file=file)
        return await Bus.connect(service, credentials.find(settings, service), 20)


@pytest.fixture(scope="module", params=["embedded", "printed", "printed for each host"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """One server for all accounts, which takes longer to start than they take: a test compares before and after."""
    folder = tmp_path_factory.mktemp("bus")
    with _embedded(folder) if request.param == "embedded" else _printed(folder, request.param) as found:
        asyncio.run(_until_provisioned(found))
        yield found


@contextlib.contextmanager
def _embedded(folder: Path) -> Iterator[Place]:
    command = [sys.executable, "-m", "services.cli.main", "bus", "--state-dir", str(folder)]
    process = subprocess.Popen(command)
    try:
        yield Place((), {"state_dir": str(folder)})
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def _printed(folder: Path, kind: str) -> Iterator[Place]:
    hosts = HOSTS if kind == "printed for each host" else ()
    secrets = folder / "secrets"
    with serving(folder / "nats", export(secrets, "nkey", hosts)) as running:
        file = f"{secrets}/{{host}}/{{service}}.nk" if hosts else f"{secrets}/{{service}}.nk"
        yield Place(hosts, {"nats_url": [running.url], "nats_nkey_file": file})


async def _until_provisioned(place: Place) -> None:
    """Return when the server has its streams: the embedded one makes them itself, after the secrets of its accounts."""
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(SettingsError, BusError):
                admin = await place.account("admin", "here")
                break
            await asyncio.sleep(0.05)
        await ensure_streams(admin)
        await admin.close()


def _own(service: str, host: str, place: Place) -> list[str]:
    """The beginnings of the subjects that an account may write to."""
    access = ACCESS[service]
    own = [f"$KV.{bucket}.{host}." if place.hosts else f"$KV.{bucket}." for bucket in access.writes]
    if access.leases:
        of_host = f"{host}." if place.hosts and not access.all_hosts else ""
        own.append(f"$KV.{subjects.LEASES}.{access.leases}.{of_host}")
    own += [f"$O.{store}." for store in access.stores]
    return own


def _may(service: str, host: str, place: Place, subject: str) -> bool:
    if subject.startswith(subjects.EVENTS):
        name, _app, *at = subject.removeprefix(f"{subjects.EVENTS}.").split(".")
        return ACCESS[service].publishes and name == service and (not place.hosts or at == [host])
    if subject.startswith(subjects.COMMANDS):
        may = bool(ACCESS[service].commands)
        return may and (not place.hosts or ACCESS[service].all_hosts or subject.endswith(f".{host}"))
    if subject.startswith(subjects.OUTPUT):
        may = bool(ACCESS[service].reads_output)
        return may and (not place.hosts or ACCESS[service].all_hosts or subject.split(".")[4] == host)
    return any(subject.startswith(one) for one in _own(service, host, place))


def _outputs(host: str) -> list[str]:
    """The subjects on which a deployer opens a stream, and answers its reader."""
    return [subjects.output("deployer", "web", host), subjects.output_stream("deployer", "web", host, "stream")]


def _targets() -> list[str]:
    found = [subjects.commands("web", host) for host in HOSTS]
    found += [one for host in HOSTS for one in _outputs(host)]
    for host in HOSTS:
        found += [f"$KV.{bucket}.{host}.web" for bucket in subjects.BUCKETS if bucket != subjects.LEASES]
        found += [f"$KV.{subjects.LEASES}.deployer.{host}.web", f"$KV.{subjects.LEASES}.gateway.push"]
        found += [f"{subjects.EVENTS}.{service}.web.{host}" for service in subjects.SERVICES]
    found += [f"{subjects.EVENTS}.{service}.web" for service in subjects.SERVICES]
    found += [f"$O.{subjects.SNAPSHOTS}.M.YQ==", f"$O.{subjects.SNAPSHOTS}.C.x"]
    return found


def _seed(service: str, host: str, place: Place) -> tuple[str, str] | None:
    """A subject of its own where an account can store what it likes, and the stream of it."""
    access = ACCESS[service]
    for bucket in access.writes:
        return f"$KV.{bucket}.{host}.seed", f"KV_{bucket}"
    if access.leases:
        return f"$KV.{subjects.LEASES}.{access.leases}.seed", f"KV_{subjects.LEASES}"
    return None


async def _ask(bus: Bus, subject: str, body: dict[str, Any] | bytes = b"") -> dict[str, Any]:
    """The server's answer, empty when there is none."""
    payload = body if isinstance(body, bytes) else json.dumps(body).encode()
    try:
        message = await bus.client.request(subject, payload, timeout=0.5)
        return dict(json.loads(message.data or b"{}"))
    except (nats.errors.Error, TimeoutError, ValueError):
        return {}


async def _tricks(bus: Bus, service: str, host: str, place: Place, target: str) -> None:
    """Make the server write to a subject that is not ours. Nothing here waits for an answer."""
    client = bus.client
    await client.publish(target, FORGED)
    seed = _seed(service, host, place)
    sources = [f"{subjects.EVENTS}.{service}.web.{host}"] if ACCESS[service].publishes else []
    streams = list(STREAMS)
    if seed:
        sources.append(seed[0])
        streams.remove(seed[1])
        streams.insert(0, seed[1])
    for source in sources:
        await client.publish(source, FORGED, reply=target)  # the acknowledgement goes there
    for stream in streams:
        last = {"last_by_subj": seed[0]} if seed else {"seq": 1}
        name = f"to-{abs(hash(target))}"
        push = {"deliver_subject": target, "deliver_policy": "all", "ack_policy": "none"}
        pull = {"name": name, "deliver_policy": "all", "ack_policy": "none", "inactive_threshold": 5_000_000_000}
        for subject, body in (
            (f"$JS.API.STREAM.INFO.{stream}", {}),
            (f"$JS.API.STREAM.MSG.GET.{stream}", last),
            (f"$JS.API.DIRECT.GET.{stream}", last),
            (f"$JS.API.CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": pull}),
            (f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}", {"batch": 5, "no_wait": True}),
        ):
            await client.publish(subject, json.dumps(body).encode(), reply=target)
        create = json.dumps({"stream_name": stream, "config": push}).encode()
        await client.publish(f"$JS.API.CONSUMER.CREATE.{stream}", create, reply=client.new_inbox())
        if seed:
            await client.publish(f"$JS.API.DIRECT.GET.{stream}.{seed[0]}", b"", reply=target)
        for verb in ("UPDATE", "CREATE"):
            changed: dict[str, Any] = {"name": stream, "subjects": [target], "republish": {"src": ">", "dest": target}}
            await client.publish(f"$JS.API.STREAM.{verb}.{stream}", json.dumps(changed).encode())
        for verb in ("DELETE", "PURGE", "MSG.DELETE", "SNAPSHOT", "LEADER.STEPDOWN", "PEER.REMOVE"):
            if not (verb == "PURGE" and ACCESS[service].stores):
                await client.publish(f"$JS.API.STREAM.{verb}.{stream}", b'{"seq":1}')
    for kind in ("mirror", "sources"):
        origin = {"name": streams[0]}
        config: dict[str, Any] = {"name": "mine", kind: origin if kind == "mirror" else [origin]}
        await client.publish("$JS.API.STREAM.CREATE.mine", json.dumps(config).encode())
    await client.publish("$JS.API.ACCOUNT.STREAM.MOVE.LONGSHORE.LONGSHORE", b"{}")
    await client.publish("$SYS.REQ.ACCOUNT.LONGSHORE.CLAIMS.UPDATE", b"{}")


async def _listen(bus: Bus, seen: list[str]) -> None:
    """Hear what is not ours: all inboxes, all commands, all the server says."""

    async def hear(message: Msg) -> None:
        seen.append(message.subject)

    for subject in (">", "_INBOX.>", "_INBOX_cli.>", "_INBOX_gateway.>", "_R_.>", "$SYS.>", "$KV.>", "longshore.>"):
        await bus.client.subscribe(subject, cb=hear)


async def _state(admin: Bus) -> dict[str, list[tuple[str, bytes]]]:
    """Every message of every stream."""
    found: dict[str, list[tuple[str, bytes]]] = {}
    for stream in STREAMS:
        state = (await admin.jetstream.stream_info(stream)).state
        found[stream] = []
        for sequence in range(max(state.first_seq, 1), state.last_seq + 1):
            try:
                message = await admin.jetstream.get_msg(stream, sequence)
            except nats.js.errors.NotFoundError:
                continue
            found[stream].append((message.subject or "", message.data or b""))
    return found


@pytest.mark.parametrize("service", ACCESS)
async def test_an_account_writes_what_is_its_own_and_nothing_else_by_any_trick(service: str, place: Place) -> None:
    reached: list[bytes] = []

    def take(host: str) -> Callable[[Msg], Awaitable[None]]:
        """Deployers of one account reach each other on some servers, and take nothing that is no request."""
        is_same = service == "deployer" and (not place.hosts or host == "here")

        async def hear(message: Msg) -> None:
            if not is_same or is_request(message.subject, message.reply, subjects.commands("web", host)):
                reached.append(message.data)

        return hear

    admin = await place.account("admin", "here")
    deployers = [await place.account("deployer", host) for host in HOSTS]
    for deployer, host in zip(deployers, HOSTS, strict=True):
        for subject in (subjects.commands("web", host), *_outputs(host)):
            await deployer.client.subscribe(subject, cb=take(host))
        await deployer.client.flush()
    before = await _state(admin)
    bus = await place.account(service, "here")
    heard: list[str] = []
    await _listen(bus, heard)
    for target in _targets():
        if not _may(service, "here", place, target):
            await _tricks(bus, service, "here", place, target)
        await bus.client.flush()
    await asyncio.sleep(1)  # what has come by now came at once; nothing is there to wait for
    written = await _state(admin)
    for stream, messages in written.items():
        foreign = [one for one in messages if one not in before[stream] and not _may(service, "here", place, one[0])]
        assert foreign == []
    assert set(written) == set(before)
    assert reached == []
    assert [subject for subject in heard if not subject.startswith(f"_INBOX_{service}.")] == []
    for one in (bus, admin, *deployers):
        await one.close()


@pytest.mark.parametrize("service", [name for name, access in ACCESS.items() if access.commands])
async def test_who_may_command_a_host_reaches_its_deployer_and_no_other(service: str, place: Place) -> None:
    obeyed: list[str] = []
    deployers = [await place.account("deployer", host) for host in HOSTS]
    for deployer, host in zip(deployers, HOSTS, strict=True):

        async def answer(_payload: bytes, _headers: Mapping[str, str], host: str = host) -> bytes:
            obeyed.append(host)
            return msgspec.json.encode(Reply(True, "done"))

        await deployer.respond(subjects.commands("web", host), answer)
        await deployer.client.flush()
    bus = await place.account(service, "here")
    for host in HOSTS:
        may = _may(service, "here", place, subjects.commands("web", host))
        if may:
            assert msgspec.json.decode(await bus.request(subjects.commands("web", host), Pause()), type=Reply).ok
        else:
            with pytest.raises(BusError):
                await bus.request(subjects.commands("web", host), Pause(), 1.0)
        assert (host in obeyed) == may
    for one in (bus, *deployers):
        await one.close()


@pytest.mark.parametrize("service", ACCESS)
async def test_who_may_read_the_output_of_a_host_reaches_its_deployer_and_no_other(service: str, place: Place) -> None:
    asked: list[tuple[str, str]] = []
    deployers = [await place.account("deployer", host) for host in HOSTS]
    for deployer, host in zip(deployers, HOSTS, strict=True):
        for subject in _outputs(host):

            async def answer(
                _payload: bytes, _headers: Mapping[str, str], host: str = host, at: str = subject
            ) -> bytes:
                asked.append((host, at))
                return b"yes"

            await deployer.respond(subject, answer, is_repeatable=True)
        await deployer.client.flush()
    bus = await place.account(service, "here")
    overheard: list[str] = []
    eavesdropper = await place.account("gateway", "here")
    await _listen(eavesdropper, overheard)
    for host in HOSTS:
        for subject in _outputs(host):
            if _may(service, "here", place, subject):
                assert await bus.ask(subject, b"", 5) == b"yes"
            else:
                with pytest.raises(BusError):
                    await bus.ask(subject, b"", 1.0)
            is_answered = any(at == subject for _, at in asked)
            assert is_answered == _may(service, "here", place, subject)
    await eavesdropper.client.flush()
    assert [one for one in overheard if one.startswith(subjects.OUTPUT)] == []
    for one in (bus, eavesdropper, *deployers):
        await one.close()
