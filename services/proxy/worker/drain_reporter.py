"""A worker that accepts no more: it says what it still has open, for the next master to wait for."""

from __future__ import annotations

from collections.abc import Collection

from services.proxy.crash.open_connections_file import Open, OpenConnectionsFile
from services.proxy.worker.frontend import Frontend
from services.proxy.worker.loop import Loop
from services.proxy.worker.timers import Timed

INTERVAL = 0.05


class DrainReporter:
    """Its file is there from the start: a master that starts while this one is busy knows of it."""

    def __init__(self, loop: Loop, frontends: Collection[Frontend], file: OpenConnectionsFile) -> None:
        self.slot: set[Timed] | None = None
        self._loop = loop
        self._frontends = frontends
        self._file = file
        file.write([Open(frontend.app, frontend.port) for frontend in frontends])

    def begin(self) -> None:
        """Somebody else accepts from now on."""
        self.on_timer()

    def on_timer(self) -> None:
        self._file.write([Open(each.app, each.port, each.open_connections()) for each in self._frontends])
        self._loop.set_timer(self, INTERVAL)

    def end(self) -> None:
        """Nothing is open any more."""
        self._file.remove()
