"""Settings: plain structs whose field names are the command line's options, and their checks.

Precedence is flag, then LONGSHORE_* variable, then longshore.toml, then the default here; the command line
resolves it and hands every service a finished struct.
"""

from __future__ import annotations

import json
import math
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from services.common.config.option import Option
from services.common.errors import SettingsError

LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

SECRET = (
    *("notify", "metrics_token", "otlp_header", "nats_url", "nats_password"),
    *("before_deploy", "after_deploy", "on_failure", "docker_args", "cmd", "env"),
)
"""Options that are or may hold secrets: every user of the host can read a command line."""

_HANDED = "LONGSHORE_HANDED_OPTIONS"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,62}")


def default_state_dir() -> str:
    """Return the user's state folder: $XDG_STATE_HOME/longshore, or ~/.local/state/longshore.

    A relative $XDG_STATE_HOME is ignored, as the XDG base directory specification says.
    """
    base = Path(os.environ.get("XDG_STATE_HOME", ""))
    return str((base if base.is_absolute() else Path.home() / ".local" / "state") / "longshore")


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of every service. Times are seconds; `spool_limit` is in MiB, 0: no spool.

    `{service}` in `nats_user` and in the paths of secrets stands for the name of the service's account, `{host}` for
    the host as subjects have it. `max_age` and `max_bytes` are the log's limits with units
    (`services.common.config.units`); empty: unchanged.
    """

    state_dir: Annotated[
        str,
        Option(
            "Folder of the bus's store and the replicas' logs.",
            "Bus and host",
            shown_default="$XDG_STATE_HOME/longshore",
        ),
    ] = msgspec.field(default_factory=default_state_dir)
    nats_url: Annotated[
        list[str],
        Option(
            "NATS servers to use instead of the embedded one, with commas between them. Repeatable.", "Bus and host"
        ),
    ] = []
    nats_ca: Annotated[
        str,
        Option(
            "File with the CA certificate of the NATS servers, in PEM form. Requires TLS.",
            "Bus and host",
        ),
    ] = ""
    nats_cert: Annotated[
        str,
        Option(
            "File with the client certificate for NATS; {service} and {host} are those of the account.",
            "Bus and host",
        ),
    ] = ""
    nats_key: Annotated[str, Option("File with the key of that certificate.", "Bus and host")] = ""
    nats_user: Annotated[
        str, Option("User name for NATS; {service} and {host} are those of the account.", "Bus and host")
    ] = ""
    nats_password: Annotated[str, Option("Password of that user; prefer the variable or a file.", "Bus and host")] = ""
    nats_password_file: Annotated[
        str, Option("File with that password; {service} and {host} are those of the account.", "Bus and host")
    ] = ""
    nats_nkey_file: Annotated[
        str, Option("File with the nkey seed for NATS; {service} and {host} are those of the account.", "Bus and host")
    ] = ""
    nats_creds: Annotated[
        str,
        Option(
            "Credentials file (JWT and seed) for NATS; {service} and {host} are those of the account.", "Bus and host"
        ),
    ] = ""
    nats_replicas: Annotated[
        int, Option("Servers of a cluster that keep each stream, bucket and object store.", "Bus and host")
    ] = 1
    max_age: Annotated[
        str,
        Option(
            "How long the log keeps events, such as 7d; 0: indefinitely. Changes an existing log.",
            "Bus and host",
            shown_default="as it is; 7d for a new log",
        ),
    ] = ""
    max_bytes: Annotated[
        str,
        Option(
            "Size limit of the log, such as 8GiB; 0: no limit. Changes an existing log.",
            "Bus and host",
            shown_default="as it is; a new log: 8GiB, embedded half of the free disk if that is less",
        ),
    ] = ""
    bus_timeout: Annotated[float, Option("Seconds to wait for the bus at start.", "Bus and host")] = 10.0
    host: Annotated[str, Option("Name of this host on the bus.", "Bus and host", shown_default="this host's name")] = (
        msgspec.field(default_factory=socket.gethostname)
    )
    spool_limit: Annotated[
        int,
        Option(
            "MiB of events that each service keeps on disk while the bus is unreachable; 0: in memory only.",
            "Bus and host",
        ),
    ] = 256
    log_format: Annotated[LogFormat, Option("Format of the log lines on stderr.", "Logging")] = "text"
    log_level: Annotated[LogLevel, Option("Lowest level of the logged lines.", "Logging")] = "info"


def check_name(option: str, name: str) -> None:
    """Raise SettingsError unless `name` can be a part of a subject on the bus."""
    if not _NAME.fullmatch(name):
        raise SettingsError(
            f"{option} {name!r}: use 1 to 63 letters, digits and dashes, starting with a letter or digit"
        )


def check_port(option: str, port: int) -> None:
    """Raise SettingsError unless `port` is a TCP port."""
    if not 1 <= port <= 65535:
        raise SettingsError(f"{option} {port}: a port is a number from 1 to 65535")


def check_common(settings: Settings) -> None:
    """Raise SettingsError for settings that no service can work with."""
    check_positive("--bus-timeout", settings.bus_timeout)
    if settings.spool_limit < 0:
        raise SettingsError(f"--spool-limit {settings.spool_limit}: use 0 or more MiB")
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        words = value if isinstance(value, list) else [value]
        if any(isinstance(word, str) and "\0" in word for word in words):
            raise SettingsError(f"--{name.replace('_', '-')}: holds a NUL character; omit it")


def check_finite(option: str, value: float) -> None:
    """Raise SettingsError for infinity, which no message on the bus can hold."""
    if value == math.inf:
        raise SettingsError(f"{option} {value:g}: use a finite number")


def check_positive(option: str, value: float) -> None:
    """Raise SettingsError unless `value` is above zero, and finite."""
    check_finite(option, value)
    if not value > 0:
        raise SettingsError(f"{option} {value:g}: use a number above 0")


def check_duration(option: str, value: float) -> None:
    """Raise SettingsError unless `value` is zero or more, and finite (a limit of zero seconds switches it off)."""
    check_finite(option, value)
    if not value >= 0:
        raise SettingsError(f"{option} {value:g}: use 0 or more seconds")


def arguments(settings: Settings) -> list[str]:
    """Return the command line with which a supervisor passes these settings to a service, except `variables`."""
    words: list[str] = []
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if value != default(field) and field.name not in SECRET:
            words += _option(field.name.replace("_", "-"), value)
    return words


def variables(settings: Settings) -> dict[str, str]:
    """Return the environment variables that pass the settings that may hold secrets; see `handed`."""
    values = {name: value for name in SECRET if (value := getattr(settings, name, None))}
    return {_HANDED: json.dumps(values)} if values else {}


def handed(environment: Mapping[str, str]) -> dict[str, Any]:
    """Return the options that a supervisor passed to this service by `variables`. Raises SettingsError.

    One variable holds all of them, as JSON: a value may hold blanks and line ends, at which the command line would
    split it.
    """
    try:
        return msgspec.json.decode(environment.get(_HANDED, "{}"), type=dict[str, Any])
    except msgspec.MsgspecError:
        raise SettingsError(f"{_HANDED}: is set for a service by its supervisor alone; unset it") from None


def default(field: msgspec.structs.FieldInfo) -> Any:
    """Return the default of a field."""
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _option(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    values = value if isinstance(value, list) else [value]
    return [f"--{name}={one}" for one in values]
