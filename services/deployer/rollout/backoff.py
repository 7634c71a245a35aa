"""The wait of a slot before its next replica, when its replicas keep crashing. Pure."""

from __future__ import annotations

import msgspec

from services.common.backoff import delay

FIRST = 1.0
LONGEST = 60.0
"""Seconds: a crash loop costs one start a minute, and a fixed dependency is noticed within a minute."""
STABLE_AFTER = 60.0
"""Seconds of uptime after which a crash starts a new streak: as long as the longest wait."""


class _Streak(msgspec.Struct):
    crashes: int
    until: float


class Backoff:
    """The waits of all slots. The first crash costs nothing; each that soon follows doubles the wait."""

    def __init__(self) -> None:
        self._streaks: dict[int, _Streak] = {}

    @property
    def held(self) -> dict[int, float]:
        """The time until which each slot waits."""
        return {slot: streak.until for slot, streak in self._streaks.items()}

    def crashed(self, slot: int, uptime: float, now: float) -> float:
        """Count the crash of a replica that ran for `uptime` seconds. Return how many seconds the slot waits now."""
        streak = self._streaks.get(slot)
        crashes = streak.crashes + 1 if streak and uptime < STABLE_AFTER else 1
        wait = delay(FIRST, LONGEST, crashes - 1)
        self._streaks[slot] = _Streak(crashes, now + wait)
        return wait

    def clear(self) -> None:
        """Forget all crashes: another release runs now."""
        self._streaks.clear()
