"""A deployer process that kills itself with SIGKILL at a chosen point: `mortal.py SETTINGS POINT`.

POINT is "before X" or "after X" for an action X of the rollout, "telling X" for an event X that follows from what was
just decided, or "spawned": right after a shim was started or a container was created.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import msgspec

from schemas.events import Event
from services.deployer import service
from services.deployer.reconcile.decision_store import DecisionStore
from services.deployer.reconcile.reconciler import Reconciler
from services.deployer.rollout.actions import Action
from services.deployer.runtime import spawn
from services.deployer.runtime.docker.containers import Containers
from services.deployer.settings import DeployerSettings


def die(*_: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(settings: DeployerSettings, point: str) -> None:
    if point == "spawned":
        spawn.read = die  # type: ignore[assignment] # it never returns
        Containers.start = die  # type: ignore[assignment, method-assign] # it never returns
    when, _, name = point.partition(" ")
    apply = Reconciler._apply

    async def fatal(self: Reconciler, action: Action) -> None:
        if (when, name) == ("before", type(action).__name__):
            die()
        await apply(self, action)
        if (when, name) == ("after", type(action).__name__):
            die()

    record = DecisionStore.record

    def untold(self: DecisionStore, event: Event) -> None:
        if (when, name) == ("telling", type(event).__name__):
            die()
        record(self, event)

    DecisionStore.record = untold  # type: ignore[method-assign] # every decision is told through it
    Reconciler._apply = fatal  # type: ignore[method-assign] # the one seam through which all changes go
    service.run(settings)


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=DeployerSettings), sys.argv[2])
