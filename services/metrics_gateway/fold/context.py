"""The context of the events in one batch: its instance, its app, its ports."""

from __future__ import annotations

from schemas.codec import Batch
from services.metrics_gateway.state.application import App
from services.metrics_gateway.state.instance import Instance
from services.metrics_gateway.state.port import MANY, Backend, Listener, Port
from services.metrics_gateway.state.state import State


class BatchContext:
    """The context of one batch. `gapped`: an earlier batch was missing when this one came, or this one was missing."""

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
        """Return the totals of a port and this instance's share of it. Add them to `ports`."""
        totals = self.state.ports.get((self.host, self.app, number))
        if totals is None:
            totals = self.state.ports[self.host, self.app, number] = self.state.new(Port)
        listener = self.instance.listeners.setdefault((self.app, number), Listener())
        self.ports[number] = totals, listener
        return totals, listener

    def backend(self, port: int, name: str) -> Backend:
        """Return a backend of a port. Something happens with it now, so its `seen` is set."""
        known = (self.ports.get(port) or self.port(port))[0].backends
        backend = known.get(name)
        if backend is None:
            backend = known[name] = self.state.new(Backend)
            if len(known) > MANY:
                self.state.next_expiry = 0.0
        backend.seen = self.state.clock
        return backend

    def app_state(self, name: str = "") -> App:
        """Return the state of an app on the batch's host: of the batch's own app, or of the named one."""
        key = (self.host, name or self.app)
        app = self.state.apps.get(key)
        if app is None:
            app = self.state.apps[key] = self.state.new(App)
        return app

    def is_latest(self, *what: str) -> bool:
        """Return whether no later batch of this instance has already decided this part of the app."""
        return self.is_latest_of(self.app, *what)

    def is_latest_of(self, app: str, *what: str) -> bool:
        """Return the same as `is_latest`, for another app of the instance."""
        if not self.gapped:
            return True
        key = (app, *what)
        positions = self.instance.positions
        if positions.get(key, 0) > self.sequence:
            return False
        positions[key] = self.sequence
        return True
