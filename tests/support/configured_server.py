"""A nats-server with a configuration of its own, as an administrator runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from services.bus import binary
from services.common.bus.connection import Bus
from services.common.bus.credentials import find
from services.common.config.settings import Settings
from tests.support.ports import free_port, until_listening


class ConfiguredServer:
    """Runs until `stop`. `config` is text after the usual settings; `url` is for localhost."""

    def __init__(self, folder: Path, config: str, jetstream: bool = True) -> None:
        self.port = free_port()
        self.url = f"nats://localhost:{self.port}"
        self.log = folder / "nats.log"
        self._folder = folder
        self._jetstream = jetstream
        self.write(config)
        self._process: subprocess.Popen[bytes] | None = None

    def write(self, config: str) -> None:
        """Replace the configuration; `reload` makes it take effect."""
        store = f"jetstream {{ store_dir: {json.dumps(str(self._folder / 'store'))} }}\n" if self._jetstream else ""
        (self._folder / "nats.conf").write_text(f"listen: localhost:{self.port}\n{store}{config}\n")

    def start(self) -> None:
        with self.log.open("ab") as log:
            command = [binary.find(), "--config", str(self._folder / "nats.conf")]
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        until_listening(self.port, self._process, self.log)

    def reload(self) -> None:
        assert self._process
        subprocess.run([binary.find(), "--signal", f"reload={self._process.pid}"], check=True, capture_output=True)

    def stop(self) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextmanager
def serving(folder: Path, config: str, jetstream: bool = True) -> Iterator[ConfiguredServer]:
    folder.mkdir(exist_ok=True)
    server = ConfiguredServer(folder, config, jetstream)
    server.start()
    try:
        yield server
    finally:
        server.stop()


async def connected(service: str = "proxy", timeout: float = 20.0, **options: Any) -> Bus:
    """A service's connection as its options say."""
    settings = Settings(**options)
    return await Bus.connect(service, find(settings, service), timeout)
