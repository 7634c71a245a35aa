"""Stand-ins for the images that our files name, made of this machine's Debian packages: nothing is pulled.

They carry the names only while the tests run, so that nobody takes them for the real ones. Under names of their own
they stay on the engine, and what they are made of stays in a temporary folder, for the next run.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import docker
import docker.errors

from tests.support.wheelhouse import CACHE

ROOT = Path(__file__).parents[2]
REGISTRY = "longshore-stand-in/registry"

_PREFIX = "longshore-stand-in/"
_BUSYBOX = """
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""
_REGISTRY = b"""
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: /var/lib/registry}}
http: {addr: ":5000"}
"""


class StandIns:
    """The images on one engine."""

    def __init__(self, engine: docker.DockerClient) -> None:
        self._engine = engine
        self._lent: list[str] = []
        self.python = _named("Dockerfile", r"ARG PYTHON=(\S+)")

    def lend(self) -> None:
        """Give the names in our files to the stand-ins, unless the engine has the real images."""
        CACHE.mkdir(mode=0o700, exist_ok=True)
        self._lend(self.python, self._import_debian)
        self._lend(_named("compose/compose.yaml", r"image: (nats:\S+)"), self._build_nats)
        self._lend(_named("compose/observability.yaml", r"image: (prom/prometheus:\S+)"), self._build_prometheus)
        self._lend(_named("compose/observability.yaml", r"image: (victoriametrics/\S+)"), self._build_victoria_metrics)
        if not self._has(REGISTRY):
            self._build_registry(REGISTRY)

    def take_back(self) -> None:
        """Leave no name that is not ours."""
        for name in self._lent:
            self._engine.images.remove(name)

    def _lend(self, name: str, make: Callable[[str], None]) -> None:
        own = _PREFIX + name
        if self._has(name):
            return
        if not self._has(own):
            make(own)
        self._engine.images.get(own).tag(name)
        self._lent.append(name)

    def _has(self, name: str) -> bool:
        try:
            self._engine.images.get(name)
        except docker.errors.ImageNotFound:
            return False
        return True

    def _import_debian(self, name: str) -> None:
        repository, _, tag = name.rpartition(":")
        answer = self._engine.api.import_image_from_file(str(_debian()), repository=repository, tag=tag)
        assert "error" not in answer, answer

    def _build_nats(self, name: str) -> None:
        """As small as the real one, which has a busybox as well: Alpine's."""
        dockerfile = f"FROM scratch{_BUSYBOX}COPY nats-server /usr/local/bin/nats-server"
        server = Path(sys.executable).with_name("nats-server").read_bytes()
        self._build(name, dockerfile, {"busybox": _program("busybox"), "nats-server": server})

    def _build_prometheus(self, name: str) -> None:
        dockerfile = f"""FROM {self.python}
        COPY prometheus wget /bin/
        RUN mkdir -p /etc/prometheus /prometheus && chown 65534:65534 /prometheus
        USER 65534:65534
        WORKDIR /prometheus
        ENTRYPOINT ["/bin/prometheus"]
        CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
        """
        self._build(name, dockerfile, {"prometheus": _program("prometheus"), "wget": _program("busybox")})

    def _build_victoria_metrics(self, name: str) -> None:
        dockerfile = f"""FROM {self.python}
        COPY victoria-metrics wget /bin/
        ENTRYPOINT ["/bin/victoria-metrics"]
        """
        self._build(name, dockerfile, {"victoria-metrics": _program("victoria-metrics"), "wget": _program("busybox")})

    def _build_registry(self, name: str) -> None:
        dockerfile = f"""FROM {self.python}
        COPY docker-registry /bin/docker-registry
        COPY registry.yml /registry.yml
        CMD ["docker-registry", "serve", "/registry.yml"]
        """
        self._build(name, dockerfile, {"docker-registry": _program("docker-registry"), "registry.yml": _REGISTRY})

    def _build(self, name: str, dockerfile: str, files: Mapping[str, bytes]) -> None:
        context = _tar({"Dockerfile": dockerfile.encode(), **files})
        self._engine.images.build(fileobj=context, custom_context=True, tag=name, rm=True)


def _debian() -> Path:
    """An archive of a minimal Debian with the Python that python:3.11-slim-bookworm has."""
    archive = CACHE / "bookworm.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            root, unfinished = f"{folder}/root", f"{folder}/root.tar"
            packages = "--include=python3,python3-venv"
            run_as_root("debootstrap", "--variant=minbase", packages, "bookworm", root)
            without = ("--exclude=./var/cache/apt/*", "--exclude=./var/lib/apt/lists/*")
            run_as_root("tar", "--create", "--file", unfinished, "--directory", root, *without, ".")
            run_as_root("rm", "-rf", root)
            Path(unfinished).rename(archive)
    return archive


def run_as_root(*command: str) -> None:
    _run(*([] if os.getuid() == 0 else ["sudo", "--non-interactive"]), *command)


def _run(*command: str) -> None:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout}{done.stderr}"


def _named(file: str, pattern: str) -> str:
    """The name of an image in one of our files."""
    found = re.search(pattern, (ROOT / file).read_text())
    assert found, f"{file} names no such image: {pattern}"
    return found[1]


def _program(name: str) -> bytes:
    path = shutil.which(name)
    assert path, f"{name} is missing: .ci/run installs it"
    return Path(path).read_bytes()


def _tar(files: Mapping[str, bytes]) -> io.BytesIO:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            tar.addfile(member, io.BytesIO(content))
    archive.seek(0)
    return archive
