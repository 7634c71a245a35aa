"""The drain reporter: it writes the open connections of a draining worker to a file, for the next master."""

from __future__ import annotations

from collections.abc import Collection

from services.proxy.crash.open_connections_file import Open, OpenConnectionsFile
from services.proxy.worker.frontend import Frontend
from services.proxy.worker.loop import Loop
from services.proxy.worker.timers import Timed

INTERVAL = 0.05


class DrainReporter:
    """Writes the open connections. The file exists from the start: a master that starts meanwhile finds it."""

    def __init__(self, loop: Loop, frontends: Collection[Frontend], file: OpenConnectionsFile) -> None:
        self.slot: set[Timed] | None = None
        self._loop = loop
        self._frontends = frontends
        self._file = file
        file.write([Open(frontend.app, frontend.port) for frontend in frontends])

    def begin(self) -> None:
        """Report the open connections from now on."""
        self.on_timer()

    def on_timer(self) -> None:
        """Report, and plan the next report."""
        self._file.write([Open(each.app, each.port, each.open_connections()) for each in self._frontends])
        self._loop.set_timer(self, INTERVAL)

    def end(self) -> None:
        """Remove the file: no connection is open any more."""
        self._file.remove()
