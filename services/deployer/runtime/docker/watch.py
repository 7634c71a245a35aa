"""The watch on containers: the engine's events say which one to inspect, and the inspection says what is true."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from schemas.events import UNSEEN
from services.common import log
from services.common.errors import EngineError
from services.deployer.runtime.docker import state as states
from services.deployer.runtime.docker.arguments import LABELS
from services.deployer.runtime.docker.containers import GRACE, Containers
from services.deployer.runtime.docker.engine import Engine
from services.deployer.runtime.docker.listen_probe import Place
from services.deployer.runtime.docker.output.outputs import ContainerOutputs
from services.deployer.runtime.docker.state import State
from services.deployer.runtime.protocol import Exit, Usage
from services.deployer.runtime.replica_dir import ReplicaDirectory

SILENCE = 60.0
"""Seconds without an event until the stream is opened again: a connection that hangs looks like a quiet engine."""
RETRY = 0.5
GARBAGE = (LookupError, TypeError, ValueError, AttributeError)
"""Errors that an answer causes that does not follow the engine's API."""
SAMPLED = 5
"""Containers whose statistics are read at a time: half of the threads and connections stay for the rollout.

Docker 20.10 may take a second for an answer."""
OUTPUT_TIMEOUT = 5.0
"""Seconds for the last lines of a container that ended; they come within milliseconds, unless the engine is busy."""


class _Actor(msgspec.Struct, rename={"attributes": "Attributes"}):
    attributes: dict[str, str] = {}


class _Event(msgspec.Struct, rename={"action": "Action", "actor": "Actor"}):
    """The part of an engine's event that we use."""

    action: str = ""
    actor: _Actor = msgspec.field(default_factory=_Actor)


class Watched(msgspec.Struct):
    """A container, and its last known state.

    `is_down`: its end was reported, and the engine is about to start it again. `place`: where it is probed, None if
    only health probes it; `silence`: why it does not answer there. `is_asked`: a signal from outside Longshore asked it
    to end. `over_since`: when it was first seen to have ended after that, on the loop's clock.
    """

    folder: ReplicaDirectory
    state: State
    is_stopping: bool = False
    is_draining: bool = False
    is_down: bool = False
    place: Place | None = None
    silence: str = ""
    is_asked: bool = False
    over_since: float | None = None

    @property
    def is_leaving(self) -> bool:
        """It ends because of us."""
        return self.is_stopping or self.is_draining

    @property
    def id(self) -> str:
        """The replica's id, which is the container's name."""
        return self.folder.path.name


