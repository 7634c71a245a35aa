"""Which backend takes the next connection."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Protocol

from schemas.routing import Backend
from services.proxy.messages import Balance


class Occupant(Protocol):
    """A client from its accept to its end."""

    def cut(self) -> bool:
        """Its backend is gone. Whether that closed it."""

    def shut_down(self) -> None:
        """Its time is over, whatever it waits for."""


class Target:
    """A backend as this worker sees it, with those who dial it or are connected to it."""

    __slots__ = ("address", "backend", "ejected", "occupants", "on_probation")

    def __init__(self, backend: Backend, ejected: bool) -> None:
        self.occupants: set[Occupant] = set()
        self.ejected = ejected
        self._set(backend)

    @property
    def id(self) -> str:
        return self.backend.id

    @property
    def is_draining(self) -> bool:
        return self.backend.state == "draining"

    @property
    def is_ready(self) -> bool:
        return self.backend.state == "active" and not self.ejected

    def update(self, backend: Backend) -> None:
        """Follow a route. A new address, or a return from draining, is a new beginning."""
        is_new = (backend.host, backend.port) != (self.backend.host, self.backend.port)
        if is_new or (self.is_draining and backend.state == "active"):
            self.ejected = False
        self._set(backend)

    def _set(self, backend: Backend) -> None:
        self.backend = backend
        self.address = (backend.host, backend.port)
        self.on_probation = False


class Balancer:
    """The targets of one port."""

    def __init__(self, policy: Balance) -> None:
        self.targets: dict[str, Target] = {}
        self._least = policy == "least-connections"
        self._ready: list[Target] = []
        self._turn = -1

    def follow(self, backends: Iterable[Backend], ejected: Collection[str]) -> list[Target]:
        """Replace the targets by these; returns those that are gone."""
        before = self.targets
        self.targets = {}
        for backend in backends:
            target = before.pop(backend.id, None) or Target(backend, backend.id in ejected)
            target.update(backend)
            self.targets[backend.id] = target
        self._refresh()
        return list(before.values())

    @property
    def has_ready(self) -> bool:
        return bool(self._ready)

    def pick(self, tried: Collection[str]) -> Target | None:
        """The target of the next connection that has not been tried, None when there is none."""
        ready = [target for target in self._ready if target.id not in tried] if tried else self._ready
        if not ready:
            return None
        self._turn += 1
        first = self._turn % len(ready)
        return _least_connected(ready, first) if self._least else ready[first]

    def eject(self, backend: str) -> bool:
        """Skip a backend until it is admitted; whether that is new."""
        target = self.targets.get(backend)
        if target is None or target.ejected:
            return False
        target.ejected = True
        self._refresh()
        return True

    def admit(self, backend: str) -> None:
        """Try a backend again."""
        target = self.targets.get(backend)
        if target is not None:
            target.ejected = False
            target.on_probation = True
            self._refresh()

    def _refresh(self) -> None:
        self._ready = [target for target in self.targets.values() if target.is_ready]


def _least_connected(ready: list[Target], first: int) -> Target:
    """Equally loaded targets take turns."""
    return min(ready[first:] + ready[:first], key=lambda target: len(target.occupants))
