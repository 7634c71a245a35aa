"""The resources of a replica in the answer of /api/containers."""

from __future__ import annotations

import msgspec

from services.metrics_gateway.state.usage import Usage


class Resources(msgspec.Struct, frozen=True):
    """The resources of a replica, as last sampled: CPU seconds, and bytes. None where there is no limit, or no value.

    `restarts`: how often its engine started it again.
    """

    cpu: float
    memory: int | None
    memory_limit: int | None
    received: int | None
    sent: int | None
    restarts: int


def resources(usage: Usage | None) -> Resources | None:
    """Return the resources of a replica, None before its first sample."""
    if usage is None:
        return None
    received, sent = (usage.received, usage.sent) if usage.networked else (None, None)
    return Resources(usage.cpu / 1e9, usage.memory, usage.memory_limit, received, sent, usage.restarts)
