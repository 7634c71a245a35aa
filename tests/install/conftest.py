"""The wheel and the sdist, built once for each module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.install.building import build_sdist, build_wheel, copy_of_sources


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of_sources(tmp_path_factory.mktemp("source"))


@pytest.fixture(scope="session")
def wheel(source: Path) -> Path:
    return build_wheel(source, source)


@pytest.fixture(scope="session")
def sdist(source: Path) -> Path:
    return build_sdist(source)
