"""Time travel for tests: the state of the gateway after any event of a recorded log.

`TimeTravel` opens a log file; the fixture `time_travel`, which pytest finds by itself, returns one for a path.
"""

from __future__ import annotations

from services.replay.testing import ReplayPoint, TimeTravel

__all__ = ["ReplayPoint", "TimeTravel"]
