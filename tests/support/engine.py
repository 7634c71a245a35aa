"""The container engine that tests run on."""

from __future__ import annotations

import gc
import os
import warnings

import docker
import docker.errors
import pytest


def connect() -> docker.DockerClient:
    """The engine of DOCKER_HOST, else of the usual socket. Where none answers the test is skipped, but never in CI."""
    client, reason = _connect()
    if client:
        return client
    assert not os.environ.get("CI"), reason
    pytest.skip(reason)


def _connect() -> tuple[docker.DockerClient | None, str]:
    """The client, or why there is none."""
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        try:
            return docker.from_env(version="auto", timeout=30), ""
        except docker.errors.DockerException as error:
            reason = f"no container engine answers: {error}"
        gc.collect()  # the SDK leaves a socket open that could not connect
    return None, reason
