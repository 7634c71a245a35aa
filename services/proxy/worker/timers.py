"""Coarse timers: setting, clearing and firing cost the same with ten connections and with a hundred thousand."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from typing import Protocol

RESOLUTION = 0.01
"""Seconds: fine enough for a hold or a connect timeout, coarse enough that many timers share a slot."""

_FAR = 2.0
_COARSE = 63  # low bits of a far tick: set, they round it up, so that idle timeouts share few slots


class Timed(Protocol):
    """An object with one timer."""

    slot: set[Timed] | None

    def on_timer(self) -> None:
        """Act: the delay is over."""


class Timers:
    """Timers in slots of 10 ms, or of 0.64 s when they are more than 2 s away. Never early."""

    def __init__(self) -> None:
        self._slots: dict[int, set[Timed]] = {}
        self._ticks: list[int] = []

    def set(self, timed: Timed, now: float, delay: float) -> None:
        """Fire `timed` in `delay` seconds, instead of when it was set to fire before."""
        self.clear(timed)
        tick = math.ceil((now + delay) / RESOLUTION)
        if delay > _FAR:
            tick |= _COARSE
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = set()
            heapq.heappush(self._ticks, tick)
        slot.add(timed)
        timed.slot = slot

    def clear(self, timed: Timed) -> None:
        """Do not fire `timed`."""
        if timed.slot is not None:
            timed.slot.discard(timed)
            timed.slot = None

    def until_next(self, now: float) -> float | None:
        """Return the seconds until a timer may fire, None without timers."""
        return max(0.0, self._ticks[0] * RESOLUTION - now) if self._ticks else None

    def due(self, now: float) -> Iterator[Timed]:
        """Yield the objects whose timers fire now."""
        while self._ticks and self._ticks[0] * RESOLUTION <= now:
            slot = self._slots.pop(heapq.heappop(self._ticks))
            while slot:
                timed = slot.pop()
                timed.slot = None
                yield timed
