"""The options of now, and those with which replicas run, on a disk that may be read-only."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import structlog

from schemas.routing import Decisions
from services.common.errors import ReleaseError
from services.deployer.reconcile.replica_options import ReplicaOptions
from services.deployer.runtime.options import Options, fingerprint
from services.deployer.runtime.options_file import OptionsFile
from services.deployer.variables.variable_files import Variables


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


def test_a_file_that_is_gone_costs_no_replica_its_options_until_an_operator_restarts(tmp_path: Path) -> None:
    running = Options(command=["running"])
    opened(tmp_path, running, Decisions()).read()

    def broken() -> Options:
        raise ReleaseError("--env-file /gone: No such file or directory; create it, or correct the path")

    options = opened(tmp_path, running, Decisions(current="1", options=fingerprint(running)))
    options._runtime = SimpleNamespace(options=broken)
    options.read_or_find()
    assert (options.wanted, options.of("any")) == (running, running)
    with pytest.raises(ReleaseError, match="/gone"):
        options.read()
    unknown = opened(tmp_path, running, Decisions(current="1", options="lost"))
    unknown._runtime = options._runtime
    with pytest.raises(ReleaseError, match="/gone"):
        unknown.read_or_find()


def test_what_replicas_run_with_is_kept_until_it_is_known_which_that_is(tmp_path: Path) -> None:
    """The buckets were lost: the decisions of now say nothing of the options that run."""
    running, wanted = Options(command=["running"]), Options(command=["wanted"])
    opened(tmp_path, running, Decisions()).read()
    options = opened(tmp_path, wanted, Decisions())
    options.read_or_find()
    options._store.decisions = Decisions(current="1", options=fingerprint(running))
    options.keep()
    assert (options.of("any"), options.wanted) == (running, wanted)


def test_secrets_that_replicas_were_started_with_are_hidden_after_their_files_changed(tmp_path: Path) -> None:
    file = OptionsFile(tmp_path)
    old = Options(environment={"KEY": "old-value\nsecond line", "API_TOKEN": "old-token", "MODE": "production"})
    file.keep(old, set())
    file.keep(Options(environment={"KEY": "new-value"}), {fingerprint(old)})
    assert file.hidden({"KEY"}) == {"old-value", "second line", "old-token", "new-value"}
    file.forget()
    assert (file.hidden({"KEY"}), file.find(fingerprint(old))) == (set(), None)
    file.forget()


def test_the_bytes_of_a_variable_need_not_be_text(tmp_path: Path) -> None:
    options = Options(environment={"NAME": os.fsdecode(b"caf\xe9")})
    file = OptionsFile(tmp_path)
    file.keep(options, set())
    assert file.find(fingerprint(options)) == options
    assert Variables([f"NAME={options.environment['NAME']}"]).load() == options.environment
