"""Three nats-servers that are a cluster, on loopback or, one of them, in a network namespace of its own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from services.bus import binary
from tests.support.ports import free_port, until_listening

CONFIG = """
server_name: {name}
listen: "{address}:{port}"
jetstream {{ store_dir: "{store}" }}
cluster {{ name: test, listen: "{route_address}:{route}", routes: [{routes}], no_advertise: true }}
"""


class Member:
    """One server. `prefix`: words before its command, such as those that enter a namespace."""

    def __init__(
        self, name: str, folder: Path, address: str = "127.0.0.1", route_address: str = "", prefix: tuple[str, ...] = ()
    ) -> None:
        self.name = name
        self.port, self.route = free_port(), free_port()
        self.address, self.route_address = address, route_address or address
        self.url = f"nats://{address}:{self.port}"
        self._folder = folder
        self._prefix = prefix
        self._process: subprocess.Popen[bytes] | None = None

    def configure(self, members: list[Member]) -> None:
        self._folder.mkdir(exist_ok=True)
        routes = ", ".join(f'"nats://{one.route_address}:{one.route}"' for one in members)
        text = CONFIG.format(**vars(self), store=self._folder / "store", routes=routes)
        (self._folder / "nats.conf").write_text(text)

    def start(self) -> None:
        log = self._folder / "nats.log"
        with log.open("ab") as output:
            command = [*self._prefix, binary.find(), "--config", str(self._folder / "nats.conf")]
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        until_listening(self.port, self._process, log, self.address)

    def kill(self) -> None:
        """As kill -9 does."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


class Cluster:
    """Members by name."""

    def __init__(self, members: list[Member]) -> None:
        self.members = {member.name: member for member in members}
        for member in members:
            member.configure(members)

    @property
    def urls(self) -> list[str]:
        return [member.url for member in self.members.values()]

    def start(self) -> None:
        for member in self.members.values():
            member.start()

    def stop(self) -> None:
        for member in self.members.values():
            member.kill()
