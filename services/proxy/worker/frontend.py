"""One port of one application: its backends, and the clients that wait for one."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from schemas.events import Event
from services.proxy.messages import Answered, Failed, Follow, Following
from services.proxy.worker.arrival import Arrival
from services.proxy.worker.balancer import Balancer, Occupant, Target
from services.proxy.worker.timers import Timed

if TYPE_CHECKING:
    from services.proxy.worker.resources import Resources

REPORT_INTERVAL = 0.05


class Frontend:
    """Follows the routes of a port."""

    def __init__(self, app: str, port: int, resources: Resources) -> None:
        self.slot: set[Timed] | None = None
        self.app = app
        self.port = port
        self.resources = resources
        self.balancer = Balancer(resources.limits.balance)
        self.held: dict[Arrival, None] = {}
        self._revision = 0
        self._accepted = 0

    def welcome(self, client: socket.socket) -> None:
        """A client connected."""
        arrival = Arrival(self, self.resources.admission.next_number(), client)
        self.resources.admission.occupants.add(arrival)
        arrival.start()

    def follow(self, order: Follow) -> None:
        """Use these backends from now on, and cut the connections to others."""
        self._revision = order.revision
        gone = self.balancer.follow(order.backends, order.ejected)
        cut = {target.id: sum(occupant.cut() for occupant in list(target.occupants)) for target in gone}
        self._report({backend: count for backend, count in cut.items() if count})
        self.serve_held()

    def eject(self, backend: str) -> None:
        self.balancer.eject(backend)

    def admit(self, backend: str) -> None:
        self.balancer.admit(backend)
        self.serve_held()

    def serve_held(self) -> None:
        """Let those who wait try again, in the order in which they came."""
        for arrival in list(self.held):
            if self.resources.admission.is_paused or not self.balancer.has_ready:
                return
            arrival.dial_again()

    def record(self, event: Event) -> None:
        self.resources.recorder.record(self.app, event)

    def dial_failed(self, target: Target, reason: str) -> None:
        """Skip the backend at once, here; the master tells the other workers, and when to try again."""
        if self.balancer.eject(target.id):
            self.resources.channel.send(Failed(self.app, self.port, target.backend, reason))

    def answered(self, target: Target) -> None:
        """A dial succeeded."""
        if target.on_probation:
            target.on_probation = False
            self.resources.channel.send(Answered(self.app, self.port, target.id))

    def leave(self, target: Target, occupant: Occupant) -> None:
        """An occupant of this backend is gone; the master waits for those of a draining one."""
        target.occupants.discard(occupant)
        if target.is_draining and self.slot is None:
            self.resources.loop.set_timer(self, REPORT_INTERVAL)

    def occupied(self) -> dict[str, int]:
        """How many connections each backend has that has any."""
        targets = self.balancer.targets.values()
        return {target.id: len(target.occupants) for target in targets if target.occupants}

    def on_timer(self) -> None:
        self._report({})

    def _report(self, cut: dict[str, int]) -> None:
        draining = {
            target.id: len(target.occupants)
            for target in self.balancer.targets.values()
            if target.is_draining and target.occupants
        }
        self.resources.channel.send(Following(self.app, self.port, self._revision, draining, cut))
