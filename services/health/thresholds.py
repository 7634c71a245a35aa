"""The thresholds: when probes become a verdict, and when the next one is due. Pure: no clock, no I/O."""

from __future__ import annotations

import msgspec

from schemas.routing import Check

STARTING_INTERVAL = 0.25
SHORTEST_INTERVAL = 0.05
JITTER = 0.1


class Tally(msgspec.Struct, frozen=True):
    """The result of the probes of a replica so far.

    `verdict` is None until the first one. `proven`: the replica was healthy before; only then do failures count,
    because a replica that still starts is not unhealthy. `streak`: passes in a row, or below zero failures in a row.
    """

    verdict: bool | None = None
    proven: bool = False
    streak: int = 0


def observe(tally: Tally, passed: bool, check: Check) -> Tally:
    """Return the tally after one more probe: `rise` passes in a row are healthy, `fall` failures in a row unhealthy."""
    streak = max(tally.streak, 0) + 1 if passed else min(tally.streak, 0) - 1
    verdict = _verdict(tally, streak, check)
    return Tally(verdict, tally.proven or verdict is True, streak)


def pause(tally: Tally, check: Check, chance: float) -> float:
    """Return the seconds from the start of one probe to the start of the next. `chance`: evenly random from 0 to 1.

    It is the interval, 10 % more or less so that probes spread out; shorter while a replica starts.
    """
    interval = check.interval if tally.proven else min(check.interval, STARTING_INTERVAL)
    return max(interval, SHORTEST_INTERVAL) * (1 - JITTER + 2 * JITTER * chance)


def _verdict(tally: Tally, streak: int, check: Check) -> bool | None:
    if streak > 0:
        return True if streak >= check.rise else tally.verdict
    if tally.proven and -streak >= check.fall:
        return False
    return tally.verdict
