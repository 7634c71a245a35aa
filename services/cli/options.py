"""Commands made from settings: every field of a settings struct is an option, a LONGSHORE_* variable and a toml key."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from services.common.config.settings import Settings, check_common, default, handed
from services.metrics_gateway.telemetry_settings import SIGNAL_VARIABLES

PANELS = {
    "What to deliver": ("app", "registry", "port", "replicas", "interval", "max_interval", "runtime", "pass_env"),
    "Rollout": (
        "strategy",
        "health_path",
        "health_timeout",
        "probe_interval",
        "probe_timeout",
        "rise",
        "fall",
        "settle",
        "drain_time",
        "drain_signal",
        "stop_timeout",
        "replace_after",
        "stop_containers",
    ),
    "Hooks and notices": ("before_deploy", "after_deploy", "on_failure", "hook_timeout", "notify"),
    "Containers": ("dial", "cmd", "docker_args", "docker_host", "pull_timeout", "keep_images"),
    "Proxy": (
        "listen",
        "workers",
        "hold",
        "connect_timeout",
        "idle_timeout",
        "max_connections",
        "balance",
        "trace_connections",
    ),
    "Telemetry": (
        "telemetry",
        "telemetry_signals",
        "otlp_endpoint",
        "otlp_insecure",
        "otlp_ca",
        "otlp_cert",
        "otlp_key",
        "otlp_header",
        "otlp_compression",
        "otlp_temporality",
        "otlp_interval",
        "admin_port",
        "admin_address",
        "admin_token_file",
        "metrics_token",
        "metrics_token_file",
    ),
    "Bus and host": (
        "state_dir",
        "nats_url",
        "nats_ca",
        "nats_cert",
        "nats_key",
        "nats_user",
        "nats_password",
        "nats_password_file",
        "nats_nkey_file",
        "nats_creds",
        "nats_replicas",
        "max_age",
        "max_bytes",
        "nats_server",
        "bus_timeout",
        "host",
        "spool_limit",
        "concurrency",
    ),
    "Logging": ("log_format", "log_level"),
}

HELP = {
    "app": "Name of the application, in events, metrics and container names.",
    "registry": "Where releases come from: dir:///folder/of/releases or img://host/repository.",
    "port": "Proxy port, or proxy port:container port. Repeatable.",
    "replicas": "How many replicas to run.",
    "interval": "Seconds between two looks at the registry.",
    "max_interval": "Most seconds between two looks, when the registry keeps failing.",
    "runtime": "How a replica runs.",
    "pass_env": "A variable of Longshore's environment that processes and hooks are to see as well. Repeatable.",
    "strategy": "rolling: one replica at a time; blue-green: all new ones first.",
    "health_path": "HTTP path that answers 2xx or 3xx when a replica is healthy. Without it: the port accepts.",
    "health_timeout": "Seconds that a new replica may take to become ready.",
    "probe_interval": "Seconds between two probes of a replica.",
    "probe_timeout": "Seconds that one probe may take.",
    "rise": "Passes in a row that make a replica healthy.",
    "fall": "Failures in a row that make a replica unhealthy.",
    "settle": "Seconds that a replica without --health-path must stay up before it counts as ready.",
    "drain_time": "Seconds that open connections of a retiring replica, or of a stopping proxy, may go on.",
    "drain_signal": "Signal that a replica gets when its draining begins, so that it closes its connections by itself.",
    "stop_timeout": "Seconds between SIGTERM and SIGKILL for a replica.",
    "replace_after": "Seconds after which an unhealthy replica is replaced.",
    "stop_containers": "Stop the replicas when Longshore stops, instead of leaving them to the next start.",
    "dial": "Where the proxy reaches a container: a port of this host, or the container's own address.",
    "cmd": "A word of the command that replaces the image's own. Repeatable.",
    "docker_args": "A word of what `docker run` is to add to a container (--docker-args=--memory=1g). Repeatable.",
    "docker_host": "The container engine: unix:///path/of/docker.sock or tcp://host:port.",
    "pull_timeout": "Seconds that the pull of an image may take.",
    "keep_images": "Unused images of the application to keep; older ones that Longshore pulled are removed.",
    "before_deploy": "Shell command to run before a deployment; if it fails, so does the deployment.",
    "after_deploy": "Shell command to run when a deployment has succeeded.",
    "on_failure": "Shell command to run when a deployment has failed.",
    "hook_timeout": "Seconds that one of these commands may take.",
    "notify": "Where people are told: a URL that apprise understands, or webhook+https://host/path. Repeatable.",
    "listen": "APP=PORT or APP=ADDRESS:PORT that the proxy serves. Repeatable.",
    "workers": "Worker processes of the proxy.",
    "hold": "Seconds that a connection waits for a backend when none is ready.",
    "connect_timeout": "Seconds that a connection to a backend may take.",
    "idle_timeout": "Seconds without a byte either way after which a connection is closed; 0: never.",
    "trace_connections": "Share of connections that leave a trace, from 0 (none) to 1 (all).",
    "max_connections": "Open connections at which the proxy stops accepting; 0: what the file limit allows.",
    "balance": "How a backend is picked.",
    "telemetry": "Serve Prometheus metrics at /metrics on the admin port.",
    "telemetry_signals": "What is measured: metrics, traces, or both with a comma. Switches telemetry on.",
    "otlp_endpoint": "host:port of an OpenTelemetry collector (gRPC). Switches telemetry on.",
    "otlp_insecure": "Plain text to the collector instead of TLS.",
    "otlp_ca": "File with the authority that signed the collector's certificate, in PEM form.",
    "otlp_cert": "File with the certificate that is shown to the collector, in PEM form.",
    "otlp_key": "File with the key of that certificate.",
    "otlp_header": "NAME=VALUE to send with each push, the value percent-encoded. Repeatable; better in the variable.",
    "otlp_compression": "How what is pushed is compressed.",
    "otlp_temporality": "Whether sums are pushed as they stand, or as what was added since the last push.",
    "otlp_interval": "Seconds between two pushes.",
    "admin_port": "Port of /metrics, /api and /healthz.",
    "admin_address": "Address of the admin port. On another than loopback, reading needs the admin token.",
    "admin_token_file": "File with the bearer token of the admin API, instead of the generated one.",
    "metrics_token": "Bearer token that /metrics asks for; better as a variable, or a file.",
    "metrics_token_file": "File with the bearer token that /metrics asks for.",
    "state_dir": "Folder of the bus's store and the replicas' logs.",
    "nats_url": "NATS servers to use instead of the embedded one, with commas between them. Repeatable.",
    "nats_ca": "File with the authority that signed the NATS servers' certificates, in PEM form. Asks for TLS.",
    "nats_cert": "File with the certificate that is shown to the NATS servers; {service} and {host} are its own.",
    "nats_key": "File with the key of that certificate.",
    "nats_user": "User at the NATS servers; {service} and {host} are its own.",
    "nats_password": "Password of that user; better as a variable, or a file.",
    "nats_password_file": "File with that password; {service} and {host} are its own.",
    "nats_nkey_file": "File with the nkey seed to sign in with; {service} and {host} are its own.",
    "nats_creds": "Credentials file (JWT and seed) to sign in with; {service} and {host} are its own.",
    "nats_replicas": "Servers of a cluster that keep each stream, bucket and object store.",
    "max_age": "How long the log keeps events, such as 7d; 0: for ever. Changes a log that is there.",
    "max_bytes": "How much the log keeps, such as 8GiB; 0: without a limit. Changes a log that is there.",
    "nats_server": "The nats-server program to run as the embedded bus.",
    "bus_timeout": "Seconds to wait for the bus at start.",
    "host": "Name of this host on the bus.",
    "spool_limit": "MiB of events that each service keeps on disk while the bus is away; 0: none, in memory only.",
    "concurrency": "Probes that may run at the same time.",
    "log_format": "How log lines look, on stderr.",
    "log_level": "The least severe lines that are logged.",
}

VARIABLES = {
    "telemetry": [],
    "telemetry_signals": [*SIGNAL_VARIABLES],
}
"""Where they are others than LONGSHORE_ and the option's name, the first that is set counts."""

