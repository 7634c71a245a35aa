"""The health service: it probes every replica of its host and reports whether it is healthy."""

from __future__ import annotations

import asyncio

import msgspec

from schemas import codec, subjects
from schemas.routing import Replica
from services.common.jetstream.watch import Change, Synced, watch_keys
from services.common.process import lifecycle
from services.common.process.lifecycle import Context
from services.health.monitor import Monitor
from services.health.probe import Prober
from services.health.settings import HealthSettings
from services.health.verdicts import Verdicts

CLOSE_TIMEOUT = 5.0


def run(settings: HealthSettings) -> None:
    """Run the service until SIGTERM or SIGINT. Raises LongshoreError when it cannot."""
    lifecycle.run("health", "health", settings, lambda context: serve(context, settings))


async def serve(context: Context, settings: HealthSettings) -> None:
    """Probe the replicas in the bucket until the context stops."""
    verdicts = Verdicts(context.bus)
    async with Prober(settings.concurrency) as prober:
        monitors = Monitors(context, prober, verdicts)
        context.spawn(verdicts.run(), "verdicts")
        following = context.spawn(_follow(context, monitors, verdicts), "replicas")
        await context.stopping.wait()
        following.cancel()
        await monitors.close()


async def _follow(context: Context, monitors: Monitors, verdicts: Verdicts) -> None:
    await verdicts.load(context.host)
    async for change in watch_keys(context.bus, subjects.REPLICAS, f"{subjects.token(context.host)}.>"):
        if isinstance(change, Synced):
            monitors.settle()
        else:
            monitors.apply(change)


class Monitors:
    """The monitors, one for each replica."""

    def __init__(self, context: Context, prober: Prober, verdicts: Verdicts) -> None:
        self._context = context
        self._prober = prober
        self._verdicts = verdicts
        self._monitors: dict[str, Monitor] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def apply(self, change: Change) -> None:
        """Start, restart or end the monitor of a replica, after a change in the bucket."""
        if change.value is None:
            self._end(change.key)
            return
        try:
            replica: Replica = codec.value(change.value, Replica)
        except msgspec.MsgspecError as error:
            self._context.log.warning("value is not a replica, ignored", key=change.key, reason=str(error))
            return
        if change.key != subjects.replica_key(self._context.host, replica.app, replica.id):
            self._context.log.warning(
                "value is of another replica than its key, ignored", key=change.key, app=replica.app, replica=replica.id
            )
            return
        self._begin(change.key, replica)

    def settle(self) -> None:
        """Delete the verdicts of replicas that are gone: all present ones are known."""
        self._verdicts.keep_only(self._monitors)

    async def close(self) -> None:
        """Stop all monitors; wait at most CLOSE_TIMEOUT seconds for their probes."""
        for monitor in self._monitors.values():
            monitor.stop()
        tasks = list(self._tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self, key: str, replica: Replica) -> None:
        current = self._monitors.get(key)
        if current and current.replica == replica:
            return
        if current and _process(current.replica) != _process(replica):
            self._end(key)
        elif current:
            current.stop()
        elif (known := self._verdicts.get(key)) and known.pid != replica.pid:
            self._verdicts.delete(key)
        context = self._context
        monitor = Monitor(key, replica, self._prober.probe, context.record, self._verdicts)
        self._monitors[key] = monitor
        task = context.spawn(monitor.run(), f"monitor {replica.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _end(self, key: str) -> None:
        monitor = self._monitors.pop(key, None)
        if monitor:
            monitor.stop()
        self._verdicts.delete(key)


def _process(replica: Replica) -> tuple[str, int, int]:
    """Return what identifies the process that a verdict is about."""
    return replica.host, replica.port, replica.pid
