"""Tell systemd that we are ready (sd_notify(3))."""

from __future__ import annotations

import os
import socket

from services.common import log


def notify(state: str) -> None:
    """Send a state such as "READY=1" to the service manager; nothing else happens when there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            manager.send(state.encode())
    except OSError as error:
        log.get("supervisor").warning("the service manager is not told", NOTIFY_SOCKET=address, reason=str(error))