SHORT = {"app": ("--name", "-n"), "port": ("-p",), "interval": ("-i",)}

SHOWN_DEFAULTS = {
    "otlp_compression": "$OTEL_EXPORTER_OTLP_COMPRESSION, else none",
    "otlp_temporality": "$OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE, else cumulative",
    "otlp_interval": "$OTEL_METRIC_EXPORT_INTERVAL, else 60",
    "state_dir": "$XDG_STATE_HOME/longshore",
    "host": "this host's name",
    "docker_host": "$DOCKER_HOST, else unix:///var/run/docker.sock",
    "workers": "one per core, at most 4",
    "admin_token_file": "admin-token in --state-dir",
    "nats_server": "the one on PATH, else the bundled one",
    "max_age": "as it is; 7d for a new log",
    "max_bytes": "as it is; a new log: 8GiB, embedded half of the free disk if that is less",
}
S = TypeVar("S", bound=Settings)
Fields = dict[str, msgspec.structs.FieldInfo]
Body = Callable[[dict[str, Any]], None]

COMMANDS: dict[str, Fields] = {}
"""The options of each command that longshore.toml may set."""


def fields_of(*kinds: type[Settings], omit: tuple[str, ...] = ()) -> Fields:
    """The fields of several settings structs, each name once, in the order of the panels."""
    found = {field.name: field for kind in kinds for field in msgspec.structs.fields(kind) if field.name not in omit}
    order = [name for names in PANELS.values() for name in names]
    return {name: found[name] for name in sorted(found, key=order.index)}


