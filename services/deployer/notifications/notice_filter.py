"""The choice of the events that are worth a notice: not repetitions. Pure: events in, notices out."""

from __future__ import annotations

import msgspec

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentSucceeded,
    Event,
    RegistryFailed,
    RegistryRecovered,
    ReplicaExited,
)
from services.deployer.notifications import notice as words
from services.deployer.notifications.notice import Notice
from services.deployer.runtime.exit_text import describe_exit

QUIET = 300.0
"""Seconds without a crash that end a streak: more than the longest wait between two starts of a replica."""

MOST_ERRORS = 5
"""Notices of one streak: an error whose text differs each time must not flood people."""


class Streak(msgspec.Struct):
    """The errors of one thing in a row. `reported`: those that were sent as notices."""

    count: int = 0
    last: float = 0.0
    reported: set[str] = msgspec.field(default_factory=set)

    def record(self, error: str, time: float) -> bool:
        """Count an error. Return True if it is worth a notice."""
        self.count += 1
        self.last = max(self.last, time)
        is_news = error not in self.reported and len(self.reported) < MOST_ERRORS
        if is_news:
            self.reported.add(error)
        return is_news


class NoticeFilter:
    """Of a streak of equal errors, lets the first one through, and one notice at the end."""

    def __init__(self) -> None:
        self._registry = Streak()
        self._crashes: dict[str, Streak] = {}

    def observe(self, event: Event, deploying: str = "") -> Notice | None:
        """Return the notice about an event, None if it is worth none.

        `deploying`: the release that is being rolled out or undone. A crash of that one is worth none: it is the reason
        with which its deployment fails.
        """
        match event:
            case DeploymentSucceeded():
                return words.deployed(event)
            case DeploymentFailed():
                return words.failed(event)
            case DeploymentRolledBack():
                return words.rolled_back(event)
            case ReplicaExited():
                return self._crashed(event) if event.release != deploying else None
            case RegistryFailed():
                return words.registry_failed(event) if self._registry.record(event.reason, event.time) else None
            case RegistryRecovered():
                return self._recovered(event)
        return None

    def recoveries(self, now: float) -> list[Notice]:
        """Return a notice for each streak of crashes that is over at `now` (unix seconds), and forget the streak."""
        over = {name: one for name, one in self._crashes.items() if one.last + QUIET <= now}
        for release in over:
            del self._crashes[release]
        return [words.recovered(release, streak.count, QUIET, now) for release, streak in over.items()]

    def _crashed(self, event: ReplicaExited) -> Notice | None:
        streak = self._crashes.setdefault(event.release, Streak())
        return words.crashed(event) if streak.record(describe_exit(event), event.time) else None

    def _recovered(self, event: RegistryRecovered) -> Notice | None:
        was_told, self._registry = bool(self._registry.reported), Streak()
        return words.registry_recovered(event) if was_told else None
