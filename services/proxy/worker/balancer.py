"""Which backend takes the next connection."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple, Protocol

from schemas.routing import Backend
from services.proxy.messages import Balance


class Session(Protocol):
    """A client from its accept to its end."""

    def cut(self) -> bool:
        """Its backend is gone; returns whether that closed it."""

    def moved(self) -> None:
        """Its backend has another address."""

    def shut_down(self) -> None:
        """Its time is over, whatever it waits for."""


class Target:
    """A backend as this worker sees it, with those who dial it or are connected to it.

    `ejected`: it failed, and is skipped until the master admits it. `is_blocked`: this host does not let us dial it;
    it is skipped for a moment. `admission` changes whenever it is let in, by a route or after it was ejected.
    """

    __slots__ = (
        "address",
        "admission",
        "answered_at",
        "backend",
        "blocked_at",
        "ejected",
        "is_blocked",
        "on_probation",
        "sessions",
    )

    def __init__(self, backend: Backend, ejected: bool, admission: int) -> None:
        self.backend = backend
        self.address = (backend.host, backend.port)
        self.sessions: set[Session] = set()
        self.ejected = ejected
        self.is_blocked = False
        self.blocked_at = -math.inf
        self.admission = admission
        self.answered_at = -math.inf
        self.on_probation = False

    @property
    def id(self) -> str:
        return self.backend.id

    @property
    def is_draining(self) -> bool:
        return self.backend.state == "draining"

    @property
    def is_ready(self) -> bool:
        return self.backend.state == "active" and not self.ejected and not self.is_blocked

    def update(self, backend: Backend, admission: int) -> bool:
        """Follow a route; returns whether the address is new. That is a new beginning, and so is a new admission."""
        has_moved = (backend.host, backend.port) != self.address
        if has_moved or admission != self.admission:
            self.ejected = self.is_blocked = self.on_probation = False
        self.backend = backend
        self.address = (backend.host, backend.port)
        self.admission = admission
        return has_moved


class Dial(NamedTuple):
    """What a dial is the outcome of: an address, in one admission of its backend, from `began` on (monotonic)."""

    target: Target
    address: tuple[str, int]
    admission: int
    began: float

    @property
    def is_current(self) -> bool:
        """Whether its outcome says something about the backend as it is now."""
        return self.admission == self.target.admission and self.address == self.target.address

    @property
    def is_news(self) -> bool:
        """Whether its failure does: no dial that began later has been answered."""
        return self.is_current and self.target.answered_at <= self.began


class RouteChange(NamedTuple):
    """What a route changed: the targets that are gone, and those that have another address."""

    gone: list[Target]
    moved: list[Target]


class Balancer:
    """The targets of one port."""

    def __init__(self, policy: Balance) -> None:
        self.targets: dict[str, Target] = {}
        self._least = policy == "least-connections"
        self._ready: list[Target] = []
        self._turn = -1

    def follow(
        self, backends: Iterable[Backend], ejected: Collection[str], admissions: Mapping[str, int]
    ) -> RouteChange:
        """Replace the targets by these; returns what changed."""
        before, self.targets = self.targets, {}
        moved = []
        for backend in backends:
            admission = admissions.get(backend.id, 0)
            target = before.pop(backend.id, None) or Target(backend, backend.id in ejected, admission)
            if target.update(backend, admission):
                moved.append(target)
            self.targets[backend.id] = target
        self._refresh()
        return RouteChange(list(before.values()), moved)

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def pick(self, tried: Collection[tuple[str, int]]) -> Target | None:
        """The target of the next connection, None when there is none; not one `tried` in the same admission."""
        ready = self._ready
        if tried:
            ready = [target for target in ready if (target.id, target.admission) not in tried]
        if not ready:
            return None
        self._turn += 1
        first = self._turn % len(ready)
        return _least_connected(ready, first) if self._least else ready[first]

    def eject(self, backend: str) -> bool:
        """Skip a backend until it is admitted; returns whether that is new."""
        target = self.targets.get(backend)
        if target is None or target.ejected:
            return False
        target.ejected = True
        self._refresh()
        return True

    def admit(self, backend: str, admission: int) -> None:
        """Try a backend again."""
        target = self.targets.get(backend)
        if target is not None:
            target.ejected = False
            target.on_probation = True
            target.admission = admission
            self._refresh()

    def block(self, target: Target) -> None:
        """Skip a target until `unblock`."""
        target.is_blocked = True
        self._refresh()

    def unblock(self) -> None:
        """Try those again that this host kept us from."""
        for target in self.targets.values():
            target.is_blocked = False
        self._refresh()

    def _refresh(self) -> None:
        self._ready = [target for target in self.targets.values() if target.is_ready]


def _least_connected(ready: list[Target], first: int) -> Target:
    """Equally loaded targets take turns. One pass over the replicas of an application, which are few."""
    count = len(ready)
    return min((ready[(first + offset) % count] for offset in range(count)), key=lambda target: len(target.sessions))
