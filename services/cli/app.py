"""The typer application: a command for each service, the all-in-one commands, and the verbs."""

from __future__ import annotations

import inspect
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.bus.export import Way
from services.bus.settings import BusSettings
from services.cli import config, history, logs, verbs, verify
from services.cli.options import COMMANDS, build, command, fields_of, group
from services.common.config.settings import Settings
from services.deployer.settings import DeployerSettings
from services.health.settings import HealthSettings
from services.metrics_gateway.settings import GatewaySettings
from services.proxy.settings import ProxySettings

if TYPE_CHECKING:
    from services.supervisor.plan import Plan

app = typer.Typer(
    name="longshore",
    help="Delivers releases to a host, as containers or processes, and proves what happened.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

SHARED: tuple[type[Settings], ...] = (ProxySettings, HealthSettings, GatewaySettings, BusSettings)
ALL_IN_ONE: tuple[type[Settings], ...] = (DeployerSettings, *SHARED)
APP = fields_of(DeployerSettings, omit=Settings.__struct_fields__)
CONTAINERS = tuple(name for name, field in APP.items() if field.option.panel == "Containers")
FOR_A_SERVER = tuple(name for name in Settings.__struct_fields__ if name.startswith("nats_"))
START = "Start"
SERVICES = "One service alone"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"longshore {version('longshore')}")
        raise typer.Exit


