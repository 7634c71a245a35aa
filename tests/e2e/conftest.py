"""Servers that end with their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from services.demo import releases
from tests.support.docker_registry import DockerRegistry
from tests.support.engine import connect
from tests.support.harness import Server


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="session")
def image_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerRegistry]:
    one = DockerRegistry(tmp_path_factory.mktemp("registry"))
    one.start()
    yield one
    one.stop()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a server that has release 1.0.0, with further options. No replica outlives the test."""
    started: list[Server] = []

    def start(*options: str) -> Server:
        one = Server(tmp_path, *options)
        releases.publish(one.registry, releases.FIRST)
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop()
        one.end_replicas()
