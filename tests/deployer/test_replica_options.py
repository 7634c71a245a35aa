"""The options of now, and those with which replicas run, on a disk that may be read-only."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import structlog

from schemas.routing import Decisions
from services.deployer.reconcile.replica_options import ReplicaOptions
from services.deployer.runtime.options import Options, fingerprint


def opened(folder: Path, options: Options, decisions: Decisions) -> ReplicaOptions:
    store: Any = SimpleNamespace(decisions=decisions)
    runtime: Any = SimpleNamespace(options=lambda: options)
    return ReplicaOptions(store, runtime, folder, structlog.get_logger())


def test_replicas_keep_the_options_that_they_were_deployed_with(tmp_path: Path) -> None:
    old, new = Options(command=["old"]), Options(command=["new"])
    opened(tmp_path, old, Decisions()).read()
    options = opened(tmp_path, new, Decisions(current="1", options=fingerprint(old)))
    options.read()
    assert options.of("any") == old
    assert options.fingerprint == fingerprint(new)
    assert options.changed(options.fingerprint) == ["cmd"]


def test_options_that_are_lost_are_those_of_now(tmp_path: Path) -> None:
    new = Options(command=["new"])
    folder = tmp_path / "file"
    folder.write_text("no folder, so nothing can be kept")
    options = opened(folder, new, Decisions(current="1", options="lost"))
    options.read()
    assert options.of("any") == new
