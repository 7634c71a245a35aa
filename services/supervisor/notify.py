"""Notifications to systemd, such as readiness (sd_notify(3))."""

from __future__ import annotations

import os
import socket

from services.common import log


def notify(state: str) -> None:
    """Send a state such as "READY=1" to the service manager, if there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.connect(address.replace("@", "\0", 1) if address.startswith("@") else address)
            manager.send(state.encode())
    except OSError as error:
        log.get("supervisor").warning("cannot notify the service manager", NOTIFY_SOCKET=address, reason=str(error))
