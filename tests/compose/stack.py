"""compose.yaml as a user starts it, and a client of what it publishes."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import docker

from services.demo.scenario import totals
from services.supervisor.service import answers
from tests.compose.images import ROOT
from tests.support.harness import clean_environment, wait_for
from tests.support.images import publish
from tests.support.ports import free_port
from tests.support.wheelhouse import wheelhouse

COMPOSE = ["docker-compose"] if shutil.which("docker-compose") else ["docker", "compose"]
SERVICES = {"nats", "proxy", "health", "deployer", "metrics-gateway", "prometheus", "victoriametrics"}
FILES = ("compose", "observability", "registry")
CONTEXT = ("Dockerfile", ".dockerignore", "LICENSE", "README.md", "constraints.txt", "pyproject.toml")


class Stack:
    """A project of docker-compose in a copy of this repository. `connections`: how many a client made to the proxy."""

    def __init__(self, engine: docker.DockerClient, folder: Path) -> None:
        self.engine = engine
        self.name = f"longshore-test-{os.getpid()}"
        self.app_port, self.admin_port, self.registry_port = (free_port() for _ in range(3))
        self.prometheus_port, self.victoriametrics_port = free_port(), free_port()
        self.registry = f"127.0.0.1:{self.registry_port}"
        self.connections = 0
        self._folder = folder

    def prepare(self) -> None:
        """Copy what the files need, with wheels beside them, so that nothing has to be downloaded in the build."""
        for name in ("compose", "longshore", "packaging", "schemas", "services"):
            shutil.copytree(ROOT / name, self._folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in CONTEXT:
            shutil.copy(ROOT / name, self._folder)
        for name in ("registry.yaml", "forward.py"):
            shutil.copy(Path(__file__).with_name(name), self._folder / "compose")
        shutil.copytree(wheelhouse(), self._folder / "wheelhouse")

    def compose(self, *arguments: str) -> str:
        """The output of a docker-compose command."""
        files = [f"--file={self._folder}/compose/{name}.yaml" for name in FILES]
        done = subprocess.run(
            [*COMPOSE, *files, *arguments], env=self._environment(), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{arguments} failed:\n{done.stdout}{done.stderr}"
        return done.stdout

    def push(self, release: str) -> None:
        """Push a release of the application; it answers with its name."""
        wait_for("the registry answers", lambda: answers(f"http://{self.registry}/v2/"))
        publish(self.registry, "web", release)

    def down(self) -> None:
        """Stop and remove everything, with the replicas, which no project of docker-compose knows."""
        self.compose("stop")
        for replica in self.replicas():
            replica.remove(force=True, v=True)
        self.compose("down", "--volumes")
        for name in self._pulled():
            self.engine.images.remove(name)

    def container(self, service: str) -> Any:
        labels = [f"com.docker.compose.project={self.name}", f"com.docker.compose.service={service}"]
        (found,) = self._containers(label=labels)
        return found

    def replicas(self) -> list[Any]:
        """The application's containers on this project's network."""
        return self._containers(label="longshore.app=web", network=f"{self.name}_apps")

    def left_over(self) -> list[str]:
        """What the engine has of this project."""
        mine = {"label": f"com.docker.compose.project={self.name}"}
        things = [
            *self._containers(**mine),
            *self.engine.networks.list(filters=mine),
            *self.engine.volumes.list(filters=mine),
            *self.replicas(),
        ]
        return [thing.name for thing in things] + self._pulled()

    def health(self) -> dict[str, str]:
        """By service: what the engine says of the services' health checks."""
        return {service: self.container(service).attrs["State"]["Health"]["Status"] for service in SERVICES}

    def wait_until_healthy(self) -> None:
        healthy = dict.fromkeys(SERVICES, "healthy")
        try:
            wait_for("every service is healthy", lambda: self.health() == healthy, 120)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.health()}\n{self.compose('logs', '--tail=30')}") from None

    def ask(self) -> str:
        """The application's answer through the proxy, on a connection of its own."""
        self.connections += 1
        connection = http.client.HTTPConnection("127.0.0.1", self.app_port, timeout=30)
        try:
            connection.request("GET", "/")
            return connection.getresponse().read().decode()
        finally:
            connection.close()

    def status(self) -> dict[str, Any]:
        """What the gateway says of the application."""
        url = f"http://127.0.0.1:{self.admin_port}/api/status"
        apps = self._json(url, Authorization=f"Bearer {self.admin_token()}").get("apps", [])
        return next(iter(apps), {})

    def admin_token(self) -> str:
        """What the gateway has made for those who may ask it."""
        read = self.container("metrics-gateway").exec_run(["cat", "/var/lib/longshore/admin-token"])
        return str(read.output.decode()).strip()

    def serves(self, release: str) -> bool:
        """Whether the last deployment brought this release, and is done."""
        last = self.status().get("last_deployment") or {}
        return (last.get("release"), last.get("outcome")) == (release, "succeeded")

    def wait_until_serving(self, release: str) -> None:
        try:
            wait_for(f"release {release} is deployed", lambda: self.serves(release), 90)
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.status()}\n{self.compose('logs', '--tail=40', 'deployer')}") from None

    def counted(self) -> float:
        """The connections that the gateway knows of."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.admin_port}/metrics", timeout=5) as answer:
                return totals(answer.read().decode()).get("dewy_proxy_connections_total", 0)
        except OSError:
            return 0

    def query(self, expression: str) -> float | None:
        """What Prometheus makes of an expression; None without a sample."""
        words = urllib.parse.urlencode({"query": expression})
        answer = self._json(f"http://127.0.0.1:{self.prometheus_port}/api/v1/query?{words}")
        samples = answer.get("data", {}).get("result", [])
        return float(samples[0]["value"][1]) if samples else None

    def _pulled(self) -> list[str]:
        """The application's images, as the engine pulled them."""
        images = self.engine.images.list(f"{self.registry}/web")
        return [name for image in images for name in image.attrs["RepoDigests"] if name.startswith(self.registry)]

    def _containers(self, **filters: str | list[str]) -> list[Any]:
        """Those that fit, whatever they do; one that is removed meanwhile is none."""
        found: list[Any] = self.engine.containers.list(all=True, filters=filters, ignore_removed=True)
        return found

    def _json(self, url: str, **headers: str) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=5) as answer:
                found: dict[str, Any] = json.load(answer)
                return found
        except OSError:
            return {}

    def _environment(self) -> dict[str, str]:
        socket = os.environ.get("DOCKER_HOST", "").removeprefix("unix://") or "/var/run/docker.sock"
        return clean_environment() | {
            "COMPOSE_PROJECT_NAME": self.name,
            "IMAGE": "longshore-stand-in/longshore",
            "REGISTRY": f"img://{self.registry}/web",
            "HEALTH_PATH": "/",
            "DOCKER_SOCKET": socket,
            "DOCKER_GID": str(Path(socket).stat().st_gid),
            "APP_PORT": str(self.app_port),
            "ADMIN_PORT": str(self.admin_port),
            "COMPOSE_PROFILES": "prometheus,victoriametrics",
            "PROMETHEUS_PORT": str(self.prometheus_port),
            "VICTORIAMETRICS_PORT": str(self.victoriametrics_port),
            "REGISTRY_PORT": str(self.registry_port),
        }