class Watch:
    """The watch on all containers of a runtime.

    Each container has one inspection at a time, so that they never overtake each other, and none waits for that of
    another container: an engine may not answer for one that is stuck.
    """

    def __init__(
        self,
        engine: Engine,
        containers: Containers,
        labels: Mapping[str, str],
        ended: Callable[[Exit], None],
        restarted: Callable[[str, Mapping[str, Any]], None],
        changed: Callable[[], None],
        reopened: Callable[[], object],
        outputs: ContainerOutputs,
    ) -> None:
        self.watched: dict[str, Watched] = {}
        self._engine = engine
        self._containers = containers
        self._labels = dict(labels)
        self._ended = ended
        self._restarted = restarted
        self._changed = changed
        self._reopened = reopened
        self._outputs = outputs
        self._hints: asyncio.Queue[str] = asyncio.Queue()
        self._due: set[str] = set()
        self._looking: set[str] = set()
        self._codes: dict[str, int] = {}
        self._oom: set[str] = set()
        self._log = log.get("deployer")

    def add(self, watched: Watched) -> None:
        """Watch a container from now on. Changes since its state was read are seen at once."""
        self.watched[watched.id] = watched
        self.look(watched.id)

    def look(self, replica: str) -> None:
        """Have a container inspected soon."""
        self._hints.put_nowait(replica)

    async def usage(self) -> dict[str, Usage]:
        """Return the resources of the containers that run. One that the engine does not describe now has none."""
        at_a_time = asyncio.Semaphore(SAMPLED)

        async def read(name: str) -> Usage | None:
            async with at_a_time:
                try:
                    return states.usage(await self._containers.stats(name), self.watched[name].state)
                except (EngineError, *GARBAGE):  # it is just being removed, or the engine is away
                    return None

        names = [name for name, one in self.watched.items() if one.state.is_up]
        found = await asyncio.gather(*map(read, names))
        return {name: one for name, one in zip(names, found, strict=True) if one}

    async def follow(self) -> None:
        """Read the engine's events until cancelled. After each gap, inspect all containers."""
        is_away = False
        while True:
            try:
                stream = await self._engine.events(self._labels, SILENCE)
            except EngineError as error:
                if not is_away:
                    self._log.error("the container engine is away, running containers stay", reason=str(error))
                is_away = True
            else:
                if is_away:
                    self._log.info("the container engine answers again")
                is_away = False
                self._reopened()
                for replica in self.watched:
                    self.look(replica)
                try:
                    async for event in stream.objects():
                        self._note(event)
                finally:
                    await stream.close()
            await asyncio.sleep(RETRY)

    async def run(self) -> None:
        """Inspect the containers that may have changed, until cancelled; retry the inspections that fail."""
        async with asyncio.TaskGroup() as looks:
            while True:
                replica = await self._hints.get()
                self._due.add(replica)
                if replica not in self._looking:
                    self._looking.add(replica)
                    looks.create_task(self._look_while_due(replica), name=f"look at {replica}")

    async def _look_while_due(self, replica: str) -> None:
        while replica in self._due:
            self._due.discard(replica)
            watched = self.watched.get(replica)
            try:
                if watched:
                    await self._look(watched)
            except (EngineError, *GARBAGE) as error:
                self._later(watched, str(error) if isinstance(error, EngineError) else f"unexpected {error!r}")
        self._looking.discard(replica)

    def _later(self, watched: Watched | None, reason: str) -> None:
        if watched and watched.id in self.watched:
            self._log.debug("cannot inspect a container, retrying", replica=watched.id, reason=reason)
            asyncio.get_running_loop().call_later(RETRY, self.look, watched.id)

    def _note(self, said: Mapping[str, Any]) -> None:
        try:
            event = msgspec.convert(said, _Event)
        except msgspec.ValidationError as error:
            self._log.warning("the engine sends something that is no event, ignored", reason=str(error))
            return
        attributes, action = event.actor.attributes, event.action
        replica = attributes.get("name", "")
        watched = self.watched.get(replica)
        if attributes.get(f"{LABELS}replica") != replica or action.startswith("exec_"):
            return
        if action == "die":
            self._codes[replica] = _code(attributes.get("exitCode", ""))
        elif action == "oom":
            self._oom.add(replica)
            self._log.error("out of memory", replica=replica)
        elif action == "destroy" and watched is None:
            self._codes.pop(replica, None)
            self._oom.discard(replica)
        elif (
            watched
            and action == "kill"
            and not watched.is_leaving
            and states.is_signal(attributes.get("signal", ""), watched.state.stop_signal)
        ):
            watched.is_asked = True
        self.look(replica)

    async def _look(self, watched: Watched) -> None:
        container = await self._containers.inspect(watched.id)
        now = states.read(container) if container else None
        before = watched.state
        if container is None or now is None or (now.is_over and not self._may_return(watched)):
            await self._end(watched, now)
            return
        watched.state = now
        if now.status == "restarting":
            await self._report_down(watched, now.code)
        elif now.is_up and (watched.is_down or now.started != before.started):
            await self._report_down(watched, self._codes.get(watched.id, UNSEEN))
            watched.is_down, watched.is_asked, watched.over_since = False, False, None
            self._oom.discard(watched.id)
            self._restarted(watched.id, container)
        if now != before:
            self._changed()

    def _may_return(self, watched: Watched) -> bool:
        """Return True if a container that was stopped by hand may be about to start again."""
        if watched.is_leaving or not watched.is_asked:
            return False
        loop = asyncio.get_running_loop()
        watched.over_since = loop.time() if watched.over_since is None else watched.over_since
        until = watched.over_since + GRACE
        if loop.time() >= until:
            return False
        loop.call_at(until, self.look, watched.id)
        return True

    async def _report_down(self, watched: Watched, code: int) -> None:
        if not watched.is_down:
            watched.is_down = True
            output = await _in_time(self._outputs.last_lines(watched.id))
            self._ended(Exit(watched.id, code, watched.id in self._oom, restarts=True, output=output))

    async def _end(self, watched: Watched, last: State | None) -> None:
        output = await _in_time(self._outputs.save(watched.folder)) if last else ""
        self.watched.pop(watched.id, None)
        code = last.code if last else self._codes.get(watched.id, UNSEEN)
        is_oom = watched.id in self._oom or (last is not None and last.oom)
        self._ended(Exit(watched.id, code, is_oom, output=output))


async def _in_time(reading: Awaitable[str]) -> str:
    """Return an output, nothing if it takes long: the exit of a container must be reported, whatever its log does."""
    try:
        async with asyncio.timeout(OUTPUT_TIMEOUT):
            return await reading
    except TimeoutError:
        return ""


def _code(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        return UNSEEN
