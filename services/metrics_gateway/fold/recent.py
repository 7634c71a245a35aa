"""The recent events of the state, folded."""

from __future__ import annotations

from schemas import events as e
from services.metrics_gateway.fold.context import BatchContext
from services.metrics_gateway.state.state import RECENT_KEPT, Recent

DETAILS: frozenset[type[e.Event]] = frozenset(
    {
        e.ServiceHeartbeat,
        e.ConnectionAccepted,
        e.ConnectionEstablished,
        e.ConnectionProgressed,
        e.ConnectionClosed,
        e.ConnectionRefused,
        e.ConnectionTraced,
        e.DialFailed,
        e.BackendJoined,
        e.BackendLeft,
        e.HealthChecked,
        e.ReplicasSampled,
    }
)
"""Kinds of events that come with every connection and probe, or from every worker: far too many to be kept."""


def keep_recent(context: BatchContext, event: e.AnyEvent) -> None:
    """Add an event to the recent ones. Drop the older half when there are twice as many as needed."""
    state = context.state
    state.recent.append(Recent(state.position, context.instance.service, context.host, context.app, event))
    if len(state.recent) > 2 * RECENT_KEPT:
        del state.recent[:-RECENT_KEPT]
