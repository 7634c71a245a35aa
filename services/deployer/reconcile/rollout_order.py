"""The decisions of the other hosts, for an application with --after."""

from __future__ import annotations

import time

from msgspec.structs import replace

from schemas.events import ReleaseWaiting
from schemas.routing import Decisions
from services.common import log
from services.deployer.reconcile.decision_store import DecisionStore
from services.deployer.rollout.order import reason_to_wait
from services.deployer.settings import DeployerSettings


class RolloutOrder:
    """Knows which release waits for other hosts, and records why. `decisions`: those of all hosts, by their key."""

    def __init__(self, settings: DeployerSettings, store: DecisionStore) -> None:
        self.decisions: dict[str, Decisions] = {}
        self._settings = settings
        self._store = store
        self._log = log.get("deployer")

    def reason(self, release: str) -> str:
        """Return why a release must not start here yet; empty when it may."""
        if not release or not self._settings.after:
            return ""
        others = {key.partition(".")[0]: decided for key, decided in self.decisions.items()}
        return reason_to_wait(release, self._settings.host, self._settings.after, others)

    async def note(self, release: str) -> None:
        """Record that the release which is due waits, that its reason changed, or that no release waits any more.

        A release that may start now is recorded by the start of its deployment.
        """
        reason = self.reason(release)
        decisions = self._store.decisions
        if reason == decisions.waiting or (release and not reason):
            return
        await self._store.commit(replace(decisions, waiting=reason), ReleaseWaiting(time.time(), release, reason))
        if reason:
            self._log.info("release waits for another host", release=release, reason=reason)
