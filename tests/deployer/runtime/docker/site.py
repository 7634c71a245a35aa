"""A host with a real container engine and a real registry, where the test plays the proxy and the health service."""

from __future__ import annotations

import contextlib
import http.client
import socket
from pathlib import Path
from typing import Any

import docker

from schemas.events import DeploymentSucceeded
from schemas.routing import Replica
from services.common.bus.connection import Bus
from services.deployer.settings import DeployerSettings
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.images import SERVE, publish
from tests.support.nats_server import NatsServer


class DockerSite(Site):
    """`engine` is the test's own way to the engine. Images are pushed to `store` and read from `source`."""

    def __init__(self, server: NatsServer, bus: Bus, state_dir: Path, registry: str, engine: docker.APIClient) -> None:
        super().__init__(server, bus, state_dir, Path("unused"))
        self.source = self.store = registry
        self.repository = f"longshore-test-{state_dir.parent.name.replace('_', '-').lower()}"
        self.engine = engine
        self.options: dict[str, Any] = {}

    def settings(self, **options: Any) -> DeployerSettings:
        usual: dict[str, Any] = {
            "registry": f"img://{self.source}/{self.repository}",
            "runtime": "docker",
            "stop_timeout": 2.0,
        }
        return super().settings(**(usual | self.options | options))

    def release(self, tag: str, script: str = SERVE, **config: Any) -> str:
        """Offer a release; the digest of its image."""
        return publish(self.store, self.repository, tag, script, **config)

    def visit(self, replica: Replica) -> str:
        if replica.check.path:
            return get(replica.host, replica.port)
        return "accepts" if accepts(replica.host, replica.port) else ""

    def verdicts(self) -> dict[str, bool]:
        """What the health service last said of each replica."""
        return {replica: verdict.healthy for replica, verdict in self._verdicts.items()}

    def containers(self) -> dict[str, str]:
        """Every container of this host's deployers, with its status."""
        return {one["Names"][0].removeprefix("/"): one["State"] for one in self._containers()}

    def ids(self) -> dict[str, str]:
        """The engine's id of each replica's container."""
        return {one["Names"][0].removeprefix("/"): one["Id"] for one in self._containers()}

    def images(self) -> set[str]:
        """The digests of this host's images that the engine has."""
        found = self.engine.images(f"{self.source}/{self.repository}")
        return {digest.partition("@")[2] for image in found for digest in image["RepoDigests"] or []}

    def clean_up(self) -> None:
        """Leave nothing of this test behind."""
        for identity in self.ids().values():
            with contextlib.suppress(docker.errors.APIError):
                self.engine.remove_container(identity, force=True, v=True)
        for digest in self.images():
            with contextlib.suppress(docker.errors.APIError):
                self.engine.remove_image(f"{self.source}/{self.repository}@{digest}", force=True)

    def _containers(self) -> list[dict[str, Any]]:
        identity = self.state_dir / "instance"
        if not identity.exists():
            return []
        label = f"longshore.instance={identity.read_text()}"
        found: list[dict[str, Any]] = self.engine.containers(all=True, filters={"label": label})
        return found


async def serving(site: DockerSite, release: str = "1.0.0", count: int = 2) -> list[str]:
    """The replicas, once the deployment of a release is done."""
    ids = await site.until_serving(release, count)
    await site.until(DeploymentSucceeded)
    return ids


async def until_replaced(site: DockerSite, lost: str, count: int = 2) -> list[str]:
    return await eventually(lambda: site.active() if len(site.active()) == count and lost not in site.active() else [])


def accepts(host: str, port: int) -> bool:
    """Whether a connection is accepted, as the health service asks without a path."""
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


def get(host: str, port: int, path: str = "/") -> str:
    """The body of an answer with status 200; empty for anything else."""
    connection = http.client.HTTPConnection(host, port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read().decode()
    except (OSError, http.client.HTTPException):
        return ""
    finally:
        connection.close()
    return body if response.status == 200 else ""
