"""Which of the releases that a registry offers are due on this host."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.deployer.reconcile.decision_store import DecisionStore
from services.deployer.reconcile.replica_set import ReplicaSet
from services.deployer.reconcile.rollout_order import RolloutOrder
from services.deployer.rollout.decisions import next_release


class Offers:
    """Judges offers: lists of releases, the newest first. `is_newer` compares two releases of the registry."""

    def __init__(
        self,
        store: DecisionStore,
        order: RolloutOrder,
        replica_set: ReplicaSet,
        is_newer: Callable[[str, str], bool],
    ) -> None:
        self._store = store
        self._order = order
        self._replica_set = replica_set
        self._is_newer = is_newer

    def wanted(self, offered: Sequence[str]) -> set[str]:
        """Return the releases of an offer that are about to be recorded as found, or deployed."""
        return ({offered[0]} if self.is_new(offered) else set()) | ({self.next_release(offered)} - {""})

    def is_new(self, offered: Sequence[str]) -> bool:
        """Return whether the newest release of an offer was not recorded as found yet."""
        return bool(offered) and offered[0] not in (self._store.decisions.found, self._store.decisions.current)

    def next_release(self, offered: Sequence[str]) -> str:
        """Return the release of an offer that may start now, empty if none may."""
        release = self.due(offered)
        return "" if self._order.reason(release) else release

    def due(self, offered: Sequence[str]) -> str:
        """Return the release of an offer that is due on this host, whatever other hosts have."""
        return next_release(self._store.decisions, offered, bool(self._replica_set.replicas), self._is_newer)
