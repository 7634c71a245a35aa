"""A pulse: the signs of life that a service gives its supervisor through a pipe. When it stops, the service hangs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import MutableMapping

VARIABLE = "LONGSHORE_PULSE_FD"


class WatchdogPing:
    """The service's end."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take it out of the environment: it is not for our own children."""
        self._fd = int(environ.pop(VARIABLE, "-1"))
        if self._fd >= 0:
            os.set_blocking(self._fd, False)

    def beat(self) -> None:
        """Say that we live, if anybody wants to know."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):  # a supervisor that does not read knows already, or is gone
                os.write(self._fd, b".")


class WatchdogMonitor:
    """The supervisor's end, for one life of a service. Silence counts from the first beat: a start may take long."""

    def __init__(self) -> None:
        self._read, self.fd = os.pipe()
        os.set_blocking(self._read, False)
        self._silence = -1

    def launched(self) -> None:
        """The service has `fd` now."""
        os.close(self.fd)

    def missed_checks(self) -> int:
        """How often this was asked in a row without a beat in between."""
        if self._has_beaten():
            self._silence = 0
        elif self._silence >= 0:
            self._silence += 1
        return max(0, self._silence)

    def has_begun(self) -> bool:
        """Whether there was a beat at all."""
        if self._has_beaten():
            self._silence = 0
        return self._silence >= 0

    def close(self) -> None:
        os.close(self._read)

    def _has_beaten(self) -> bool:
        try:
            return bool(os.read(self._read, 4096))
        except BlockingIOError:
            return False
