"""The removal of the application by its own deployer: once its replicas are gone, so are its routes and its state."""

from __future__ import annotations

import contextlib
import time

from msgspec.structs import replace

from schemas.events import ApplicationRemoved, ScaleSet
from services.common.process.lifecycle import Context
from services.deployer.reconcile.decision_store import DecisionStore
from services.deployer.reconcile.replica_set import ReplicaSet
from services.deployer.reconcile.route_publisher import RoutePublisher
from services.deployer.rollout.decisions import desired
from services.deployer.runtime.options_file import OptionsFile
from services.deployer.runtime.replica_dir import replica_folder
from services.deployer.settings import DeployerSettings

CONFIGURATION = "its configuration"


class Removal:
    """The removal, if one was asked for: by an operator, which lasts, or by the configuration, until the next start."""

    def __init__(
        self,
        context: Context,
        settings: DeployerSettings,
        store: DecisionStore,
        routes: RoutePublisher,
        replica_set: ReplicaSet,
    ) -> None:
        self._is_requested = False
        self._settings = settings
        self._store = store
        self._routes = routes
        self._replica_set = replica_set
        self._options = OptionsFile(replica_folder(settings.state_dir, settings.app))
        self._log = context.log

    @property
    def is_due(self) -> bool:
        """No replica and no route is to be left."""
        return self._is_requested or bool(self._store.decisions.removed_by)

    def request(self) -> None:
        """Remove the application in the name of its configuration."""
        self._is_requested = True

    def announce(self) -> None:
        """Record at the start how many replicas are to run; or again that none is, for this start says otherwise."""
        decisions = self._store.decisions
        if decisions.removed_by:
            again = f"the application was removed; `longshore start --app {self._settings.app}` runs it again"
            self._log.warning(again, by=decisions.removed_by)
            if decisions.removed:
                self._store.record(ApplicationRemoved(time.time(), decisions.removed_by))
            return
        replicas = 0 if decisions.stopped else desired(decisions, self._settings.replicas)
        self._store.record(ScaleSet(time.time(), replicas))
        if decisions.stopped:
            self._log.warning("the application is stopped; `longshore start` runs it again")

    async def finish(self) -> None:
        """Remove what the application has on the bus, and record that. Raises BusError; then call it again."""
        await self._replica_set.publish()
        await self._routes.clear()
        decisions = self._store.decisions
        if not decisions.removed:
            by = decisions.removed_by or CONFIGURATION
            await self._store.commit(
                replace(decisions, removed=True, ongoing=None, options=""), ApplicationRemoved(time.time(), by)
            )
            with contextlib.suppress(OSError):
                self._options.forget()
            self._log.info("application removed", by=by)
