"""`longshore server`, `container` and `up`: all services in one command."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.bus.settings import BusSettings
from services.cli import CONFIG_FILE, config
from services.cli.commands import START
from services.cli.options import build, command, fields_of
from services.common.config.settings import Settings
from services.common.errors import SettingsError
from services.deployer.settings import DeployerSettings
from services.health.settings import HealthSettings
from services.metrics_gateway.settings import GatewaySettings
from services.proxy.settings import ProxySettings

if TYPE_CHECKING:
    from services.supervisor.plan import Plan

SHARED: tuple[type[Settings], ...] = (ProxySettings, HealthSettings, GatewaySettings, BusSettings)
ALL_IN_ONE: tuple[type[Settings], ...] = (DeployerSettings, *SHARED)
APP = fields_of(DeployerSettings, omit=Settings.__struct_fields__)
CONTAINERS = tuple(name for name, field in APP.items() if field.option.panel == "Containers")

app = typer.Typer()


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


def _read_file(context: typer.Context, file: str) -> str:
    from services.cli.app import options_of_all

    context.default_map = config.defaults(file, options_of_all())["up"]
    return file


FILE = inspect.Parameter(
    "file",
    inspect.Parameter.KEYWORD_ONLY,
    default=CONFIG_FILE,
    annotation=Annotated[
        str, typer.Option("--file", "-f", help="File with the applications.", is_eager=True, callback=_read_file)
    ],
)


@command(app, "up", *SHARED, omit=("listen",), own=[FILE], rich_help_panel=START)
def up(values: dict[str, Any]) -> None:
    """Deliver every application of a file: a table app.NAME for each, with the options of `server` as keys.

    On SIGHUP Longshore reads the file again, and starts, stops and restarts only the applications that differ.
    """
    from services.supervisor.main import run

    def plan() -> Plan:
        return plan_of(values["file"], values)

    run(plan(), plan)


def plan_of(file: str, values: dict[str, Any], report: config.Report = config.refuse) -> Plan:
    """Return the plan of a file with applications; `values` are those of the services. Reports each mistake."""
    deployers = []
    for name, table in config.applications(file, APP, report).items():
        try:
            one = build(DeployerSettings, with_runtime(table), **_shared(values))
            one.check_complete()
            if one.runtime == "docker":
                from services.deployer.runtime.docker import arguments

                arguments.parse(one.docker_args)
            deployers.append(one)
        except SettingsError as error:
            report(config.located(file, name, error))
    return _plan(values, deployers)


def with_runtime(table: dict[str, Any]) -> dict[str, Any]:
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
