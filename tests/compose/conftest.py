"""The stack, built and started once for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.compose.images import StandIns
from tests.compose.stack import SERVICES, Stack
from tests.support import engine


@pytest.fixture(scope="package")
def images() -> Iterator[StandIns]:
    client = engine.connect()
    found = StandIns(client)
    try:
        found.lend()
        yield found
    finally:
        found.take_back()
        client.close()


@pytest.fixture(scope="package")
def stack(images: StandIns, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    client = engine.connect()
    found = Stack(client, tmp_path_factory.mktemp("project"))
    found.prepare()
    found.compose("build", "deployer")
    try:
        found.compose("up", "--detach", "registry")
        found.push("1.0.0")
        found.compose("up", "--detach", *SERVICES)
        yield found
    finally:
        found.down()
        client.close()
