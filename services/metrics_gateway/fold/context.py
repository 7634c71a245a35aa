"""Where the events of one batch belong: its instance, its app, its ports."""

from __future__ import annotations

from schemas.codec import Batch
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.instance import Instance
from services.metrics_gateway.state.port import MANY, Backend, Listener, Port
from services.metrics_gateway.state.state import State


class BatchContext:
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

    def backend(self, port: int, name: str) -> Backend:
        """A backend of a port, with which something happens now."""
        known = (self.ports.get(port) or self.port(port))[0].backends
        backend = known.get(name)
        if backend is None:
            backend = known[name] = self.state.new(Backend)
            if len(known) > MANY:
                self.state.next_expiry = 0.0
        backend.seen = self.state.clock
        return backend

    def app_state(self, name: str = "") -> App:
        """An app on the batch's host: its own, or the one of this name."""
        key = (self.host, name or self.app)
        app = self.state.apps.get(key)
        if app is None:
            app = self.state.apps[key] = self.state.new(App)
        return app

    def is_latest(self, *what: str) -> bool:
        """Whether no later batch of this instance, come earlier, has already spoken about this part of the app."""
        return self.is_latest_of(self.app, *what)

    def is_latest_of(self, app: str, *what: str) -> bool:
        """The same for another app of the instance."""
        if not self.gapped:
            return True
        key = (app, *what)
        positions = self.instance.positions
        if positions.get(key, 0) > self.sequence:
            return False
        positions[key] = self.sequence
        return True
