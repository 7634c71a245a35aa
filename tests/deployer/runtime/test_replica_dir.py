"""The folders of replicas, also while they are removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from services.deployer.runtime.output import file_follower
from services.deployer.runtime.replica_dir import KEPT_FOLDERS, Record, ReplicaDirectory, kept, prune


def created(root: Path, name: str) -> ReplicaDirectory:
    folder = ReplicaDirectory(root / name)
    folder.create(Record(name, "1.0.0", 0, 8080))
    return folder


def test_only_the_last_ended_replicas_are_kept_and_those_that_run(tmp_path: Path) -> None:
    for number in range(KEPT_FOLDERS + 3):
        folder = created(tmp_path, f"web-{number}")
        os.utime(folder.path / "replica.json", (number, number))
        if number:
            folder.mark_forgotten()
            os.utime(folder.path / "forgotten", (1000 + number, 1000 + number))
    prune(tmp_path)
    found = kept(tmp_path)
    assert [one.id for one in found] == ["web-0", *(f"web-{number}" for number in range(3, KEPT_FOLDERS + 3))]
    assert [one.runs for one in found] == [True] + [False] * KEPT_FOLDERS
    assert (found[-1].started, found[-1].ended) == (KEPT_FOLDERS + 2, 1000 + KEPT_FOLDERS + 2)


def test_a_folder_that_is_removed_while_it_is_read_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    created(tmp_path, "web-0")
    read = vars(ReplicaDirectory)["record"].fget

    def removed(folder: ReplicaDirectory) -> Record | None:
        found: Record | None = read(folder)
        shutil.rmtree(folder.path)
        return found

    monkeypatch.setattr(ReplicaDirectory, "record", property(removed))
    assert kept(tmp_path) == []


async def test_the_output_of_a_replica_ends_when_its_folder_is_removed(tmp_path: Path) -> None:
    folder = ReplicaDirectory(tmp_path / "web-0")
    assert not folder.is_alive
    assert [one async for one in file_follower.entries(folder, 0, -1, True, lambda: not folder.is_alive)] == []
