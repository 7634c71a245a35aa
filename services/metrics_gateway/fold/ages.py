"""The instances that are older than a log that has lost its beginning. Their first batches may have left it. Pure."""

from __future__ import annotations

import uuid

from schemas.codec import Batch


def may_have_left(batch: Batch, stored: float, began: float) -> bool:
    """Return whether earlier batches of the batch's instance may have left a log that now begins at `began`.

    `stored` is when the batch was stored. Times are unix seconds. A `began` of 0 says that nothing has left the log.
    """
    ahead = (
        max(0.0, batch.events[-1].time - stored) if batch.events else 0.0
    )  # an event cannot happen after it is stored: the clock is fast
    return is_older(batch.instance, began, ahead)


def is_older(instance: str, began: float, ahead: float = 0.0) -> bool:
    """Return whether an instance may have started before the log began; its clock is `ahead` seconds fast.

    An instance whose id has no time in it may be old.
    """
    started = created(instance)
    return bool(began) and (started is None or started - ahead < began)


def created(instance: str) -> float | None:
    """Return when an instance started, by its id (a UUIDv7) and its own clock, in unix seconds, or None."""
    try:
        value = uuid.UUID(instance)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == 7 else None
