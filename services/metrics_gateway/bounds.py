"""Durations that no event can mean: sums that they were added to could not be shown or pushed any more. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec

from schemas import events as e
from services.metrics_gateway.histogram import LARGEST
from services.metrics_gateway.place import Place

Handler: TypeAlias = Callable[[Place, Any], None]

CLOCKS = ("time", "sent")
"""What a clock said, which may be set to anything: what comes of it is bounded where it is shown."""

FREQUENT = (e.ConnectionAccepted, e.ConnectionEstablished, e.ConnectionProgressed, e.ConnectionClosed)
"""Their handlers look for themselves: they run for every connection."""


def checked(kind: type[e.Event], handler: Handler) -> Handler:
    """The handler, which then raises ValueError, and changes nothing, for an event with an impossible duration."""
    if kind in FREQUENT:
        return handler
    names = [field.name for field in msgspec.structs.fields(kind) if field.type is float and field.name not in CLOCKS]

    def check(place: Place, event: Any) -> None:
        for name in names:
            if not -LARGEST < getattr(event, name) < LARGEST:
                raise ValueError(name)
        handler(place, event)

    return check
