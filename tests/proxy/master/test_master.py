"""The whole proxy, master and workers, on a real bus."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest

from schemas.events import (
    BackendDrained,
    BackendEjected,
    BackendJoined,
    BackendLeft,
    ConnectionAccepted,
    ConnectionClosed,
    ConnectionEstablished,
    DialFailed,
    ListenerClosed,
    ListenerOpened,
    ServiceStarted,
    ServiceStopped,
)
from services.common.bus.connection import Bus
from services.proxy.settings import ProxySettings
from services.proxy.sockets.listeners import Listener, open_listeners
from tests.proxy.backends import echo, named, nobody, serving
from tests.proxy.proxy_service import APP, DEADLINE, HOST, Proxy, proxy, start
from tests.support.harness import children_of
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def connect(port: int) -> Stream:
    return await asyncio.open_connection("127.0.0.1", port)


async def finish(stream: Stream, message: bytes = b"bye") -> bytes:
    """Say a last word, end, and return everything that comes."""
    reader, writer = stream
    try:
        writer.write(message)
        writer.write_eof()
        async with asyncio.timeout(DEADLINE):
            return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def exchange(port: int) -> bytes:
    return await finish(await connect(port))


class Traffic:
    """Clients that come one after the other; a connection that breaks is counted, a refused one is an error."""

    def __init__(self, port: int) -> None:
        self.done = 0
        self.broken = 0
        self._port = port

    async def run(self) -> None:
        while True:
            stream = await connect(self._port)
            try:
                served = await finish(stream) == b"bye"
            except OSError:
                served = False
            self.done += served
            self.broken += not served

    async def goes_on(self, count: int = 50) -> None:
        """Return when so many more were served."""
        goal = self.done + count
        async with asyncio.timeout(DEADLINE):
            while self.done < goal:  # noqa: ASYNC110  # an event would slow the traffic down
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def traffic(port: int, clients: int = 4) -> AsyncIterator[Traffic]:
    result = Traffic(port)
    tasks = [asyncio.create_task(result.run()) for _ in range(clients)]
    try:
        yield result
        assert not any(task.done() for task in tasks), [task.exception() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_workers_start(process: asyncio.subprocess.Process) -> None:
    """Return when a master has begun to start its workers: it handles signals."""
    async with asyncio.timeout(DEADLINE):
        while not children_of(process.pid):  # noqa: ASYNC110  # the first of them; the others follow
            await asyncio.sleep(0.001)


async def started(settings: ProxySettings, listeners: list[Listener]) -> asyncio.subprocess.Process:
    """Start another master on these listeners. A worker of the former one may still answer meanwhile."""
    process = await start(settings, listeners)
    await until_workers_start(process)
    return process


def assert_nothing_is_missing(running: Proxy) -> None:
    """Every batch of every instance is there, and every connection has one beginning and one end."""
    for sequences in running.log.sequences.values():
        assert sequences == list(range(1, len(sequences) + 1))
    accepted = [
        (e.instance, e.event.connection) for e in running.log.entries if isinstance(e.event, ConnectionAccepted)
    ]
    closed = [(e.instance, e.event.connection) for e in running.log.entries if isinstance(e.event, ConnectionClosed)]
    assert len(set(accepted)) == len(accepted)
    assert sorted(accepted) == sorted(closed)


async def test_a_route_is_served_by_all_workers_and_its_life_is_told(bus: Bus, nats_server: NatsServer) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url) as running:
            await running.serve(server.backend())
            assert await exchange(running.port) == b"bye"
            await running.serve(server.backend("draining"))
            await running.serve()
            assert await running.stop() == 0
            log = running.log
            await log.wait_for_event(ServiceStopped, 3)
            assert [event.port for event in log.of(ListenerOpened)] == [running.port]
            assert [event.port for event in log.of(ListenerClosed)] == [running.port]
            assert [event.address for event in log.of(BackendJoined)] == [f"127.0.0.1:{server.port}"]
            assert [event.backend for event in log.of(BackendLeft)] == ["a"]
            assert [(event.backend, event.cut) for event in log.of(BackendDrained)] == [("a", 0)]
            assert {entry.app for entry in log.entries} == {APP, "_"}
            started = {entry.instance: entry.event for entry in log.entries if isinstance(entry.event, ServiceStarted)}
            (master,) = [name for name, event in started.items() if event.unit == f"proxy:{running.port}"]
            workers = [event for event in started.values() if event.unit == "proxy-worker"]
            assert [worker.parent for worker in workers] == [master, master]


async def test_clients_that_come_before_any_route_are_held_and_served(bus: Bus, nats_server: NatsServer) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url) as running:
            early = [asyncio.create_task(exchange(running.port)) for _ in range(10)]
            await running.log.wait_for_event(ConnectionAccepted, 10)
            await running.serve(server.backend())
            assert await asyncio.gather(*early) == [b"bye"] * 10


async def test_open_connections_of_a_draining_backend_are_told_until_none_is_left(
    bus: Bus, nats_server: NatsServer
) -> None:
    with serving(named("a"), "a") as a, serving(named("b"), "b") as b:
        async with proxy(bus, nats_server.url) as running:
            await running.serve(a.backend())
            old = [await connect(running.port) for _ in range(6)]
            for reader, _ in old:
                assert await reader.readexactly(1) == b"a"
            await running.serve(a.backend("draining"), b.backend())
            await running.wait_for_serving(lambda serving: serving.draining == {"a": 6})
            assert await exchange(running.port) == b"bbye"
            for stream in old[:4]:
                assert await finish(stream) == b"bye"
            await running.wait_for_serving(lambda serving: serving.draining == {"a": 2})
            await running.serve(b.backend())
            (drained,) = await running.log.wait_for_event(BackendDrained)
            assert (drained.backend, drained.cut) == ("a", 2)
            for _, writer in old[4:]:
                writer.close()


async def test_a_backend_that_fails_is_ejected_once_for_all_workers_and_comes_back(
    bus: Bus, nats_server: NatsServer
) -> None:
    gone = nobody()
    async with proxy(bus, nats_server.url) as running:
        await running.serve(gone)
        held = [asyncio.create_task(exchange(running.port)) for _ in range(20)]
        await running.log.wait_for_event(BackendEjected)
        with serving(echo, "a", gone.port):
            assert await asyncio.gather(*held) == [b"bye"] * 20
            await running.log.wait_for_event(ConnectionClosed, 20)
        told = [type(e.event) for e in running.log.entries if isinstance(e.event, BackendEjected | BackendJoined)]
        assert told == [BackendJoined, *[BackendEjected, BackendJoined] * (len(told) // 2)]
        assert all(event.held > 0 for event in running.log.of(ConnectionEstablished))


async def test_clients_that_are_held_do_not_all_dial_a_backend_that_is_still_dead(
    bus: Bus, nats_server: NatsServer
) -> None:
    gone = nobody()
    async with proxy(bus, nats_server.url) as running:
        await running.serve(gone)
        held = [asyncio.create_task(exchange(running.port)) for _ in range(20)]
        await running.log.wait_for_event(BackendEjected)
        await asyncio.sleep(3.5)  # in which it is tried twice: 1 and 3 seconds after it failed
        with serving(echo, "a", gone.port):
            assert await asyncio.gather(*held) == [b"bye"] * 20
            await running.log.wait_for_event(ConnectionClosed, 20)
        assert len(running.log.of(DialFailed)) <= 20
        assert len(running.log.of(BackendEjected)) == len(running.log.of(BackendJoined)) - 1 == 1


async def test_a_killed_worker_comes_back_and_its_port_never_refuses(bus: Bus, nats_server: NatsServer) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url) as running:
            await running.serve(server.backend())
            async with traffic(running.port) as clients:
                await clients.goes_on()
                for count in range(3, 6):
                    os.kill((await running.wait_for_workers(count - 1))[-1], signal.SIGKILL)
                    await running.wait_for_workers(count)
                    await clients.goes_on()
            stopped = running.log.of(ServiceStopped)
            assert [event.reason for event in stopped] == ["killed by signal 9"] * 3
            assert clients.broken <= 3 * 4


async def test_what_a_killed_worker_recorded_in_its_last_moment_is_told(bus: Bus, nats_server: NatsServer) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url, ProxySettings(workers=1)) as running:
            await running.serve(server.backend())
            for count in range(1, 6):
                (*_, worker) = await running.wait_for_workers(count)
                assert await exchange(running.port) == b"bye"
                os.kill(worker, signal.SIGKILL)
            await running.log.wait_for_event(ServiceStopped, 5)
            assert len(running.log.of(ConnectionAccepted)) == len(running.log.of(ConnectionEstablished)) == 5
            ended = [(event.bytes_in, event.bytes_out) for event in running.log.of(ConnectionClosed)]
            assert set(ended) <= {(3, 3)}  # a client knows of its end a moment before the worker has noted it
            for sequences in running.log.sequences.values():
                assert sequences == list(range(1, len(sequences) + 1))


async def test_a_worker_that_hangs_is_replaced_and_what_it_recorded_is_told(bus: Bus, nats_server: NatsServer) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url, ProxySettings(workers=1)) as running:
            await running.serve(server.backend())
            (worker,) = await running.wait_for_workers(1)
            assert await exchange(running.port) == b"bye"
            os.kill(worker, signal.SIGSTOP)
            waiting = await connect(running.port)
            await running.wait_for_workers(2, 3 * DEADLINE)
            assert await finish(waiting) == b"bye"
            await running.log.wait_for_event(ConnectionClosed, 2)
            (stopped,) = await running.log.wait_for_event(ServiceStopped)
            assert stopped.reason == "killed by signal 9"


async def test_a_worker_that_comes_back_serves_the_route_of_the_moment(bus: Bus, nats_server: NatsServer) -> None:
    with serving(named("a"), "a") as a, serving(named("b"), "b") as b:
        async with proxy(bus, nats_server.url, ProxySettings(workers=1)) as running:
            await running.serve(a.backend())
            os.kill((await running.wait_for_workers(1))[0], signal.SIGKILL)
            generation = await running.route(b.backend())
            assert await exchange(running.port) == b"bbye"
            await running.wait_for_serving(lambda serving: serving.generation == generation)


async def test_the_death_of_the_bus_stops_nothing_and_loses_no_event(bus: Bus, nats_server: NatsServer) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url) as running:
            await running.serve(server.backend())
            async with traffic(running.port) as clients:
                await clients.goes_on()
                nats_server.kill()
                await clients.goes_on(200)
                nats_server.start()
                await clients.goes_on()
            assert clients.broken == 0
            await running.serve(server.backend(), nobody("b", "draining"))
            assert await running.stop() == 0
            await running.log.wait_for_event(ServiceStopped, 3)
            assert len(running.log.of(ConnectionAccepted)) >= clients.done
            assert_nothing_is_missing(running)


async def test_on_sigterm_open_connections_finish_and_every_event_is_delivered(
    bus: Bus, nats_server: NatsServer
) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url) as running:
            await running.serve(server.backend())
            streams = [await connect(running.port) for _ in range(20)]
            running.process.send_signal(signal.SIGTERM)
            await running.log.wait_for_event(ListenerClosed)
            async with asyncio.timeout(DEADLINE):
                with contextlib.suppress(ConnectionRefusedError):
                    while True:
                        (await connect(running.port))[1].close()
            assert await asyncio.gather(*map(finish, streams)) == [b"bye"] * 20
            assert await asyncio.wait_for(running.process.wait(), DEADLINE) == 0
            await running.log.wait_for_event(ServiceStopped, 3)
            assert {event.reason for event in running.log.of(ServiceStopped)} == {"stopped"}
            assert_nothing_is_missing(running)


async def test_connections_that_outlive_the_drain_time_of_a_stop_are_cut(bus: Bus, nats_server: NatsServer) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url, ProxySettings(workers=2, drain_time=0.3)) as running:
            await running.serve(server.backend())
            streams = [await connect(running.port) for _ in range(4)]
            await running.log.wait_for_event(ConnectionEstablished, 4)
            assert await running.stop() == 0
            await running.log.wait_for_event(ServiceStopped, 3)
            assert [event.reason for event in running.log.of(ConnectionClosed)] == ["shutdown"] * 4
            for _, writer in streams:
                writer.close()


async def test_a_killed_master_never_closes_a_port_that_a_supervisor_holds(bus: Bus, nats_server: NatsServer) -> None:
    listeners = open_listeners([f"{APP}=127.0.0.1:{free_port()}"], 2)
    with serving(echo) as server:
        async with proxy(bus, nats_server.url, listeners=listeners) as running:
            await running.serve(server.backend())
            old = await connect(running.port)
            await running.log.wait_for_event(ConnectionEstablished)
            async with traffic(running.port) as clients:
                await clients.goes_on()
                running.process.kill()
                await running.process.wait()
                settings = ProxySettings(host=HOST, nats_url=[nats_server.url], listen=[str(listeners[0].binding)])
                running.process = await started(msgspec.structs.replace(settings, workers=2), listeners)
                await clients.goes_on()
            assert clients.broken == 0
            assert await finish(old) == b"bye"
            assert await running.stop() == 0
    for listener in listeners:
        listener.close()


async def test_workers_that_share_a_socket_take_turns(bus: Bus, nats_server: NatsServer) -> None:
    """As they do under systemd: one client wakes one worker, and not always the same one."""
    (opened,) = open_listeners([f"{APP}=127.0.0.1:{free_port()}"], 1)
    shared = Listener(opened.binding, [*opened.sockets, opened.sockets[0].dup()])
    with serving(echo) as server:
        async with proxy(bus, nats_server.url, listeners=[shared]) as running:
            await running.serve(server.backend())
            streams = []
            for _ in range(80):
                streams.append(await connect(running.port))
                streams[-1][1].write(b"?")
                assert await streams[-1][0].readexactly(1) == b"?"
                await asyncio.sleep(0.005)  # so that both workers wait
            await running.log.wait_for_event(ConnectionEstablished, 80)
            taken = Counter(e.instance for e in running.log.entries if isinstance(e.event, ConnectionEstablished))
            assert len(taken) == 2
            assert min(taken.values()) >= 16
            assert await asyncio.gather(*map(finish, streams)) == [b"bye"] * 80
            assert await running.stop() == 0
    shared.close()


async def test_the_workers_of_a_killed_master_finish_their_connections_and_end(
    bus: Bus, nats_server: NatsServer
) -> None:
    with serving(echo) as server:
        async with proxy(bus, nats_server.url) as running:
            await running.serve(server.backend())
            streams = [await connect(running.port) for _ in range(10)]
            await running.log.wait_for_event(ConnectionEstablished, 10)
            running.process.kill()
            await running.process.wait()
            assert await asyncio.gather(*map(finish, streams)) == [b"bye"] * 10
            async with asyncio.timeout(DEADLINE):
                while any(map(is_alive, running.workers().values())):  # noqa: ASYNC110  # not our children
                    await asyncio.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_next_master_waits_for_connections_that_the_last_ones_workers_have(
    bus: Bus, nats_server: NatsServer, number: signal.Signals
) -> None:
    listeners = open_listeners([f"{APP}=127.0.0.1:{free_port()}"], 2)
    with serving(named("a"), "a") as a, serving(named("b"), "b") as b:
        async with proxy(bus, nats_server.url, listeners=listeners) as running:
            await running.serve(a.backend())
            old = [await connect(running.port) for _ in range(6)]
            await running.log.wait_for_event(ConnectionEstablished, 6)
            former = running.process
            former.send_signal(number)
            settings = ProxySettings(host=HOST, nats_url=[nats_server.url], listen=[str(listeners[0].binding)])
            running.process = await started(msgspec.structs.replace(settings, workers=2), listeners)
            await running.wait_for_workers(4)
            generation = await running.route(a.backend("draining"), b.backend())
            first = await running.wait_for_serving(lambda serving: serving.generation == generation)
            assert first.draining == {"a": 6}
            assert [await finish(stream) for stream in old[:4]] == [b"abye"] * 4
            await running.wait_for_serving(lambda serving: serving.draining == {"a": 2})
            new = await connect(running.port)
            assert await new[0].readexactly(1) == b"b"
            await running.route(a.backend("draining"), b.backend("draining"))
            await running.wait_for_serving(lambda serving: serving.draining == {"a": 2, "b": 1})
            assert [await finish(stream) for stream in old[4:]] == [b"abye"] * 2
            assert await asyncio.wait_for(former.wait(), DEADLINE) == (-number if number == signal.SIGKILL else 0)
            await running.wait_for_serving(lambda serving: serving.draining == {"b": 1})
            assert await finish(new) == b"bye"
            await running.wait_for_serving(lambda serving: serving.draining == {})
            await running.log.wait_for_event(BackendDrained, 2)
    for listener in listeners:
        listener.close()


async def test_a_master_that_starts_while_the_bus_is_away_serves_as_the_last_one_did(
    bus: Bus, nats_server: NatsServer
) -> None:
    listeners = open_listeners([f"{APP}=127.0.0.1:{free_port()}"], 2)
    with serving(named("a"), "a") as a, serving(named("b"), "b") as b:
        async with proxy(bus, nats_server.url, listeners=listeners) as running:
            await running.serve(a.backend())
            running.process.kill()
            nats_server.kill()
            await running.process.wait()
            settings = ProxySettings(host=HOST, nats_url=[nats_server.url], listen=[str(listeners[0].binding)])
            running.process = await started(msgspec.structs.replace(settings, workers=2), listeners)
            assert [await exchange(running.port) for _ in range(20)] == [b"abye"] * 20
            nats_server.start()
            await running.serve(b.backend())
            assert await exchange(running.port) == b"bbye"
            assert await running.stop() == 0
            await running.log.wait_for_event(ConnectionClosed, 21)
            assert_nothing_is_missing(running)
    for listener in listeners:
        listener.close()


async def test_a_master_that_never_reached_the_bus_stops_when_it_is_told(bus: Bus, nats_server: NatsServer) -> None:
    listeners = open_listeners([f"{APP}=127.0.0.1:{free_port()}"], 1)
    with serving(named("a"), "a") as a:
        settings = ProxySettings(workers=1)
        async with proxy(bus, nats_server.url, settings, listeners) as running:
            await running.serve(a.backend())
            running.process.kill()
            nats_server.kill()
            await running.process.wait()
            settings = ProxySettings(host=HOST, nats_url=[nats_server.url], listen=[str(listeners[0].binding)])
            running.process = await started(msgspec.structs.replace(settings, workers=1), listeners)
            assert await exchange(running.port) == b"abye"
            assert await running.stop() == 0
    for listener in listeners:
        listener.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_proxy_that_stops_while_its_workers_start_ends_without_an_error(
    bus: Bus, nats_server: NatsServer
) -> None:
    async with proxy(bus, nats_server.url, ProxySettings(workers=8)) as running:
        await until_workers_start(running.process)
        assert await running.stop() == 0
