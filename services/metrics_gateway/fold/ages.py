"""Which instances are older than a log that has lost its beginning: what they said first may have left it. Pure."""

from __future__ import annotations

import uuid

from schemas.codec import Batch


def may_have_left(batch: Batch, stored: float, began: float) -> bool:
    """Whether batches of its instance before this one may have left a log that now begins at `began`.

    `stored`: when this one was stored. Times are unix seconds; a `began` of 0: nothing has left the log.
    """
    ahead = max(0.0, batch.events[-1].time - stored) if batch.events else 0.0  # what is stored later proves the clock
    return is_older(batch.instance, began, ahead)


def is_older(instance: str, began: float, ahead: float = 0.0) -> bool:
    """Whether an instance may have begun before the log, its clock being so many seconds ahead.

    An id that tells no time is taken for an old one.
    """
    born = created(instance)
    return bool(began) and (born is None or born - ahead < began)


def created(instance: str) -> float | None:
    """When an instance began, by its id (a UUIDv7) and its own clock, in unix seconds; None for any other text."""
    try:
        value = uuid.UUID(instance)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == 7 else None
