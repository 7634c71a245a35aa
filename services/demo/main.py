"""Start the services, run the scenario, print the result, and keep running until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
import sys
import tempfile
from pathlib import Path

import msgspec
from rich.console import Console

from services.client.client import Client, Target, connect
from services.common import log
from services.common.errors import LongshoreError
from services.demo import releases
from services.demo.client import TrafficClient
from services.demo.scenario import Summary, play
from services.demo.story import DemoState
from services.demo.view import show
from services.deployer.settings import DeployerSettings
from services.health.settings import HealthSettings
from services.metrics_gateway.settings import GatewaySettings
from services.proxy.settings import ProxySettings
from services.supervisor.plan import Plan, listens
from services.supervisor.service import Supervisor

PROXY_PORT, ADMIN_PORT = 8080, 17539
FAILED, INTERRUPTED = 1, 130
LOG = "longshore.log"


def run(once: bool, as_json: bool) -> int:
    """Run the demo; return its exit code: 1, with the logs kept, if a request failed or a count disagrees."""
    log.configure("text", "error")
    directory = Path(tempfile.mkdtemp(prefix="longshore-demo-"))
    try:
        code = asyncio.run(_run(directory, once, as_json))
    except LongshoreError as error:
        raise LongshoreError(f"{error}; the services' log is in {directory / LOG}") from None
    if code == FAILED:
        print(f"The services' log is in {directory / LOG}", file=sys.stderr)
    else:
        shutil.rmtree(directory, ignore_errors=True)
    return code


async def _run(directory: Path, once: bool, as_json: bool) -> int:
    demo = asyncio.create_task(_run_services(directory, once, as_json))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, demo.cancel)
    try:
        return await demo
    except asyncio.CancelledError:
        return INTERRUPTED


async def _run_services(directory: Path, once: bool, as_json: bool) -> int:
    console = Console(stderr=as_json)
    releases.publish(directory / "releases", releases.FIRST)
    plan = _plan(directory)
    with (directory / LOG).open("ab") as errors:
        supervisor = Supervisor(plan, errors.fileno())
        console.print("Starting the bus, proxy, deployer, health checks and metrics gateway ...")
        await supervisor.start()
        try:
            summary = await _play(plan, directory / "releases", console)
            _report(summary, plan, console, as_json)
            if not once:
                await _keep_running(console)
        finally:
            await supervisor.stop()
    return FAILED if summary.problems else 0


async def _play(plan: Plan, registry: Path, console: Console) -> Summary:
    client, state = TrafficClient(_port(plan)), DemoState()
    async with connect(Target(state_dir=plan.state_dir)) as running:
        helpers = [
            asyncio.create_task(_follow(running, state)),
            asyncio.create_task(show(console, state, client.traffic)),
        ]
        scenario = asyncio.create_task(play(registry, client, state, f"{plan.admin_url}/metrics"))
        try:
            await asyncio.wait({scenario, *helpers}, return_when=asyncio.FIRST_COMPLETED)
            for helper in helpers:
                if helper.done():
                    helper.result()
            return await scenario
        finally:
            for task in (scenario, *helpers):
                task.cancel()
            await asyncio.gather(scenario, *helpers, return_exceptions=True)


async def _follow(client: Client, state: DemoState) -> None:
    """Fold the events. Raises LongshoreError when the log cannot be followed: the scenario would wait in vain."""
    try:
        async for recorded in client.events(1):
            await state.add(recorded.event)
    except Exception as error:
        raise LongshoreError(f"the demo cannot follow the event log: {error or type(error).__name__}") from error
    raise LongshoreError("the demo cannot follow the event log: the bus has closed it")


def _report(summary: Summary, plan: Plan, console: Console, as_json: bool) -> None:
    if as_json:
        print(msgspec.json.encode(summary).decode(), flush=True)
    console.print(
        f"{summary.requests} requests, {summary.failed_requests} failed; {summary.deployments} deployments, "
        f"{summary.rollbacks} rolled back; {summary.events} events; {summary.connections_made} connections made, "
        f"{summary.connections_counted} counted; {summary.duration_seconds:.1f} s",
        f"Proxy: http://127.0.0.1:{_port(plan)}/  metrics: {plan.admin_url}/metrics",
        *(f"WRONG: {problem}" for problem in summary.problems),
        sep="\n",
        highlight=False,
        soft_wrap=True,
    )


async def _keep_running(console: Console) -> None:
    console.print("The services keep running until Ctrl-C.")
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()


def _plan(directory: Path) -> Plan:
    """Return a plan on loopback, in a folder of its own, with times short enough to watch."""
    state = str(directory / "state")
    deployer = DeployerSettings(
        state_dir=state,
        log_level="warning",
        app="demo",
        registry=f"dir://{directory / 'releases'}",
        port=[str(_free_port(PROXY_PORT))],
        replicas=2,
        interval=0.5,
        health_path="/health",
        health_timeout=5.0,
        probe_interval=0.5,
        drain_time=10.0,
        stop_containers=True,
    )
    return Plan(
        proxy=ProxySettings(
            state_dir=state,
            log_level="warning",
            listen=[listen.replace("=", "=127.0.0.1:") for listen in listens([deployer])],
            workers=2,
        ),
        health=HealthSettings(state_dir=state, log_level="warning"),
        gateway=GatewaySettings(
            state_dir=state, log_level="warning", admin_port=_free_port(ADMIN_PORT), telemetry=True
        ),
        deployers=[deployer],
    )


def _port(plan: Plan) -> int:
    return int(plan.deployers[0].port[0])


def _free_port(wanted: int) -> int:
    """Return the port that the documents name, or another one if a program has it."""
    for port in (wanted, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
            found: int = probe.getsockname()[1]
            return found
    raise LongshoreError("no free port on 127.0.0.1: end some of the programs that listen there")
