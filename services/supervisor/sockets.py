"""The listening sockets of a host, kept open while proxy processes are replaced."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from services.common import log
from services.common.process import ports
from services.proxy.sockets.activation import activated, hand
from services.proxy.sockets.listeners import Listener, complete, parse


class Sockets:
    """The present listeners, and the sockets that systemd opened."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._given: dict[int, socket.socket] = {}

    def take(self) -> None:
        """Take the sockets that systemd opened. Raises SettingsError for sockets that the proxy cannot use."""
        self._given = activated(os.environ, os.getpid())

    def open(self, listen: Sequence[str], workers: int) -> list[Listener]:
        """Return a listener for each of these: the present one, one on a socket from systemd, or a new one.

        Raises PortTakenError with nothing opened.
        """
        bindings = {listener.binding for listener in self.listeners}
        handed = hand(self._given, [item for item in listen if parse(item) not in bindings], workers)
        held = {binding.port for binding in bindings} | {listener.binding.port for listener in handed}
        try:
            for binding in map(parse, listen):
                if binding.port not in held:
                    ports.check_free("--port", binding.port, binding.address)
            return complete([*self.listeners, *handed], listen, workers)
        except BaseException:
            for listener in handed:
                listener.close()
            raise

    def change(self, listeners: list[Listener]) -> list[Listener]:
        """Listen on these from now on. Return those to close once a proxy has the others."""
        gone = [listener for listener in self.listeners if listener not in listeners]
        self.listeners = listeners
        for port in self._given.keys() - {listener.binding.port for listener in listeners}:
            log.get("supervisor").warning(
                "no application uses this port, but systemd opened its socket: clients that connect get no answer; "
                "remove its ListenStream from the socket unit",
                port=port,
            )
        return gone

    def close(self) -> None:
        """Close all sockets; those from systemd stay open there."""
        for listener in self.listeners:
            listener.close()
        for given in self._given.values():
            given.close()
