"""Where the events of one batch belong: its instance, its app, its ports."""

from __future__ import annotations

from schemas.codec import Batch
from services.metrics_gateway.state import App, Instance, Listener, Port, State


class Place:
    """Made for each batch. `gapped`: a batch before this one was missing when it came, or it is that batch."""

    __slots__ = ("app", "gapped", "host", "instance", "ports", "sequence", "state")

    def __init__(self, state: State, instance: Instance, batch: Batch, gapped: bool) -> None:
        self.state = state
        self.instance = instance
        self.host = instance.host
        self.app = batch.app
        self.sequence = batch.sequence
        self.gapped = gapped
        self.ports: dict[int, tuple[Port, Listener]] = {}

    def port(self, number: int) -> tuple[Port, Listener]:
        """The totals of a port and this instance's share of it, also found in `ports` from now on."""
        totals = self.state.ports.get((self.host, self.app, number))
        if totals is None:
            totals = self.state.ports[self.host, self.app, number] = self.state.new(Port)
        listener = self.instance.listeners.setdefault((self.app, number), Listener())
        self.ports[number] = totals, listener
        return totals, listener

    def delivery(self) -> App:
        """The app of the batch."""
        app = self.state.apps.get((self.host, self.app))
        if app is None:
            app = self.state.apps[self.host, self.app] = self.state.new(App)
        return app

    def is_latest(self, *what: str) -> bool:
        """Whether no later batch of this instance, come earlier, has already spoken about this part of the app."""
        if not self.gapped:
            return True
        key = (self.app, *what)
        positions = self.instance.positions
        if positions.get(key, 0) > self.sequence:
            return False
        positions[key] = self.sequence
        return True
