"""A worker's regular word that it is alive, and what it uses."""

from __future__ import annotations

import contextlib
import resource
import time
from pathlib import Path

from schemas import subjects
from schemas.events import ServiceHeartbeat
from services.proxy.worker.loop import Loop
from services.proxy.worker.recorder import Recorder
from services.proxy.worker.timers import Timed

INTERVAL = 5.0


class Heartbeat:
    """Records a ServiceHeartbeat every few seconds."""

    def __init__(self, loop: Loop, recorder: Recorder) -> None:
        self.slot: set[Timed] | None = None
        self._loop = loop
        self._recorder = recorder

    def start(self) -> None:
        self._loop.set_timer(self, INTERVAL)

    def on_timer(self) -> None:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        event = ServiceHeartbeat(
            time.time(),
            rss=_resident_bytes(),
            cpu=usage.ru_utime + usage.ru_stime,
            loop_lag=self._loop.take_longest_turn(),
        )
        self._recorder.record(subjects.NO_APP, event)
        self._loop.set_timer(self, INTERVAL)


def _resident_bytes() -> int:
    """Resident memory, 0 when there is no descriptor left to read it (proc(5), statm)."""
    with contextlib.suppress(OSError):
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    return 0
