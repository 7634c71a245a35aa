"""The embedded bus: a real nats-server, started the way the all-in-one commands start it."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import stat
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from schemas import subjects
from schemas.commands import Pause
from schemas.events import ServiceStopped
from schemas.routing import Health, Route
from services.bus import binary
from services.bus.permissions import ACCESS
from services.bus.recovery import CAN_WRITE, CANNOT_WRITE
from services.bus.server import Server, usual_bytes
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.bus.credentials import Credentials
from services.common.config.settings import Settings
from services.common.delivery.outbox import Outbox
from services.common.errors import BusError, SettingsError
from services.common.jetstream.log_reader import last_sequence, read
from services.common.jetstream.object_store import Objects
from services.common.jetstream.provisioning import ensure_streams
from services.common.jetstream.watch import Change, Synced, watch_keys
from tests.support.configured_server import serving
from tests.support.disk import small_disk


@pytest.fixture
async def embedded(tmp_path: Path) -> AsyncIterator[tuple[Server, Settings]]:
    settings = Settings(state_dir=str(tmp_path))
    server = Server(settings)
    await server.start()
    yield server, settings
    await server.stop()


async def _connect(settings: Settings, service: str) -> Bus:
    return await Bus.connect(service, credentials.find(settings, service))


async def test_each_account_can_do_what_its_service_needs(embedded: tuple[Server, Settings]) -> None:
    _, settings = embedded
    for service, access in ACCESS.items():
        bus = await _connect(settings, service)
        for bucket in access.writes:
            await bus.put(bucket, "host.web.80", Route("web", 80, 1))
            assert await bus.get(bucket, "host.web.80")
            await bus.delete(bucket, "host.web.80")
        for bucket in access.reads:
            watch = watch_keys(bus, bucket, "host.>")
            async with asyncio.timeout(5):
                while not isinstance(await anext(watch), Synced):
                    pass
            await watch.aclose()
        for store in access.stores:
            objects = Objects(bus, store)
            await objects.put("a", b"first")
            await objects.put("a", b"second")
            await objects.sweep()
            assert await objects.get("a") == b"second"
            await objects.delete("a")
        for store in access.reads_stores:
            assert await Objects(bus, store).get("none") is None
        if access.publishes:
            outbox = Outbox(bus, service, "host", service)
            sending = asyncio.create_task(outbox.run())
            outbox.record(ServiceStopped(time.time(), "stopped"))
            assert await outbox.flush(5)
            sending.cancel()
        if access.reads_log:
            assert await last_sequence(bus) >= 1
            async with asyncio.timeout(5):
                await anext(read(bus))
        await bus.close()


async def test_commands_reach_the_deployer_and_its_answer_comes_back(embedded: tuple[Server, Settings]) -> None:
    _, settings = embedded
    deployer, cli = await _connect(settings, "deployer"), await _connect(settings, "cli")

    async def answer(_request: bytes, _headers: Mapping[str, str]) -> bytes:
        return b"paused"

    await deployer.respond(subjects.commands("web", "host"), answer)
    await deployer.client.flush()
    assert await cli.request(subjects.commands("web", "host"), Pause()) == b"paused"
    with pytest.raises(BusError, match="nobody answers"):
        await cli.request(subjects.commands("other", "host"), Pause())
    await deployer.close()
    await cli.close()


async def test_a_service_is_denied_what_is_not_its_own(embedded: tuple[Server, Settings]) -> None:
    _, settings = embedded
    proxy, admin = await _connect(settings, "proxy"), await _connect(settings, "admin")
    await proxy.client.publish("$KV.longshore-routes.host.web.80", b"{}")
    await proxy.client.publish("longshore.events.deployer.web", b"forged")
    await proxy.client.flush()
    assert await admin.get(subjects.ROUTES, "host.web.80") is None
    assert await last_sequence(admin) == 0
    await proxy.close()
    await admin.close()


async def test_only_the_gateway_may_change_snapshots_and_only_the_command_line_read_them_too(
    embedded: tuple[Server, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, settings = embedded
    monkeypatch.setattr("services.common.jetstream.object_store.DEADLINE", 0.2)
    admin = await _connect(settings, "admin")
    await Objects(admin, subjects.SNAPSHOTS).put("a", b"genuine")
    for service in ACCESS.keys() - {"gateway"}:
        bus = await _connect(settings, service)
        objects = Objects(bus, subjects.SNAPSHOTS)
        if service == "cli":
            assert await objects.get("a") == b"genuine"
        else:
            for attempt in (objects.get("a"), objects.sweep()):
                with pytest.raises(BusError):
                    await attempt
        for attempt in (objects.put("a", b"forged"), objects.delete("a")):
            with pytest.raises(BusError):
                await attempt
        await bus.client.publish(f"$O.{subjects.SNAPSHOTS}.M.YQ==", b"{}")
        await bus.client.flush()
        await bus.close()
    assert await Objects(admin, subjects.SNAPSHOTS).get("a") == b"genuine"
    await admin.close()


async def test_a_killed_server_comes_back_on_its_port_with_what_it_stored(
    embedded: tuple[Server, Settings],
) -> None:
    server, settings = embedded
    bus = await _connect(settings, "health")
    await bus.put(subjects.HEALTH, "host.web.a", Health("web", "a", True, 1.0))
    os.kill(server.pid, signal.SIGKILL)
    async with asyncio.timeout(20):
        await bus.until_lost()
        await bus.until_connected()
    watch = watch_keys(bus, subjects.HEALTH, "host.>")
    async with asyncio.timeout(20):
        change = await anext(watch)
    assert isinstance(change, Change)
    assert change.key == "host.web.a"
    await watch.aclose()
    await bus.close()


async def test_a_server_whose_disk_was_full_takes_everything_again_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state") as disk, capture_logs() as lines:
        settings = Settings(state_dir=str(disk.folder))
        server = Server(settings)
        await server.start()
        bus = await _connect(settings, "proxy")
        outbox = Outbox(bus, "proxy", "host", "instance")
        sending = asyncio.create_task(outbox.run())
        outbox.record(ServiceStopped(1.0, "before"))
        assert await outbox.flush(20)
        disk.fill()
        outbox.record(ServiceStopped(2.0, "more than fits into a page: " + secrets.token_hex(8192)))
        await _until(lambda: [line for line in lines if line["event"] == CANNOT_WRITE])
        disk.free()
        outbox.record(ServiceStopped(3.0, "after"))
        assert await outbox.flush(60)
        admin = await _connect(settings, "admin")
        assert await last_sequence(admin) == 3
        await admin.close()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        await bus.close()
        await server.stop()
    told = [line["event"] for line in lines if line["log_level"] != "info"]
    assert told.count(CANNOT_WRITE) == told.count(CAN_WRITE) == 1


async def test_on_a_small_disk_the_log_leaves_room_for_others(tmp_path: Path) -> None:
    with small_disk(tmp_path / "state", 300 << 20) as disk:
        settings = Settings(state_dir=str(disk.folder))
        server = Server(settings)
        await server.start()
        bus = await _connect(settings, "admin")
        config = (await bus.jetstream.stream_info(subjects.STREAM)).config
        assert config.max_bytes
        assert 100 << 20 < config.max_bytes <= 150 << 20
        await bus.close()
        await server.stop()


@pytest.mark.parametrize(("free", "usual"), [(0, 64 << 20), (1 << 30, 512 << 20), (1 << 40, 8 << 30)])
def test_a_new_log_takes_at_most_half_of_what_is_free(free: int, usual: int) -> None:
    assert usual_bytes(free) == usual


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - lines of a log
            await asyncio.sleep(0.05)


async def test_secrets_are_readable_by_their_owner_only_and_kept_over_restarts(
    embedded: tuple[Server, Settings], tmp_path: Path
) -> None:
    server, settings = embedded
    before = credentials.find(settings, "proxy")
    await server.stop()
    await server.start()
    assert credentials.find(settings, "proxy") == before
    files = [file for file in (tmp_path / "bus").iterdir() if file.suffix in {".json", ".conf"}]
    assert len(files) == len(ACCESS) + 3
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


async def test_wrong_credentials_are_told_at_once(embedded: tuple[Server, Settings]) -> None:
    _, settings = embedded
    right = credentials.find(settings, "proxy")
    wrong = Credentials(right.servers, "proxy", "wrong")
    async with asyncio.timeout(5):
        with pytest.raises(BusError, match="refuses proxy: wrong user or password"):
            await Bus.connect("proxy", wrong, timeout=60)


async def test_an_unreachable_bus_is_told_after_the_timeout() -> None:
    with pytest.raises(BusError, match=r"no bus at nats://127\.0\.0\.1:1 within 0\.3 s.*mend --nats-url"):
        await Bus.connect("proxy", Credentials(["nats://127.0.0.1:1"]), timeout=0.3)


@pytest.mark.parametrize("url", ["nats://[", "http://127.0.0.1:4222", "nats://host:port"])
async def test_a_malformed_url_is_told_with_the_form_to_use(url: str) -> None:
    with pytest.raises(BusError, match="nats-url"):
        await Bus.connect("proxy", Credentials([url]), timeout=0.3)


def test_an_old_or_missing_server_program_is_refused(tmp_path: Path) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.25\n")
    old.chmod(0o755)
    with pytest.raises(BusError, match=r"not a nats-server 2\.10 or newer"):
        binary.find(str(old))
    with pytest.raises(BusError, match="no such program"):
        binary.find(str(tmp_path / "missing"))


def test_an_old_server_on_the_path_gives_way_to_the_bundled_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "nats-server"
    old.write_text("#!/bin/sh\necho nats-server: v2.9.25\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert binary.find() != str(old)


async def test_a_server_that_cannot_start_leaves_nothing_running(tmp_path: Path) -> None:
    broken = tmp_path / "nats-server"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo nats-server: v2.10.0 && exit 0\nexit 3\n')
    broken.chmod(0o755)
    server = Server(Settings(state_dir=str(tmp_path), bus_timeout=0.5), str(broken))
    with pytest.raises(BusError, match="nats-server ends with exit code 3"):
        await server.start()
    assert server.pid == 0


async def test_two_servers_never_share_a_store(
    embedded: tuple[Server, Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, settings = embedded
    monkeypatch.setattr("services.bus.server.STOP_TIMEOUT", 0.1)
    with pytest.raises(SettingsError, match=f"in use by process {os.getpid()}"):
        await Server(settings).start()


async def test_what_an_older_version_stored_without_an_account_is_found_again(tmp_path: Path) -> None:
    store = tmp_path / "bus" / "jetstream"
    store.mkdir(parents=True)
    config = f"jetstream {{ store_dir: {json.dumps(str(store))} }}"
    with serving(tmp_path / "old", config, jetstream=False) as older:
        bus = await Bus.connect("admin", Credentials([older.url]))
        await ensure_streams(bus)
        await bus.put(subjects.ROUTES, "host.web.80", Route("web", 80, 7))
        await bus.close()
    settings = Settings(state_dir=str(tmp_path))
    for _ in range(2):
        server = Server(settings)
        await server.start()
        bus = await _connect(settings, "deployer")
        assert await bus.get(subjects.ROUTES, "host.web.80") is not None
        await bus.close()
        await server.stop()


async def test_a_bus_that_could_not_be_looked_after_once_is_looked_after_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.bus.server.MAINTENANCE_RETRY", 0.1)
    monkeypatch.setattr("services.common.jetstream.stream_guard.INTERVAL", 0.1)
    connect, refused = Bus.connect, ["the system account does not get in"]

    async def fails_once(service: str, account: Credentials, timeout: float = 10.0) -> Bus:
        if service == "system" and refused:
            raise BusError(refused.pop())
        return await connect(service, account, timeout)

    monkeypatch.setattr("services.bus.server.Bus.connect", fails_once)
    settings = Settings(state_dir=str(tmp_path))
    server = Server(settings)
    with capture_logs() as lines:
        await server.start()
        await _until(lambda: [line for line in lines if line.get("reason") == "the system account does not get in"])
        bus = await connect("admin", credentials.find(settings, "admin"))
        await bus.jetstream.delete_stream(subjects.STREAM)
        await _until(lambda: [line for line in lines if line["event"] == "the log's stream was deleted: created again"])
        await bus.close()
        await server.stop()
