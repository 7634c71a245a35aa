"""The request that creates a container, and the parts of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.routing import Artifact
from services.common.errors import ReleaseError, SettingsError
from services.common.text import first_few
from services.deployer import signals
from services.deployer.runtime.docker import arguments as of_docker
from services.deployer.runtime.docker.arguments import LABELS, Arguments, parse
from services.deployer.runtime.docker.engine import Engine
from services.deployer.runtime.docker.state import HOST, Dial
from services.deployer.runtime.protocol import Spec
from services.deployer.runtime.replica_dir import Record
from services.deployer.settings import DeployerSettings, Port
from services.deployer.variables.variable_files import Variables

DRAIN_SIGNAL = f"{LABELS}drain-signal"
"""The label of an image with its drain signal."""
OWN = {f"{LABELS}{name}" for name in ("app", "release", "digest", "replica", "instance")}

_EXPOSED = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?(?:/tcp)?")


def labels(record: Record, app: str, instance: str) -> dict[str, str]:
    """Return the labels by which a deployer finds its containers again."""
    return {
        f"{LABELS}app": app,
        f"{LABELS}release": record.release,
        f"{LABELS}digest": record.digest,
        f"{LABELS}replica": record.id,
        f"{LABELS}instance": instance,
    }


def own(found: Mapping[str, str]) -> dict[str, str]:
    """Select the labels that `labels` made; an image may have others with the same prefix."""
    return {name: value for name, value in found.items() if name in OWN}


def drain_signal(setting: str, described: Mapping[str, Any]) -> str:
    """Return the drain signal of a container: by the settings, else by the label of the container or of its image.

    Empty: none, also when the label names no signal.
    """
    with contextlib.suppress(ValueError):
        return signals.parse(setting or _drain_label(described))
    return ""


def check_drain_signal(image: Mapping[str, Any]) -> None:
    """Raise ReleaseError if the label of an image names no signal."""
    try:
        signals.parse(_drain_label(image))
    except ValueError as error:
        raise ReleaseError(f"the image's label {DRAIN_SIGNAL}: {error}") from None


def _drain_label(described: Mapping[str, Any]) -> str:
    return str(((described.get("Config") or {}).get("Labels") or {}).get(DRAIN_SIGNAL, ""))


def exposed(image: Mapping[str, Any]) -> list[int]:
    """Return the TCP ports that an image exposes."""
    names = (image.get("Config") or {}).get("ExposedPorts") or {}
    found = (_EXPOSED.fullmatch(name) for name in names)
    ranges = (range(int(match[1]), int(match[2] or match[1]) + 1) for match in found if match)
    return sorted({port for ports in ranges for port in ports})


def replica_ports(wanted: Sequence[Port], image: Mapping[str, Any], artifact: Artifact) -> dict[int, int]:
    """Return the container port for each one in the settings; 0 stands for the port that the image exposes."""
    ports = {port.replica: port.replica for port in wanted}
    if 0 in ports:
        known = exposed(image)
        if len(known) != 1:
            proxy = next(port.proxy for port in wanted if not port.replica)
            problem = (
                f"exposes the TCP ports {first_few([str(port) for port in known])}" if known else "exposes no TCP port"
            )
            raise ReleaseError(f"{artifact.location} {problem}: name one with --port {proxy}:CONTAINER-PORT")
        ports[0] = known[0]
    return ports


def dial(name: str) -> Dial:
    """Return the addresses at which containers are dialled, by the name that an option or a record has for them."""
    return "container" if name == "container" else "host"


def create(
    spec: Spec,
    arguments: Arguments,
    environment: Iterable[tuple[str, str]],
    command: Sequence[str],
    ports: Iterable[int],
    dial: Dial,
    own_labels: Mapping[str, str],
) -> dict[str, Any]:
    """Return the body of POST /containers/create."""
    variables = {
        "LONGSHORE_APP": spec.app,
        "LONGSHORE_RELEASE": spec.release,
        "LONGSHORE_REPLICA": spec.id,
    } | dict(environment)
    tcp = [f"{port}/tcp" for port in sorted(set(ports))]
    bindings = {port: [{"HostIp": HOST, "HostPort": ""}] for port in tcp} if dial == "host" else {}
    config = arguments.config
    return {
        **config,
        "Image": spec.artifact.location,
        "Env": [f"{name}={value}" for name, value in variables.items()],
        "Labels": {**config.get("Labels", {}), **own_labels},
        "ExposedPorts": {port: {} for port in tcp},
        "HostConfig": {**arguments.host, "PortBindings": bindings},
        **({"Cmd": list(command)} if command else {}),
    }


def environment(parsed: Arguments, variables: Variables | None = None) -> list[tuple[str, str]]:
    """Return a container's environment; the options behind `--` win. Raises ReleaseError for a file that is broken."""
    own = variables.load() if variables else {}
    try:
        given = of_docker.environment(parsed, os.environ, lambda file: Path(file).read_bytes().decode())
        return [*own.items(), *given]
    except (OSError, UnicodeDecodeError) as error:
        what = error.strerror if isinstance(error, OSError) else "not a UTF-8 text"
        raise ReleaseError(f"-- --env-file {getattr(error, 'filename', '')}: {what}") from None
    except SettingsError as error:
        raise ReleaseError(str(error)) from None


async def check(settings: DeployerSettings, is_restart: bool = False) -> None:
    """Raise LongshoreError if no engine answers, or, before the first start, an env file cannot be read."""
    if not is_restart:
        environment(parse(settings.docker_args), settings.variables)
    engine = Engine(settings.docker_host)
    try:
        await engine.call(lambda client: client.ping())
    finally:
        engine.close()
