"""The engine's API through the docker SDK: each call in a thread, with a deadline, and errors in one line."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from services.common.errors import EngineAwayError, EngineError, SettingsError
from services.deployer.runtime.docker import sdk

if TYPE_CHECKING:
    import docker

    from services.deployer.runtime.docker.streaming import Connection, Stream

DEFAULT = "unix:///var/run/docker.sock"
SCHEMES = ("unix://", "tcp://", "http://", "https://")
TIMEOUT = 30.0
"""Seconds for one call: an engine under load takes seconds to create or remove a container."""
THREADS = 10
"""Calls at a time, as many as the SDK keeps connections: one that hangs leaves room for the others."""
RETRY_TIMEOUT = 30.0
"""Seconds for which an unreachable engine is called again: longer than a restart of dockerd takes."""
RETRY = 0.5

T = TypeVar("T")


def url(docker_host: str) -> str:
    """Return the engine's address: the given one, else DOCKER_HOST, else the usual socket. Raises SettingsError."""
    chosen = docker_host or os.environ.get("DOCKER_HOST") or DEFAULT
    if not chosen.startswith(SCHEMES):
        raise SettingsError(f"--docker-host {chosen}: use unix:///path/of/docker.sock or tcp://host:port")
    return chosen


class Engine:
    """One client for all calls. Methods raise EngineAwayError without an answer, EngineError for a refusal."""

    def __init__(self, docker_host: str) -> None:
        self.url = url(docker_host)
        self._client: docker.APIClient | None = None
        self._connecting = threading.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "engine")

    async def call(self, work: Callable[[docker.APIClient], T]) -> T:
        """Run `work` in a thread, and return its result."""
        try:
            doing = asyncio.get_running_loop().run_in_executor(self._threads, self._do, work)
        except RuntimeError:  # closed: the next deployer does the rest
            raise self._away("this deployer stops") from None
        return await doing

    async def call_with_retry(self, work: Callable[[docker.APIClient], T]) -> T:
        """Call until the engine answers, for RETRY_TIMEOUT seconds: it may be restarting. `work` must be repeatable."""
        deadline = asyncio.get_running_loop().time() + RETRY_TIMEOUT
        while True:
            try:
                return await self.call(work)
            except EngineAwayError:
                if asyncio.get_running_loop().time() > deadline:
                    raise
            await asyncio.sleep(RETRY)

    async def events(self, labels: dict[str, str], silence: float) -> Stream:
        """Open the stream of events of the containers with these labels. It ends after a silence of these seconds."""
        chosen = {"type": ["container"], "label": [f"{name}={value}" for name, value in labels.items()]}
        return await self._stream("get", "events", {"filters": json.dumps(chosen)}, {}, silence)

    async def pull(self, location: str, credentials: dict[str, str], silence: float) -> Stream:
        """Pull an image by its digest. Return the stream of its progress; to close it ends the pull."""
        import docker.auth

        repository, _, digest = location.partition("@")
        headers = {"X-Registry-Auth": docker.auth.encode_header(credentials).decode()} if credentials else {}
        return await self._stream("post", "images/create", {"fromImage": repository, "tag": digest}, headers, silence)

    async def stream(self, method: str, path: str, query: dict[str, str]) -> Stream:
        """Open a stream that may be silent for any time. To close it ends it."""
        return await self._stream(method, path, query, {}, None)

    async def connect(self, path: str, query: dict[str, str], body: dict[str, Any]) -> Connection:
        """Post a request whose connection then carries bytes in both directions."""
        from services.deployer.runtime.docker import streaming  # as below

        client = await self.call(lambda client: client)
        try:
            return await streaming.upgrade(client, self.url, path, query, body, TIMEOUT)
        except ConnectionError as error:
            raise self._away(one_line(str(error))) from None

    def close(self) -> None:
        """Close the client. Calls that run are not awaited."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._client:
            self._client.close()

    async def _stream(
        self, method: str, path: str, query: dict[str, str], headers: dict[str, str], silence: float | None
    ) -> Stream:
        """Open a stream.

        Not in a thread, which could not be cancelled: the engine writes nothing before the registry answers it.
        """
        from services.deployer.runtime.docker import (
            streaming,
        )  # loads an HTTP library, which process replicas do not need

        client = await self.call(lambda client: client)
        try:
            return await streaming.begin(client, self.url, (method, path), query, headers, (TIMEOUT, silence))
        except ConnectionError as error:
            raise self._away(one_line(str(error))) from None

    def _do(self, work: Callable[[docker.APIClient], T]) -> T:
        self._reach()
        import docker.errors
        import requests

        try:
            return work(self._connected())
        except docker.errors.APIError as error:
            raise EngineError(one_line(str(error.explanation or error)), error.status_code or 0) from None
        except (docker.errors.DockerException, requests.RequestException) as error:
            raise self._away(one_line(str(error))) from None

    def _reach(self) -> None:
        """Raise EngineAwayError if nothing listens: the SDK's error is less clear, and it leaves its socket open."""
        place = urlsplit(self.url)
        try:
            if place.scheme == "unix":
                with socket.socket(socket.AF_UNIX) as probe:
                    probe.settimeout(TIMEOUT)
                    probe.connect(place.path)
            else:
                socket.create_connection((place.hostname or "", place.port or 2375), TIMEOUT).close()
        except PermissionError:
            raise EngineAwayError(
                f"no permission to use the container engine at {self.url}: add this user to the group of its socket"
            ) from None
        except OSError as error:
            raise self._away(error.strerror or str(error)) from None

    def _connected(self) -> docker.APIClient:
        import docker
        import docker.utils

        with self._connecting:
            if self._client is None:
                security = {name: value for name, value in docker.utils.kwargs_from_env().items() if name == "tls"}
                self._client = sdk.connect(self.url, TIMEOUT, security)
            return self._client

    def _away(self, reason: str) -> EngineAwayError:
        return EngineAwayError(
            f"no container engine answers at {self.url} ({reason}): start it, or name it with --docker-host"
        )


def one_line(text: str) -> str:
    """Return a text in one line."""
    return " ".join(text.split())