@app.callback()
def longshore(
    context: typer.Context,
    config_file: Annotated[
        str, typer.Option("--config", envvar="LONGSHORE_CONFIG", help="Options file.", show_default=config.FILE)
    ] = "",
    _show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Delivers releases to a host, as containers or processes, and proves what happened.

    Every option can also be set by a variable (LONGSHORE_DRAIN_TIME=60) or in longshore.toml (drain-time = 60);
    a flag wins over a variable, a variable over the file.
    """
    context.default_map = config.defaults(config_file, COMMANDS)


@command(app, "server", *ALL_IN_ONE, omit=("listen", "runtime", *CONTAINERS), rich_help_panel=START)
def server(values: dict[str, Any]) -> None:
    """Deliver releases from a folder as processes: bus, proxy, deployer, health and metrics in one command.

    Example: longshore server --registry dir:///srv/app --port 8080 --replicas 2 --health-path /health --telemetry
    """
    from services.supervisor.main import run

    run(_plan(values, [build(DeployerSettings, values, runtime="process")]))


WORDS = inspect.Parameter(
    "words",
    inspect.Parameter.KEYWORD_ONLY,
    default=None,
    annotation=Annotated[
        list[str] | None,
        typer.Argument(metavar="-- [DOCKER RUN OPTIONS]", help="Options of `docker run` for every container."),
    ],
)


@command(app, "container", *ALL_IN_ONE, omit=("listen", "runtime"), own=[WORDS], rich_help_panel=START)
def container(values: dict[str, Any]) -> None:
    """Deliver images from a registry as containers: bus, proxy, deployer, health and metrics in one command.

    Example: longshore container --registry img://ghcr.io/me/app --port 8080 --health-path /health -- -e MODE=live
    """
    from services.supervisor.main import run

    words = [*values["docker_args"], *(values["words"] or [])]
    run(_plan(values, [build(DeployerSettings, values, runtime="docker", docker_args=words)]))


CONTEXT = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
bus_app = typer.Typer(invoke_without_command=True, no_args_is_help=False)
app.add_typer(bus_app, name="bus", rich_help_panel=SERVICES)


@group(bus_app, "bus", BusSettings, omit=FOR_A_SERVER, own=[CONTEXT])
def bus(values: dict[str, Any]) -> None:
    """Start the embedded bus: nats-server with JetStream on loopback. Subcommands prepare a running nats-server."""
    from services.bus.service import run

    if values["context"].invoked_subcommand is None:
        run(build(BusSettings, values))


@bus_app.command("config")
def bus_config(
    out: Annotated[Path, typer.Option("--out", help="Folder for the secrets of the accounts; existing ones are kept.")],
    auth: Annotated[Way, typer.Option("--auth", help="How accounts sign in.")] = "nkey",
    host: Annotated[list[str], typer.Option("--host", help="Host that gets accounts of its own. Repeatable.")] = [],  # noqa: B006 - typer reads it only
) -> None:
    """Print accounts with least permissions for a running nats-server, and how to use them.

    Example: longshore bus config --out /etc/longshore/nats > longshore.conf
    """
    from services.bus.export import export

    typer.echo(export(out, auth, host), nl=False)


@command(bus_app, "setup", BusSettings, omit=("nats_server", "host", "spool_limit"))
def bus_setup(values: dict[str, Any]) -> None:
    """Create streams, buckets and object stores on a running nats-server, or change their limits.

    Example: longshore bus setup --nats-url nats://nats-1:4222,nats://nats-2:4222 --nats-replicas 3 --max-age 30d
    """
    from services.bus.setup import run

    run(build(BusSettings, values))


@command(app, "proxy", ProxySettings, rich_help_panel=SERVICES)
def proxy(values: dict[str, Any]) -> None:
    """Start the TCP proxy."""
    from services.proxy.service import run

    run(build(ProxySettings, values))


@command(app, "deployer", DeployerSettings, rich_help_panel=SERVICES)
def deployer(values: dict[str, Any]) -> None:
    """Start the deployer of one application."""
    from services.deployer.service import run

    run(build(DeployerSettings, values))


@command(app, "health", HealthSettings, rich_help_panel=SERVICES)
def health(values: dict[str, Any]) -> None:
    """Start the health checks of this host's replicas."""
    from services.health.service import run

    run(build(HealthSettings, values))


@command(app, "gateway", GatewaySettings, rich_help_panel=SERVICES)
def gateway(values: dict[str, Any]) -> None:
    """Start the metrics gateway: /metrics, OTLP and the admin API."""
    from services.metrics_gateway.service import run

    run(build(GatewaySettings, values))


def _read_file(context: typer.Context, file: str) -> str:
    context.default_map = config.defaults(file, COMMANDS)["up"]
    return file


FILE = inspect.Parameter(
    "file",
    inspect.Parameter.KEYWORD_ONLY,
    default=config.FILE,
    annotation=Annotated[
        str, typer.Option("--file", "-f", help="File with the applications.", is_eager=True, callback=_read_file)
    ],
)


@command(app, "up", *SHARED, omit=("listen",), own=[FILE], rich_help_panel=START)
def up(values: dict[str, Any]) -> None:
    """Deliver every application of a file: a table [app.NAME] for each, with the options of `server` as keys.

    On SIGHUP Longshore reads the file again, and starts, stops and restarts only the applications that differ.
    """
    from services.supervisor.main import run

    def plan() -> Plan:
        tables = config.applications(values["file"], APP)
        return _plan(values, [build(DeployerSettings, _runs(table), **_shared(values)) for table in tables.values()])

    run(plan(), plan)


def _runs(table: dict[str, Any]) -> dict[str, Any]:
    """Return an application's options with its runtime: docker for an image, unless the file names one."""
    from_image = str(table.get("registry", "")).startswith("img://")
    return {"runtime": "docker" if from_image else "process"} | table


def _shared(values: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that all services of a host share."""
    return {name: values[name] for name in Settings.__struct_fields__}


def _plan(values: dict[str, Any], deployers: list[DeployerSettings]) -> Plan:
    from services.supervisor.plan import Plan, listens

    for one in deployers:
        one.check_complete()
    return Plan(
        proxy=build(ProxySettings, values, listen=listens(deployers)),
        health=build(HealthSettings, values),
        gateway=build(GatewaySettings, values),
        deployers=deployers,
        nats_server=values["nats_server"],
    )


@app.command(rich_help_panel=START)
def demo(
    once: Annotated[bool, typer.Option("--once", help="End after the scenario.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
) -> None:
    """Run a demo: a release rolls out under traffic, and a broken one rolls back."""
    from services.demo.main import run

    raise typer.Exit(run(once=once, as_json=as_json))


verbs.register(app, verbs, history, logs, verify)
