"""The master: it sends routes to the workers, takes their events, and decides what concerns all of them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import partial

import msgspec

from schemas import subjects
from schemas.chain import SealedBatch
from schemas.codec import encode_event, joined
from schemas.events import ListenerClosed, ListenerOpened, ServiceStarted, ServiceStopped
from schemas.routing import Route
from services.common.process.lifecycle import Context
from services.common.version import VERSION
from services.proxy.crash import open_connections_file
from services.proxy.crash.open_connections_file import PreviousWorkers
from services.proxy.master import readmission
from services.proxy.master.pool import Effects, Pool, Retry
from services.proxy.master.process import WorkerProcess
from services.proxy.master.serving import Publisher
from services.proxy.messages import (
    BackendRecovered,
    BatchAck,
    Blocked,
    DialFailure,
    ForwardBatch,
    Limits,
    Listening,
    Message,
    RouteApplied,
    Start,
    Stop,
    WorkerIdentity,
)
from services.proxy.sockets.listeners import Listener

FIRST_BACKOFF = 0.1
LONGEST_BACKOFF = 5.0
STABLE_AFTER = 1.0
"""Seconds after which a worker that ends was not broken from the start: the next one starts without a pause."""

KILL_AFTER = 5.0
"""Seconds beyond the drain time that workers have to end."""

POLL_INTERVAL = 0.1
"""Seconds between two looks at the files of the workers of a previous master."""

WATCH_INTERVAL = 5.0
"""Seconds between two checks for workers that hang."""

LONGEST_SILENCE = 3
"""A worker sends something every 5 seconds: after so many checks without a message it hangs."""

UNIT = "proxy-worker"


class Master:
    """Keeps one worker process running for each socket of a listener."""

    def __init__(self, context: Context, listeners: list[Listener], limits: Limits, publisher: Publisher) -> None:
        self._context = context
        self._listeners = listeners
        self._limits = limits
        self._publisher = publisher
        bindings = [listener.binding for listener in listeners]
        self._pools = {(each.app, each.port): Pool(each.app, each.port) for each in bindings}
        self._workers: dict[str, WorkerProcess] = {}
        self._worker_tasks: list[asyncio.Task[None]] = []
        self._stopping = asyncio.Event()
        self._previous = PreviousWorkers(context.spool_folder, self._pools)
        self._poll_previous_workers()

    def start(self) -> None:
        """Start the workers; they accept once they have applied the present routes."""
        for listener in self._listeners:
            address = listener.sockets[0].getsockname()[0]
            self._context.record(ListenerOpened(time.time(), listener.binding.port, address), listener.binding.app)
        workers = range(len(self._listeners[0].sockets))
        self._worker_tasks = [self._context.spawn(self._supervise(index), f"worker {index}") for index in workers]
        self._context.spawn(self._watch_previous_workers(), "previous workers")
        self._context.spawn(self._watch_workers(), "workers")

    async def stop(self) -> None:
        """Refuse new clients, let connections finish within the drain time, and take the last events of the workers."""
        self._stopping.set()
        for listener in self._listeners:
            listener.close()
            self._context.record(ListenerClosed(time.time(), listener.binding.port), listener.binding.app)
        for worker in self._workers.values():
            worker.send(Stop())
        await asyncio.wait(self._worker_tasks, timeout=self._limits.drain_time + KILL_AFTER)
        for worker in self._workers.values():
            self._context.log.error("a worker did not stop in time, killing it", pid=worker.pid)
            worker.kill()
        await asyncio.wait(self._worker_tasks)

    def follow(self, route: Route) -> None:
        """Have the workers apply a route, if its port belongs to this proxy."""
        pool = self._pools.get((route.app, route.port))
        if pool:
            self._apply(pool, pool.follow(route, time.time()))

    def forget(self, app: str, port: int) -> None:
        """Accept any next route of this port: the present one is gone from the bus."""
        pool = self._pools.get((app, port))
        if pool:
            pool.forget()

    async def _watch_workers(self) -> None:
        """Kill workers that hang. Silence is counted in checks, not seconds: after a suspend no worker is to blame."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL)
            for worker in self._workers.values():
                worker.silence += 1
                if worker.silence > LONGEST_SILENCE:
                    self._context.log.error("a worker hangs, killing it", pid=worker.pid)
                    worker.kill()

    async def _watch_previous_workers(self) -> None:
        while self._poll_previous_workers():  # noqa: ASYNC110 - other processes report in files
            await asyncio.sleep(POLL_INTERVAL)

    def _poll_previous_workers(self) -> bool:
        """Apply the open connections of previous workers; return whether any of these workers still lives."""
        opened = self._previous.poll()
        for (app, port), pool in self._pools.items():
            counts = [each.backends for each in opened if (each.app, each.port) == (app, port)]
            self._apply(pool, pool.previous_workers_have(counts, time.time()))
        return bool(opened)

    async def _supervise(self, index: int) -> None:
        """Restart a worker whenever it ends; at once, unless it ends right after its start."""
        loop = asyncio.get_running_loop()
        pause = 0.0
        while not self._stopping.is_set():
            began = loop.time()
            reason = await self._run(index)
            if self._stopping.is_set():
                return
            pause = 0.0 if loop.time() - began > STABLE_AFTER else min(LONGEST_BACKOFF, 2 * pause or FIRST_BACKOFF)
            self._context.log.warning("worker ended, restarting it", worker=index, reason=reason, seconds=pause)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._stopping.wait()

    async def _run(self, index: int) -> str:
        """Run a worker until it ends; return why it ended."""
        listening = [
            Listening(each.binding.app, each.binding.port, each.fds[index], each.is_shared) for each in self._listeners
        ]
        fds = [each.fd for each in listening]
        try:
            worker = await WorkerProcess.launch(self._context.host, fds, self._on_message)
        except OSError as error:
            return f"cannot start: {error}"
        if self._stopping.is_set():
            worker.kill()
        self._begin(worker, index, listening)
        reason = await worker.ended()
        self._end(worker, reason)
        return reason

    def _begin(self, worker: WorkerProcess, index: int, listening: list[Listening]) -> None:
        self._workers[worker.instance] = worker
        started = ServiceStarted(time.time(), UNIT, VERSION, worker.pid, self._context.instance)
        self._relay(worker, subjects.NO_APP, [encode_event(started)])
        for pool in self._pools.values():
            pool.worker_started(worker.instance)
        limits = msgspec.structs.replace(self._limits, max_connections=self._share(index))
        sealer = worker.sealer
        head, folder = sealer.head, self._context.spool_folder
        identity = WorkerIdentity(sealer.host, sealer.instance, sealer.sequence, head, folder, worker.blackbox)
        worker.send(Start(limits, listening, [pool.order() for pool in self._pools.values()], identity))

    def _share(self, index: int) -> int:
        """Return a worker's share of --max-connections; 0: as many as its open files allow."""
        most = self._limits.max_connections
        return max(1, (most + index) // len(self._worker_tasks)) if most else 0

    def _end(self, worker: WorkerProcess, reason: str) -> None:
        del self._workers[worker.instance]
        for app, events in worker.unreported().items():
            self._relay(worker, app, events)
        worker.close()
        open_connections_file.delete(self._context.spool_folder, f"proxy-{worker.instance}")
        self._relay(worker, subjects.NO_APP, [encode_event(ServiceStopped(time.time(), reason))])
        for pool in self._pools.values():
            self._apply(pool, pool.worker_ended(worker.instance, time.time()))

    def _relay(self, worker: WorkerProcess, app: str, events: list[bytes]) -> None:
        payload = worker.sealer.seal(app, msgspec.Raw(joined(events)))
        message_id = f"{worker.instance}:{worker.sealer.sequence}"
        self._context.outbox.forward(SealedBatch(app, message_id, len(events), payload))

    def _forward(self, worker: WorkerProcess, order: ForwardBatch) -> None:
        worker.sealer.follow(order.sequence, order.batch.payload)
        worker.last_reported[order.batch.app] = order.last
        self._context.outbox.forward(order.batch, partial(worker.send, BatchAck(order.sequence)))

    def _on_message(self, worker: WorkerProcess, message: Message) -> None:
        match message:
            case ForwardBatch():
                self._forward(worker, message)
            case RouteApplied():
                pool = self._pools[message.app, message.port]
                self._apply(pool, pool.worker_follows(worker.instance, message, time.time()))
            case DialFailure():
                pool = self._pools[message.app, message.port]
                self._apply(pool, pool.dial_failed(message, time.time()))
            case BackendRecovered():
                self._pools[message.app, message.port].answered(message.backend, message.admission)
            case Blocked():
                self._context.log.warning(
                    "this host keeps the proxy from dialing a backend: check its free ports, routes and firewall",
                    app=message.app,
                    backend=message.backend,
                    reason=message.reason,
                )

    def _apply(self, pool: Pool, effects: Effects) -> None:
        for event in effects.events:
            self._context.record(event, pool.app)
        for order in effects.orders:
            for worker in self._workers.values():
                worker.send(order)
        for retry in effects.retries:
            self._context.spawn(self._try_again(pool, retry), f"retry of {retry.backend}")
        serving = pool.serving()
        if serving:
            self._publisher.publish(serving)

    async def _try_again(self, pool: Pool, retry: Retry) -> None:
        """Dial an ejected backend once for all workers: clients go there when it has answered."""
        await asyncio.sleep(retry.delay)
        if pool.awaits(retry):
            outcome = await readmission.dial(retry.address, self._limits.connect_timeout)
            self._apply(pool, pool.tried(retry, outcome, time.time()))
