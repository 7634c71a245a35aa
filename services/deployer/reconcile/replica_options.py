"""The options of the replicas: those of now, and those with which the replicas run."""

from __future__ import annotations

from pathlib import Path

import structlog

from services.common.errors import LongshoreError
from services.deployer.reconcile.decision_store import DecisionStore
from services.deployer.runtime import options as compared
from services.deployer.runtime.options import Options
from services.deployer.runtime.options_file import OptionsFile
from services.deployer.runtime.protocol import Runtime

Log = structlog.typing.FilteringBoundLogger


class ReplicaOptions:
    """`wanted`: the options that the settings and the environment asked for when this deployer started."""

    def __init__(
        self, store: DecisionStore, runtime: Runtime, folder: Path, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self.wanted = Options()
        self._store = store
        self._runtime = runtime
        self._file = OptionsFile(folder)
        self._log = log

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the wanted options."""
        return compared.fingerprint(self.wanted)

    def read(self) -> None:
        """Read the options of now, and keep them. Raises LongshoreError for one that cannot be used."""
        self.wanted = self._runtime.options()
        self.keep()

    def read_or_find(self) -> None:
        """Read the options of now. If they cannot be used, continue with those with which the replicas run.

        Raises LongshoreError if those are not kept. It keeps nothing: which options run may not be known yet.
        """
        try:
            self.wanted = self._runtime.options()
        except LongshoreError as error:
            kept = self._file.find(self._store.decisions.options)
            if kept is None:
                raise
            self.wanted = kept
            self._log.error("options cannot be used, the replicas keep those that they have", reason=str(error))

    def of(self, revision: str) -> Options:
        """Return the options of a revision, those of now if an earlier version deployed it or they are lost."""
        ongoing = self._store.decisions.ongoing
        is_new = ongoing is not None and ongoing.deployment == revision
        return self._find(ongoing.options if ongoing and is_new else self._store.decisions.options)

    def changed(self, options: str) -> list[str]:
        """Return the names of the options that differ between those that run and those with this fingerprint."""
        return compared.changed(self._find(self._store.decisions.options), self._find(options))

    def keep(self) -> None:
        """Keep the wanted options on disk, and those with which replicas run; forget others."""
        decisions = self._store.decisions
        running = {decisions.options, decisions.ongoing.options if decisions.ongoing else ""}
        try:
            self._file.keep(self.wanted, running)
        except OSError as error:
            self._log.error("the options of the replicas are not kept on disk", reason=error.strerror)

    def _find(self, fingerprint: str) -> Options:
        return self._file.find(fingerprint) or self.wanted
