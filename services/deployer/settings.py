"""Options of the deployer."""

from __future__ import annotations

from typing import Literal

import msgspec

from services.common.config.settings import Settings, check_duration, check_name, check_port, check_positive
from services.common.errors import SettingsError
from services.common.process.environment import check_names
from services.deployer import registry, signals

Strategy = Literal["rolling", "blue-green"]

POSITIVE = (
    "interval",
    "max_interval",
    "health_timeout",
    "probe_interval",
    "probe_timeout",
    "pull_timeout",
    "hook_timeout",
)
MOST_REPLICAS = 1000


class Port(msgspec.Struct, frozen=True):
    """A port of the proxy, and the replicas' port behind it (0: the port that a replica is given)."""

    proxy: int
    replica: int = 0


def parse_port(text: str) -> Port:
    """Parse `8080` or `8080:3000`. Raises SettingsError."""
    proxy, separator, replica = text.partition(":")
    try:
        port = Port(_number(proxy), _number(replica) if separator else 0)
    except ValueError:
        raise SettingsError(
            f"--port {text!r}: use PORT or PROXY-PORT:REPLICA-PORT, such as 8080 or 8080:3000"
        ) from None
    check_port("--port", port.proxy)
    if separator:
        check_port("--port", port.replica)
    return port


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


class DeployerSettings(Settings, frozen=True, kw_only=True):
    """One application on this host. Times are seconds.

    `health_timeout` is the whole time that a new replica may take to become ready; `settle` is how long one without
    `health_path` must stay up for that; `replace_after` is how long one may be unhealthy before it is replaced.
    """

    app: str = "app"
    registry: str = ""
    port: list[str] = msgspec.field(default_factory=list)
    replicas: int = 1
    interval: float = 10.0
    max_interval: float = 300.0
    runtime: Literal["process", "docker"] = "process"
    pass_env: list[str] = msgspec.field(default_factory=list)
    strategy: Strategy = "rolling"
    health_path: str = ""
    health_timeout: float = 30.0
    probe_interval: float = 2.0
    probe_timeout: float = 2.0
    rise: int = 1
    fall: int = 2
    settle: float = 3.0
    drain_time: float = 30.0
    drain_signal: str = ""
    stop_timeout: float = 10.0
    stop_containers: bool = False
    replace_after: float = 30.0
    dial: Literal["host", "container"] = "host"
    cmd: list[str] = msgspec.field(default_factory=list)
    docker_args: list[str] = msgspec.field(default_factory=list)
    docker_host: str = ""
    pull_timeout: float = 600.0
    keep_images: int = 7
    before_deploy: str = ""
    after_deploy: str = ""
    on_failure: str = ""
    hook_timeout: float = 300.0
    notify: list[str] = msgspec.field(default_factory=list)

    def __post_init__(self) -> None:
        check_name("--app", self.app)
        if self.registry:
            registry.parse(self.registry)
        for name in ("replicas", "rise", "fall"):
            if getattr(self, name) < 1:
                raise SettingsError(f"--{name} {getattr(self, name)}: use 1 or more")
        if self.replicas > MOST_REPLICAS:
            raise SettingsError(f"--replicas {self.replicas}: one host runs {MOST_REPLICAS} at most")
        for name in POSITIVE:
            check_positive(_option(name), getattr(self, name))
        for name in ("settle", "drain_time", "stop_timeout", "replace_after"):
            check_duration(_option(name), getattr(self, name))
        try:
            signals.parse(self.drain_signal)
        except ValueError as error:
            raise SettingsError(f"--drain-signal: {error}") from None
        _check_health_path(self.health_path)
        if not self.health_path and self.settle >= self.health_timeout:
            raise SettingsError(
                f"--settle {self.settle:g}: no replica could be ready within --health-timeout "
                f"{self.health_timeout:g}; use a smaller --settle"
            )
        check_names("--pass-env", self.pass_env)
        self._check_ports()
        self._check_runtime()

    @property
    def ports(self) -> list[Port]:
        """The ports of --port."""
        return [parse_port(text) for text in self.port]

    @property
    def proxy_ports(self) -> list[int]:
        """The ports of the proxy."""
        return [port.proxy for port in self.ports]

    def check_complete(self) -> None:
        """Raise LongshoreError if an option is missing that only a running deployer needs."""
        if not self.registry:
            raise SettingsError(f"--registry is missing; name the source of releases, such as {registry.KNOWN}")
        if not self.port:
            raise SettingsError(
                "--port is missing; name the port on which the proxy serves the application, such as 8080"
            )

    def _check_runtime(self) -> None:
        if self.keep_images < 0:
            raise SettingsError(f"--keep-images {self.keep_images}: use 0 or more")
        if self.runtime != "docker" and (self.docker_args or self.cmd):
            raise SettingsError(
                "--cmd and the words after -- are for containers; put them into the file run of a process"
            )
        images = self.registry.startswith("img://")
        if self.registry and images != (self.runtime == "docker"):
            wanted = "img://host/repository" if self.runtime == "docker" else registry.DIRECTORY
            raise SettingsError(f"--registry {self.registry}: --runtime {self.runtime} needs {wanted}")

    def _check_ports(self) -> None:
        seen: set[int] = set()
        for text in self.port:
            port = parse_port(text)
            if port.proxy in seen:
                raise SettingsError(f"--port {port.proxy}: given twice; name each proxy port once")
            if port.replica and self.runtime == "process":
                raise SettingsError(
                    f"--port {text}: a process gets its port in the variable PORT and cannot be given one; "
                    f"use --port {port.proxy}"
                )
            seen.add(port.proxy)


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _check_health_path(path: str) -> None:
    if path and not path.startswith("/"):
        raise SettingsError(f"--health-path {path!r}: must start with a slash, such as /{path}")
    if any(character.isspace() or not character.isprintable() for character in path):
        raise SettingsError(f"--health-path {path!r}: contains a blank; write it as %20")
