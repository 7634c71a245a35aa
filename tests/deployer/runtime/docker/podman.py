"""Podman behind its Docker-compatible socket, with containers, images and settings of its own."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import time
from pathlib import Path

import docker

from tests.deployer.runtime.docker.private import AS_ROOT
from tests.support.patience import patience

_REGISTRIES = '[[registry]]\nprefix = "127.0.0.1"\nlocation = "127.0.0.1"\ninsecure = true\n'
_LIMIT = 4096


class Podman:
    """`folder` must have a short path, for the socket in it."""

    def __init__(self, folder: Path) -> None:
        self.url = f"unix://{folder}/socket"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("podman")
        assert program, "podman is missing: apt-get install podman containernetworking-plugins"
        folder = self._folder
        (folder / "registries.conf").write_text(_REGISTRIES)
        (folder / "containers.conf").write_text(self._configuration())
        names = {"CONTAINERS_CONF": "containers.conf", "CONTAINERS_REGISTRIES_CONF": "registries.conf"}
        variables = [f"{name}={folder / file}" for name, file in names.items()]
        where = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/tmp"]
        command = [*AS_ROOT, "env", *variables, program, *where, "system", "service", "--time=0", self.url]
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + patience(60)
        while not self._answers():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)

    def remove(self) -> None:
        """Remove its containers, end it, and remove all that it kept."""
        client = docker.APIClient(self.url, version="auto", timeout=30)
        for one in client.containers(all=True):
            client.remove_container(one["Id"], force=True, v=True)
        client.close()
        if self._process:
            self._process.terminate()
            self._process.wait(30)
        for mount in ("root/overlay", "root"):
            subprocess.run([*AS_ROOT, "umount", "--quiet", f"{self._folder}/{mount}"], check=False)
        subprocess.run([*AS_ROOT, "rm", "-rf", str(self._folder)], check=True)

    def _configuration(self) -> str:
        """What a host without systemd, and without the right to raise limits, asks for."""
        limits = [f"{name}={most}:{most}" for name, most in (("nofile", _most("NOFILE")), ("nproc", _most("NPROC")))]
        containers = f'[containers]\ndefault_ulimits = {json.dumps(limits)}\nlog_driver = "k8s-file"\n'
        return f'{containers}[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'

    def _answers(self) -> bool:
        if not (self._folder / "socket").exists():
            return False
        if AS_ROOT:
            subprocess.run([*AS_ROOT, "chown", str(os.getuid()), f"{self._folder}/socket"], check=True)
        try:
            docker.APIClient(self.url, version="auto", timeout=10).close()
        except docker.errors.DockerException:
            return False
        return True


def _most(name: str) -> int:
    """A limit that we may set for others as well."""
    hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[1]
    return _LIMIT if hard == resource.RLIM_INFINITY else min(hard, _LIMIT)
