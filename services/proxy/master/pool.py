"""The backends of one port as the master sees them: pure decisions, which the master carries out."""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.events import BackendDrained, BackendEjected, BackendJoined, BackendLeft, Event
from schemas.routing import Backend, Route, Serving, authority
from services.common.backoff import delay
from services.proxy.messages import ApplyRoute, DialFailure, Eject, Readmit, RouteApplied

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0

Order = ApplyRoute | Eject | Readmit


Outcome = Literal["answered", "failed", "blocked"]
"""The outcome of a readmission dial; "blocked": this host could not even dial, which says nothing about the backend."""


class Retry(msgspec.Struct, frozen=True):
    """A request to dial an ejected backend in `delay` seconds, if `Pool.awaits` it then, and to call `Pool.tried`."""

    backend: str
    address: tuple[str, int]
    admission: int
    delay: float


class Effects(msgspec.Struct):
    """The effects of a decision: events to record, orders to all workers, dials to retry."""

    events: list[Event] = []
    orders: list[Order] = []
    retries: list[Retry] = []


class _Member(msgspec.Struct):
    """A backend of the route. `admission`: a new number whenever it is let in. `failures`: failed dials in a row."""

    backend: Backend
    admission: int
    failures: int = 0
    is_ejected: bool = False

    @property
    def is_active(self) -> bool:
        return self.backend.state == "active"

    @property
    def address(self) -> tuple[str, int]:
        return self.backend.host, self.backend.port


class _Leaving(msgspec.Struct):
    """A backend without new connections since `since`; all workers that have applied `revision` know that."""

    since: float
    revision: int
    cut: int = 0


class _Worker(msgspec.Struct):
    """The last report of a worker; revision -1 until the first one."""

    revision: int = -1
    draining: dict[str, int] = {}