def command(
    app: typer.Typer,
    name: str,
    *kinds: type[Settings],
    omit: tuple[str, ...] = (),
    own: Sequence[inspect.Parameter] = (),
    **extra: Any,
) -> Callable[[Body], Body]:
    """Decorate a function of one dict, the values of all options, as a command of `app`.

    `own`: parameters of this command that are no settings.
    """
    COMMANDS[name] = fields_of(*kinds, omit=omit)
    return _registered([*own, *parameters(COMMANDS[name])], app.command(name, **extra))


def _registered(shown: list[inspect.Parameter], add: Callable[[Any], Any]) -> Callable[[Body], Body]:
    def register(function: Body) -> Body:
        def run(**values: Any) -> None:
            from services.common import log

            log.configure(values["log_format"], values["log_level"])
            function(values)

        run.__doc__ = function.__doc__
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined] # typer reads it through inspect
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        add(run)
        return function

    return register


def group(
    app: typer.Typer, name: str, *kinds: type[Settings], omit: tuple[str, ...], own: Sequence[inspect.Parameter]
) -> Callable[[Body], Body]:
    """Decorate a function as what `app` does when none of its own commands is named."""
    COMMANDS[name] = fields_of(*kinds, omit=omit)
    return _registered([*own, *parameters(COMMANDS[name])], app.callback(invoke_without_command=True))


def build(kind: type[S], values: dict[str, Any], **fixed: Any) -> S:
    """The settings of one service out of all options. Raises SettingsError when they make no sense."""
    names = {field.name for field in msgspec.structs.fields(kind)}
    given = {name: value for name, value in (values | handed(os.environ)).items() if name in names} | fixed
    if "state_dir" in given:  # hooks and replicas run in other folders
        given["state_dir"] = str(Path(given["state_dir"]).absolute())
    settings = kind(**given)
    check_common(settings)
    return settings


def parameters(fields: Fields) -> list[inspect.Parameter]:
    """The fields as keyword parameters that typer understands."""
    return [_parameter(field) for field in fields.values()]


def _parameter(field: msgspec.structs.FieldInfo) -> inspect.Parameter:
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=default(field), annotation=_annotation(field)
    )


def _annotation(field: msgspec.structs.FieldInfo) -> Any:
    option = typer.Option(
        f"--{field.name.replace('_', '-')}",
        *SHORT.get(field.name, ()),
        envvar=VARIABLES.get(field.name, f"LONGSHORE_{field.name.upper()}"),
        help=HELP[field.name],
        rich_help_panel=_panel(field.name),
        show_default=SHOWN_DEFAULTS.get(field.name, True),
    )
    return Annotated[field.type, option]


def _panel(name: str) -> str:
    return next(panel for panel, names in PANELS.items() if name in names)
