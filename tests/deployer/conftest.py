"""Folders for a registry and for replicas; whatever a test starts is gone after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.deployer.runtime import remains


@pytest.fixture
def registry(tmp_path: Path) -> Path:
    folder = tmp_path / "registry"
    folder.mkdir()
    return folder


@pytest.fixture
def state_dir(tmp_path: Path) -> Iterator[Path]:
    """A state directory. The replicas in it are killed at the end."""
    folder = tmp_path / "state"
    yield folder
    for record in folder.glob("replicas/*/*/replica.json"):
        remains.kill(record.parent.name)
