"""One pipeline for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.observability.pipeline import Pipeline


@pytest.fixture(scope="package")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    found = Pipeline(tmp_path_factory.mktemp("pipeline"))
    try:
        found.play()
        yield found
    finally:
        found.stop()