class Pool:
    """The backends of a port. Each applied route is a revision of the pool. Times are unix seconds."""

    def __init__(self, app: str, port: int) -> None:
        self.app = app
        self.port = port
        self._route: Route | None = None
        self._members: dict[str, _Member] = {}
        self._leaving: dict[str, _Leaving] = {}
        self._workers: dict[str, _Worker] = {}
        self._previous: list[dict[str, int] | None] = []
        self._revision = 0
        self._generations: dict[int, int] = {}
        self._served: int | None = None
        self._admissions = 0
        self._is_forgotten = False

    def follow(self, route: Route, now: float) -> Effects:
        """Apply a route, unless a newer one is applied already."""
        if self._route and not self._is_forgotten and route.generation < self._route.generation:
            return Effects()
        self._is_forgotten = False
        if route == self._route:
            return Effects()
        self._route = route
        self._revision += 1
        self._generations[self._revision] = route.generation
        effects = Effects()
        before, self._members = self._members, {}
        for backend in route.backends:
            self._members[backend.id] = self._update(before.pop(backend.id, None), backend, now, effects)
        for member in before.values():
            self._remove(member, now, effects)
        effects.orders.append(self.order())
        self._find_drained(now, effects)
        return effects

    def forget(self) -> None:
        """Keep the backends of a route that is gone from the bus, and accept any next route."""
        self._is_forgotten = True

    def order(self) -> ApplyRoute:
        """Return the order that a new worker gets."""
        ejected = [backend for backend, member in self._members.items() if member.is_ejected]
        backends = [member.backend for member in self._members.values()]
        admissions = {backend: member.admission for backend, member in self._members.items()}
        return ApplyRoute(self.app, self.port, self._revision, backends, ejected, admissions)

    def worker_started(self, worker: str) -> None:
        """Note that a worker was sent `order()`."""
        self._workers[worker] = _Worker()

    def worker_ended(self, worker: str, now: float) -> Effects:
        """Note that a worker is gone, and its connections with it."""
        self._workers.pop(worker, None)
        return self._noticed(now)

    def worker_follows(self, worker: str, news: RouteApplied, now: float) -> Effects:
        """Note that a worker applied a revision, or that its connections to draining backends became fewer."""
        self._workers[worker] = _Worker(news.revision, news.draining)
        for backend, count in news.cut.items():
            if leaving := self._leaving.get(backend):
                leaving.cut += count
        return self._noticed(now)

    def previous_workers_have(self, previous: list[dict[str, int] | None], now: float) -> Effects:
        """Note the open connections of a previous master's workers to each backend; None: not counted yet."""
        if previous == self._previous:
            return Effects()
        self._previous = previous
        return self._noticed(now)

    def dial_failed(self, news: DialFailure, now: float) -> Effects:
        """Eject a backend from all workers, for longer each time until it answers.

        A dial of an earlier admission may have gone to another address: it says nothing about the present one.
        """
        member = self._members.get(news.backend.id)
        if member is None or not member.is_active or member.is_ejected or member.admission != news.admission:
            return Effects()
        member.is_ejected = True
        return Effects(
            [BackendEjected(now, self.port, news.backend.id, news.reason)],
            [Eject(self.app, self.port, news.backend.id)],
            [_later(member)],
        )

    def answered(self, backend: str, admission: int) -> None:
        """Note that a readmitted backend took a connection: its next back-off is the shortest again."""
        member = self._members.get(backend)
        if member and member.admission == admission:
            member.failures = 0

    def awaits(self, retry: Retry) -> bool:
        """Return whether a backend is still ejected as it was: no route has reset it in the meantime."""
        member = self._members.get(retry.backend)
        return member is not None and member.is_active and member.is_ejected and member.admission == retry.admission

    def tried(self, retry: Retry, outcome: Outcome, now: float) -> Effects:
        """Readmit a backend that answered; retry any other later."""
        if not self.awaits(retry):
            return Effects()
        member = self._members[retry.backend]
        if outcome == "blocked":
            return Effects(retries=[msgspec.structs.replace(retry, delay=FIRST_BACKOFF)])
        if outcome == "failed":
            return Effects(retries=[_later(member)])
        member.is_ejected = False
        member.admission = self._next_admission()
        order = Readmit(self.app, self.port, retry.backend, member.admission)
        return Effects([self._joined(member, now)], [order])

    def serving(self) -> Serving | None:
        """Return the generation that all workers have applied, and the draining connections; None before the first."""
        if self._served is None:
            return None
        draining = {
            backend: count
            for backend, member in self._members.items()
            if not member.is_active and (count := self._open_connections(backend))
        }
        return Serving(self.app, self.port, self._served, draining)

    def _update(self, member: _Member | None, backend: Backend, now: float, effects: Effects) -> _Member:
        fresh = _Member(backend, self._next_admission())
        is_same = member is not None and member.address == fresh.address
        if fresh.is_active:
            self._leaving.pop(backend.id, None)
            if member is None or not member.is_active or not is_same:
                effects.events.append(self._joined(fresh, now))
                return fresh
        elif member and member.is_active:
            self._leave(member, now, effects)
        return msgspec.structs.replace(member, backend=backend) if member and is_same else fresh

    def _next_admission(self) -> int:
        self._admissions += 1
        return self._admissions

    def _remove(self, member: _Member, now: float, effects: Effects) -> None:
        if member.is_active:
            self._leave(member, now, effects)
        elif leaving := self._leaving.get(member.backend.id):
            leaving.revision = self._revision

    def _leave(self, member: _Member, now: float, effects: Effects) -> None:
        self._leaving[member.backend.id] = _Leaving(now, self._revision)
        effects.events.append(BackendLeft(now, self.port, member.backend.id))

    def _joined(self, member: _Member, now: float) -> BackendJoined:
        return BackendJoined(now, self.port, member.backend.id, authority(*member.address))

    def _noticed(self, now: float) -> Effects:
        if self._workers:
            oldest = min(worker.revision for worker in self._workers.values())
            self._served = self._generations.get(oldest, self._served)
            self._generations = {key: value for key, value in self._generations.items() if key >= oldest}
        effects = Effects()
        self._find_drained(now, effects)
        return effects

    def _find_drained(self, now: float, effects: Effects) -> None:
        for backend, leaving in list(self._leaving.items()):
            is_known = all(worker.revision >= leaving.revision for worker in self._workers.values())
            if is_known and not self._open_connections(backend):
                del self._leaving[backend]
                waited = max(0.0, now - leaving.since)
                effects.events.append(BackendDrained(now, self.port, backend, leaving.cut, waited))

    def _open_connections(self, backend: str) -> int:
        known = sum(worker.draining.get(backend, 0) for worker in self._workers.values())
        return known + sum(1 if one is None else one.get(backend, 0) for one in self._previous)


def _later(member: _Member) -> Retry:
    """Return the next retry of a backend that failed once more; each failure doubles the delay."""
    member.failures += 1
    seconds = delay(FIRST_BACKOFF, LONGEST_BACKOFF, member.failures)
    return Retry(member.backend.id, member.address, member.admission, seconds)
