"""A container engine of a test's own, that can be stopped and started again."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
import time
from pathlib import Path

import docker

from tests.support.patience import patience

AS_ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]
ALONE = ("--iptables=false", "--ip-forward=false", "--ip-masq=false", "--storage-driver", "vfs")


class PrivateEngine:
    """`folder` must have a short path. `size`: as of tmpfs, if the engine is to have no more space than that.

    Its bridge is its own: an engine that is to have none removes that of every other one.
    """

    def __init__(self, folder: Path, size: str = "") -> None:
        self.url = f"unix://{folder}/socket"
        self._folder = folder
        self._size = size
        self._bridge = f"ls{secrets.token_hex(4)}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        program = shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program, "dockerd is missing: apt-get install docker.io"
        folder, data = self._folder, self._folder / "data"
        data.mkdir(exist_ok=True)
        command = [program, "--host", self.url, "--data-root", str(data), "--exec-root", str(folder / "exec")]
        command += ["--pidfile", str(folder / "pid"), "--group", str(os.getgid()), *ALONE]
        command += ["--bridge", self._bridge]
        if not Path("/sys/class/net", self._bridge).exists():
            self._as_root("ip", "link", "add", self._bridge, "type", "bridge")
            self._as_root("ip", "address", "add", f"10.213.{secrets.randbelow(256)}.1/24", "dev", self._bridge)
        if self._size:
            mount = f'mount -t tmpfs -o size={self._size} tmpfs {data} && exec "$@"'
            command = ["unshare", "--mount", "sh", "-c", mount, "sh", *command]
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen([*AS_ROOT, *command], stdout=log, stderr=log)
        deadline = time.monotonic() + patience(60)
        while not self._answers():
            assert time.monotonic() < deadline, (folder / "log").read_text()
            time.sleep(0.1)

    def stop(self) -> None:
        if self._process:
            self._as_root("kill", (self._folder / "pid").read_text())
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        """Stop for good."""
        self.stop()
        self._as_root("ip", "link", "delete", self._bridge)
        self._as_root("rm", "-rf", str(self._folder))

    def _as_root(self, *command: str) -> None:
        subprocess.run([*AS_ROOT, *command], check=True)

    def _answers(self) -> bool:
        if not (self._folder / "socket").exists():
            return False
        try:
            docker.APIClient(self.url, version="auto", timeout=10).close()
        except docker.errors.DockerException:
            return False
        return True
