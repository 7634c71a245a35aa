"""The backends of one port as the master sees them: pure decisions, told to the workers and to the bus by others."""

from __future__ import annotations

import msgspec

from schemas.events import BackendDrained, BackendEjected, BackendJoined, BackendLeft, Event
from schemas.routing import Backend, Route, Serving
from services.proxy.messages import Admit, Eject, Failed, Follow, Following

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0

Order = Follow | Eject | Admit


class Retry(msgspec.Struct, frozen=True):
    """Call `Pool.readmit` with this ejection in `delay` seconds."""

    backend: str
    ejection: int
    delay: float


class Steps(msgspec.Struct):
    """What follows from something that happened: events to record, orders to all workers, what to come back to."""

    events: list[Event] = []
    orders: list[Order] = []
    retries: list[Retry] = []


class _Member(msgspec.Struct):
    """A backend of the route. `ejection` is 0 unless it is skipped."""

    backend: Backend
    failures: int = 0
    ejection: int = 0

    @property
    def is_active(self) -> bool:
        return self.backend.state == "active"

    @property
    def address(self) -> tuple[str, int]:
        return self.backend.host, self.backend.port


class _Leaving(msgspec.Struct):
    """A backend that takes no new connections since `since`, which all workers know when they follow `revision`."""

    since: float
    revision: int
    cut: int = 0


class _Worker(msgspec.Struct):
    """What a worker said last. It follows revision -1 until it says anything."""

    revision: int = -1
    draining: dict[str, int] = {}


class Pool:
    """Each route that is followed is a revision of the pool. Times are unix seconds."""

    def __init__(self, app: str, port: int) -> None:
        self.app = app
        self.port = port
        self._route: Route | None = None
        self._members: dict[str, _Member] = {}
        self._leaving: dict[str, _Leaving] = {}
        self._workers: dict[str, _Worker] = {}
        self._former: list[dict[str, int] | None] = []
        self._revision = 0
        self._generations: dict[int, int] = {}
        self._served: int | None = None
        self._ejections = 0
        self._is_forgotten = False

    def follow(self, route: Route, now: float) -> Steps:
        """Follow a route, unless a newer one is followed already."""
        if self._route and not self._is_forgotten and route.generation < self._route.generation:
            return Steps()
        self._is_forgotten = False
        if route == self._route:
            return Steps()
        self._route = route
        self._revision += 1
        self._generations[self._revision] = route.generation
        steps = Steps()
        before, self._members = self._members, {}
        for backend in route.backends:
            self._members[backend.id] = self._update(before.pop(backend.id, None), backend, now, steps)
        for member in before.values():
            self._remove(member, now, steps)
        steps.orders.append(self.order())
        self._find_drained(now, steps)
        return steps

    def forget(self) -> None:
        """The route is gone from the bus: go on as before, and follow whatever comes next."""
        self._is_forgotten = True

    def order(self) -> Follow:
        """What a new worker is to follow."""
        ejected = [member.backend.id for member in self._members.values() if member.ejection]
        backends = [member.backend for member in self._members.values()]
        return Follow(self.app, self.port, self._revision, backends, ejected)

    def worker_started(self, worker: str) -> None:
        """A worker was given `order()`."""
        self._workers[worker] = _Worker()

    def worker_ended(self, worker: str, now: float) -> Steps:
        """A worker is gone, and with it its connections."""
        self._workers.pop(worker, None)
        return self._noticed(now)

    def worker_follows(self, worker: str, news: Following, now: float) -> Steps:
        """A worker follows a revision, or its connections to draining backends became fewer."""
        self._workers[worker] = _Worker(news.revision, news.draining)
        for backend, count in news.cut.items():
            if leaving := self._leaving.get(backend):
                leaving.cut += count
        return self._noticed(now)

    def former_have(self, former: list[dict[str, int] | None], now: float) -> Steps:
        """What workers of a former master still have open to each backend, which may be anything (None)."""
        if former == self._former:
            return Steps()
        self._former = former
        return self._noticed(now)

    def dial_failed(self, news: Failed, now: float) -> Steps:
        """Skip a backend in all workers, for longer each time until it answers."""
        member = self._members.get(news.backend.id)
        if member is None or not member.is_active or member.ejection or member.backend != news.backend:
            return Steps()
        self._ejections += 1
        member.ejection = self._ejections
        delay = min(LONGEST_BACKOFF, FIRST_BACKOFF * 2**member.failures)
        member.failures += 1
        return Steps(
            [BackendEjected(now, self.port, news.backend.id, news.reason)],
            [Eject(self.app, self.port, news.backend.id)],
            [Retry(news.backend.id, member.ejection, delay)],
        )

    def answered(self, backend: str) -> None:
        """A backend that was admitted again took a connection."""
        if member := self._members.get(backend):
            member.failures = 0

    def readmit(self, retry: Retry, now: float) -> Steps:
        """Try a backend again, unless it was reset or ejected anew in the meantime."""
        member = self._members.get(retry.backend)
        if member is None or member.ejection != retry.ejection:
            return Steps()
        member.ejection = 0
        return Steps([self._joined(member, now)], [Admit(self.app, self.port, retry.backend)])

    def serving(self) -> Serving | None:
        """What all workers follow; None as long as they follow nothing."""
        if self._served is None:
            return None
        draining = {
            backend: count
            for backend, member in self._members.items()
            if not member.is_active and (count := self._open_connections(backend))
        }
        return Serving(self.app, self.port, self._served, draining)

    def _update(self, member: _Member | None, backend: Backend, now: float, steps: Steps) -> _Member:
        fresh = _Member(backend)
        if fresh.is_active:
            self._leaving.pop(backend.id, None)
            if member is None or not member.is_active or member.address != fresh.address:
                steps.events.append(self._joined(fresh, now))
                return fresh
        elif member and member.is_active:
            self._leave(member, now, steps)
        return fresh if member is None else msgspec.structs.replace(member, backend=backend)

    def _remove(self, member: _Member, now: float, steps: Steps) -> None:
        if member.is_active:
            self._leave(member, now, steps)
        elif leaving := self._leaving.get(member.backend.id):
            leaving.revision = self._revision

    def _leave(self, member: _Member, now: float, steps: Steps) -> None:
        self._leaving[member.backend.id] = _Leaving(now, self._revision)
        steps.events.append(BackendLeft(now, self.port, member.backend.id))

    def _joined(self, member: _Member, now: float) -> BackendJoined:
        host, port = member.address
        return BackendJoined(now, self.port, member.backend.id, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    def _noticed(self, now: float) -> Steps:
        if self._workers:
            oldest = min(worker.revision for worker in self._workers.values())
            self._served = self._generations.get(oldest, self._served)
            self._generations = {key: value for key, value in self._generations.items() if key >= oldest}
        steps = Steps()
        self._find_drained(now, steps)
        return steps

    def _find_drained(self, now: float, steps: Steps) -> None:
        for backend, leaving in list(self._leaving.items()):
            is_known = all(worker.revision >= leaving.revision for worker in self._workers.values())
            if is_known and not self._open_connections(backend):
                del self._leaving[backend]
                waited = max(0.0, now - leaving.since)
                steps.events.append(BackendDrained(now, self.port, backend, leaving.cut, waited))

    def _open_connections(self, backend: str) -> int:
        known = sum(worker.draining.get(backend, 0) for worker in self._workers.values())
        return known + sum(1 if one is None else one.get(backend, 0) for one in self._former)
