"""The pause before a registry is polled again. Pure: chance is an argument."""

from __future__ import annotations

JITTER = 0.1


def pause(interval: float, longest: float, failures: int, chance: float, retry_after: float | None = None) -> float:
    """Return the seconds until the next poll, after this many failures in a row. `chance`: a random number from 0 to 1.

    The first failure costs nothing, each further one doubles the interval, up to `longest`; all of it 10 % more or
    less, so that hosts do not poll in step. Never less than `retry_after`, which the registry asked for.
    """
    grown = interval * 2.0 ** min(max(failures - 1, 0), 60)
    jittered = min(grown, max(longest, interval)) * (1 + JITTER * (2 * chance - 1))
    return max(jittered, (retry_after or 0.0) * (1 + JITTER * chance))
