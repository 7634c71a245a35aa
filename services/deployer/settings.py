"""Options of the deployer."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import Annotated, Literal

import msgspec

from services.common.config.option import App, DrainTime, Option
from services.common.config.settings import Settings, check_duration, check_name, check_port, check_positive
from services.common.errors import SettingsError
from services.common.process.environment import check_names
from services.deployer import registry, signals
from services.deployer.variables.variable_files import Variables
from services.deployer.variables.variables import check

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
        address, _, last = text.rpartition(":")
        if last.isdigit() and _is_address(address):
            raise SettingsError(
                f"--port {text!r}: a port has no address here; use --bind {address} --port {last}"
            ) from None
        raise SettingsError(
            f"--port {text!r}: use PORT or PROXY-PORT:REPLICA-PORT, such as 8080 or 8080:3000"
        ) from None
    check_port("--port", port.proxy)
    if separator:
        check_port("--port", port.replica)
    return port


def _is_address(text: str) -> bool:
    """Return True for an IP address, IPv6 with or without its brackets."""
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text[1:-1] if text.startswith("[") and text.endswith("]") else text))
    return False


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise ValueError
    return int(text)


class DeployerSettings(Settings, frozen=True, kw_only=True):
    """One application on this host. Times are seconds.

    `health_timeout` is the whole time that a new replica may take to become ready; `settle` is how long one without
    `health_path` must stay up for that; `replace_after` is how long one may be unhealthy before it is replaced.
    """

    app: App = "app"
    registry: Annotated[
        str, Option("Registry of releases: dir:///folder/of/releases or img://host/repository.", "What to deliver")
    ] = ""
    port: Annotated[
        list[str], Option("Proxy port, or proxy port:container port. Repeatable.", "What to deliver", short=("-p",))
    ] = msgspec.field(default_factory=list)
    bind: Annotated[
        str,
        Option(
            "Address on which the proxy serves these ports, such as 127.0.0.1 or [::1].",
            "What to deliver",
            shown_default="all addresses, IPv6 and IPv4",
        ),
    ] = ""
    replicas: Annotated[int, Option("Number of replicas to run.", "What to deliver")] = 1
    interval: Annotated[
        float, Option("Seconds between two polls of the registry.", "What to deliver", short=("-i",))
    ] = 10.0
    max_interval: Annotated[
        float, Option("Most seconds between two polls when the registry keeps failing.", "What to deliver")
    ] = 300.0
    runtime: Annotated[Literal["process", "docker"], Option("How a replica runs.", "What to deliver")] = "process"
    pass_env: Annotated[
        list[str],
        Option(
            "Variable of Longshore's environment to pass to processes and hooks. Repeatable.",
            "What to deliver",
        ),
    ] = msgspec.field(default_factory=list)
    no_exec: Annotated[
        bool,
        Option("Refuse commands in replicas and one-off tasks (`longshore exec`, `longshore run`).", "What to deliver"),
    ] = False
    env: Annotated[
        list[str], Option("Variable NAME=VALUE for the replicas. Repeatable.", "What to deliver", short=("-e",))
    ] = msgspec.field(default_factory=list)
    env_file: Annotated[
        list[str],
        Option("File with lines NAME=VALUE of variables for the replicas. Repeatable.", "What to deliver"),
    ] = msgspec.field(default_factory=list)
    secret: Annotated[
        list[str],
        Option("NAME=FILE: a variable for the replicas, its value from a file. Repeatable.", "What to deliver"),
    ] = msgspec.field(default_factory=list)
    strategy: Annotated[
        Strategy, Option("rolling: one replica at a time; blue-green: all new ones first.", "Rollout")
    ] = "rolling"
    after: Annotated[
        list[str],
        Option("Host that must have deployed a release before this host starts it. Repeatable.", "Rollout"),
    ] = msgspec.field(default_factory=list)
    health_path: Annotated[
        str,
        Option(
            "HTTP path that answers 2xx or 3xx when a replica is healthy. Without it, an open port is healthy.",
            "Rollout",
        ),
    ] = ""
    health_timeout: Annotated[float, Option("Seconds that a new replica may take to become ready.", "Rollout")] = 30.0
    probe_interval: Annotated[float, Option("Seconds between two probes of a replica.", "Rollout")] = 2.0
    probe_timeout: Annotated[float, Option("Seconds that one probe may take.", "Rollout")] = 2.0
    rise: Annotated[int, Option("Passed probes in a row that make a replica healthy.", "Rollout")] = 1
    fall: Annotated[int, Option("Failed probes in a row that make a replica unhealthy.", "Rollout")] = 2
    settle: Annotated[
        float, Option("Seconds that a replica without --health-path must stay up before it counts as ready.", "Rollout")
    ] = 3.0
    drain_time: DrainTime = 30.0
    drain_signal: Annotated[
        str,
        Option(
            "Signal to a replica when its draining begins, so that it closes its connections by itself.",
            "Rollout",
        ),
    ] = ""
    stop_timeout: Annotated[float, Option("Seconds between SIGTERM and SIGKILL for a replica.", "Rollout")] = 10.0
    replace_after: Annotated[float, Option("Seconds after which an unhealthy replica is replaced.", "Rollout")] = 30.0
    stop_containers: Annotated[
        bool, Option("Stop the replicas when Longshore stops, instead of keeping them for the next start.", "Rollout")
    ] = False
    dial: Annotated[
        Literal["host", "container"],
        Option(
            "Where the proxy reaches a container: a port of this host, or the container's own address.", "Containers"
        ),
    ] = "host"
    cmd: Annotated[
        list[str], Option("Word of a command that replaces the command of the image. Repeatable.", "Containers")
    ] = msgspec.field(default_factory=list)
    docker_args: Annotated[
        list[str],
        Option(
            "Option of `docker run` for the containers (--docker-args=--memory=1g). Repeatable.",
            "Containers",
        ),
    ] = msgspec.field(default_factory=list)
    docker_host: Annotated[
        str,
        Option(
            "Container engine: unix:///path/of/docker.sock or tcp://host:port.",
            "Containers",
            shown_default="$DOCKER_HOST, else unix:///var/run/docker.sock",
        ),
    ] = ""
    pull_timeout: Annotated[float, Option("Seconds that the pull of an image may take.", "Containers")] = 600.0
    keep_images: Annotated[
        int,
        Option("Unused images of the application to keep; Longshore removes older ones that it pulled.", "Containers"),
    ] = 7
    before_deploy: Annotated[
        str,
        Option("Shell command to run before a deployment; if it fails, so does the deployment.", "Hooks and notices"),
    ] = ""
    after_deploy: Annotated[
        str, Option("Shell command to run after a deployment has succeeded.", "Hooks and notices")
    ] = ""
    on_failure: Annotated[str, Option("Shell command to run after a deployment has failed.", "Hooks and notices")] = ""
    hook_timeout: Annotated[float, Option("Seconds that each of these commands may take.", "Hooks and notices")] = 300.0
    notify: Annotated[
        list[str],
        Option(
            "Target of notifications: a URL of apprise, or webhook+https://host/path. Repeatable.",
            "Hooks and notices",
        ),
    ] = msgspec.field(default_factory=list)

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
            check_positive(f"--{name.replace('_', '-')}", getattr(self, name))
        for name in ("settle", "drain_time", "stop_timeout", "replace_after"):
            check_duration(f"--{name.replace('_', '-')}", getattr(self, name))
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
        if self.host in self.after:
            raise SettingsError(f"--after {self.host}: this host would wait for itself; name other hosts")
        check_names("--pass-env", self.pass_env)
        check(self.env, self.secret, self.runtime == "process")
        self._check_ports()
        if self.bind and not _is_address(self.bind):
            raise SettingsError(f"--bind {self.bind!r}: not an IP address; use one of this host, such as 127.0.0.1")
        self._check_runtime()

    @property
    def ports(self) -> list[Port]:
        """The ports of --port."""
        return [parse_port(text) for text in self.port]

    @property
    def proxy_ports(self) -> list[int]:
        """The ports of the proxy."""
        return [port.proxy for port in self.ports]

    @property
    def bind_address(self) -> str:
        """The address of --bind without brackets, empty for all addresses."""
        return self.bind.strip("[]")

    @property
    def variables(self) -> Variables:
        """The variables of --env, --env-file and --secret."""
        return Variables(self.env, self.env_file, self.secret, self.runtime == "process")

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


def _check_health_path(path: str) -> None:
    if path and not path.startswith("/"):
        raise SettingsError(f"--health-path {path!r}: must start with a slash, such as /{path}")
    if any(character.isspace() or not character.isprintable() for character in path):
        raise SettingsError(f"--health-path {path!r}: contains a blank; write it as %20")
