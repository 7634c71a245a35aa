"""The listening sockets of a host, held for the proxies that come and go."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from services.common import log
from services.common.process import ports
from services.proxy.sockets.activation import activated, hand
from services.proxy.sockets.listeners import Listener, complete, parse


class Sockets:
    """What is listened on now, and what was opened for us by somebody else (systemd)."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._given: dict[int, socket.socket] = {}

    def take(self) -> None:
        """Take the sockets that were opened for us. Raises SettingsError when they are none that we can use."""
        self._given = activated(os.environ, os.getpid())

    def open(self, listen: Sequence[str], workers: int) -> list[Listener]:
        """A listener for each of these: the present one, one of a socket that we were given, or a new one.

        Raises PortTakenError with nothing opened.
        """
        bindings = {listener.binding for listener in self.listeners}
        handed = hand(self._given, [item for item in listen if parse(item) not in bindings], workers)
        bindings |= {listener.binding for listener in handed}
        try:
            for binding in map(parse, listen):
                if binding not in bindings:
                    ports.check_free("--port", binding.port, binding.address)
            return complete([*self.listeners, *handed], listen, workers)
        except BaseException:
            for listener in handed:
                listener.close()
            raise

    def change(self, listeners: list[Listener]) -> list[Listener]:
        """Listen on these from now on. Returns those that are to be closed when a proxy has the others."""
        gone = [listener for listener in self.listeners if listener not in listeners]
        self.listeners = listeners
        for port in self._given.keys() - {listener.binding.port for listener in listeners}:
            log.get("supervisor").warning(
                "no application uses this port, but its socket was opened for us: clients that connect get no answer; "
                "remove its ListenStream from the socket unit",
                port=port,
            )
        return gone

    def close(self) -> None:
        """Close all of them; those that we were given go on listening where they come from."""
        for listener in self.listeners:
            listener.close()
        for given in self._given.values():
            given.close()
