"""The frontend of one port of an application: its backends, and the clients that wait for one."""

from __future__ import annotations

import os
import socket
from collections import OrderedDict
from collections.abc import Callable, Collection

from schemas.events import Event
from services.proxy.messages import ApplyRoute, BackendRecovered, Blocked, DialFailure, RouteApplied
from services.proxy.worker.balancer import Balancer, Dial, Session, Target
from services.proxy.worker.loop import Loop
from services.proxy.worker.relay.pending import PendingConnection
from services.proxy.worker.relay.port import Held
from services.proxy.worker.resources import Resources
from services.proxy.worker.timers import Timed

REPORT_INTERVAL = 0.05
RETRY_INTERVAL = 0.1
"""Seconds until one client dials a blocked backend again."""

BLOCKED_INTERVAL = 60.0
"""Seconds between two reports that the host blocks the dial of a backend: often enough for a log."""


class Frontend:
    """Applies the routes of a port, and finds a backend for each client."""

    def __init__(self, app: str, port: int, resources: Resources) -> None:
        self.slot: set[Timed] | None = None
        self.app = app
        self.port = port
        self.loop = resources.loop
        self.limits = resources.limits
        self.admission = resources.admission
        self.pipes = resources.pipes
        self._channel = resources.channel
        self._recorder = resources.recorder
        self._balancer = Balancer(resources.limits.balance)
        self._held: OrderedDict[Held, None] = OrderedDict()
        self._retry = _Retry(self.loop, self.retry)
        self._revision = 0

    def accept(self, client: socket.socket) -> None:
        """Take a client, and find it a backend."""
        pending = PendingConnection(self, self.admission.next_number(), client)
        self.admission.enter(pending)
        pending.start()

    def follow(self, order: ApplyRoute) -> None:
        """Use these backends from now on, and cut the connections to any other."""
        self._revision = order.revision
        gone, moved = self._balancer.follow(order.backends, order.ejected, order.admissions)
        cut = {target.id: sum(session.cut() for session in list(target.sessions)) for target in gone}
        for target in moved:
            for session in list(target.sessions):
                session.moved()
        self._report({backend: count for backend, count in cut.items() if count})
        self.serve_held()

    def eject(self, backend: str) -> None:
        """Skip a backend until it is readmitted."""
        self._balancer.eject(backend)

    def readmit(self, backend: str, admission: int) -> None:
        """Dial a backend again, for the held clients first."""
        self._balancer.readmit(backend, admission)
        self.serve_held()

    def pick(self, tried: Collection[tuple[str, int]]) -> Target | None:
        """Return the backend to dial next, None when each that is ready was `tried` in its present admission."""
        return self._balancer.pick(tried)

    def hold(self, session: Held) -> None:
        """Hold a client until another backend is ready; if only backends that it has tried are ready, for a moment."""
        self._held[session] = None
        if self._balancer.has_ready:
            self._retry.soon()

    def release(self, session: Held) -> None:
        """Hold a client no longer."""
        del self._held[session]

    def serve_held(self) -> None:
        """Dial again for the held clients, in the order in which they came."""
        for _ in range(len(self._held)):
            if self.admission.lacks_room or not self._balancer.has_ready:
                return
            next(iter(self._held)).dial_again()

    def retry(self) -> None:
        """Dial the backends again that the host blocked."""
        self._balancer.unblock()
        self.serve_held()

    def record(self, event: Event) -> None:
        """Record an event about the application."""
        self._recorder.record(self.app, event)

    def dial_failed(self, dial: Dial, reason: str) -> None:
        """Skip the backend here at once; the master ejects it from the other workers, and readmits it."""
        target = dial.target
        if dial.is_news and self._balancer.eject(target.id):
            self._channel.send(DialFailure(self.app, self.port, target.backend, reason, target.admission))

    def dial_blocked(self, dial: Dial, problem: int) -> None:
        """Skip the backend here for a moment: the host prevented the dial, perhaps for this worker alone."""
        target = dial.target
        self._balancer.block(target)
        self._retry.soon()
        if dial.began - target.blocked_at >= BLOCKED_INTERVAL:
            target.blocked_at = dial.began
            self._channel.send(Blocked(self.app, self.port, target.id, os.strerror(problem)))

    def answered(self, dial: Dial, now: float) -> None:
        """Note that a dial succeeded at `now`; report it if the backend was on probation."""
        target = dial.target
        if not dial.is_current:
            return
        target.answered_at = now
        if target.on_probation:
            target.on_probation = False
            self._channel.send(BackendRecovered(self.app, self.port, target.id, target.admission))

    def leave(self, target: Target, session: Session) -> None:
        """Note that a session has left its backend; the master waits for those of a draining one."""
        target.sessions.discard(session)
        if target.is_draining and self.slot is None:
            self.loop.set_timer(self, REPORT_INTERVAL)

    def open_connections(self) -> dict[str, int]:
        """Return the number of sessions of each backend with any."""
        targets = self._balancer.targets.values()
        return {target.id: len(target.sessions) for target in targets if target.sessions}

    def on_timer(self) -> None:
        """Report the sessions of draining backends."""
        self._report({})

    def _report(self, cut: dict[str, int]) -> None:
        draining = {
            target.id: len(target.sessions)
            for target in self._balancer.targets.values()
            if target.is_draining and target.sessions
        }
        self._channel.send(RouteApplied(self.app, self.port, self._revision, draining, cut))


class _Retry:
    """The timer after which a frontend dials again."""

    def __init__(self, loop: Loop, retry: Callable[[], None]) -> None:
        self.slot: set[Timed] | None = None
        self._loop = loop
        self._retry = retry

    def soon(self) -> None:
        """Dial again in a moment, unless that is planned already."""
        if self.slot is None:
            self._loop.set_timer(self, RETRY_INTERVAL)

    def on_timer(self) -> None:
        self._retry()
