"""Warnings about a log with problems: one line when a problem begins, then at most one a minute."""

from __future__ import annotations

import time

from structlog.typing import FilteringBoundLogger

from services.metrics_gateway.state.state import State

INTERVAL = 60.0

WARNINGS = {
    "undecodable": "messages of the log are not batches of events: skipped",
    "unknown": "events of the log are of kinds that this version does not know: skipped",
    "malformed": "events of the log have impossible values: skipped",
    "misfits": "batches of the log name another service, host or application than their subject: "
    "skipped; check which service uses which account",
    "chain_breaks": "batches of the log do not fit their neighbours: it was altered, see `longshore verify`",
    "messages_lost": "messages left the log before this gateway read them: numbers are too low; keep more of it with "
    "--max-age or --max-bytes",
}


class LogHealth:
    """Compares the counts of the state with those that were reported."""

    def __init__(self, logger: FilteringBoundLogger) -> None:
        self._log = logger
        self._reported: dict[str, int] = {}
        self._reported_at: dict[str, float] = {}

    def start(self, state: State) -> None:
        """Take the present counts as reported."""
        self._reported = {kind: getattr(state, kind) for kind in WARNINGS}

    def report(self, state: State) -> None:
        """Log the counts that have grown."""
        for kind, text in WARNINGS.items():
            count = getattr(state, kind)
            if count > self._reported.get(kind, 0) and self._is_due(kind):
                self._log.warning(text, count=count - self._reported.get(kind, 0), up_to=state.position)
                self._reported[kind] = count

    def _is_due(self, kind: str) -> bool:
        now = time.monotonic()
        if now - self._reported_at.get(kind, -INTERVAL) < INTERVAL:
            return False
        self._reported_at[kind] = now
        return True
