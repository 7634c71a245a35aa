"""The watchdog: a service pings its supervisor through a pipe. When the pings stop, the service hangs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import MutableMapping

VARIABLE = "LONGSHORE_PULSE_FD"


class WatchdogPing:
    """The service's end of the pipe."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take the descriptor out of the environment: it is not for the service's own children."""
        self._fd = int(environ.pop(VARIABLE, "-1"))
        if self._fd >= 0:
            os.set_blocking(self._fd, False)

    def ping(self) -> None:
        """Ping the supervisor, if there is one."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # the pipe of a supervisor that does not read is full, or closed
                os.write(self._fd, b".")


class WatchdogMonitor:
    """The supervisor's end, for one run of a service. Checks count from the first ping: a start may take long."""

    def __init__(self) -> None:
        self._read, self.fd = os.pipe()
        os.set_blocking(self._read, False)
        self._silence = -1

    def launched(self) -> None:
        """Close the service's end here, after the launch."""
        os.close(self.fd)

    def missed_checks(self) -> int:
        """Check for a ping. Return the number of checks in a row without one."""
        if self._has_ping():
            self._silence = 0
        elif self._silence >= 0:
            self._silence += 1
        return max(0, self._silence)

    def has_pinged(self) -> bool:
        """Report whether there was a ping at all."""
        if self._has_ping():
            self._silence = 0
        return self._silence >= 0

    def close(self) -> None:
        os.close(self._read)

    def _has_ping(self) -> bool:
        try:
            return bool(os.read(self._read, 4096))
        except BlockingIOError:
            return False
