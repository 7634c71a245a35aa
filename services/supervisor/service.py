"""The supervisor: it starts the services in order, restarts those that die, and stops them in order.

It holds the listening sockets of the proxy, so that its ports stay open when a proxy process dies.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import urllib.request
from collections.abc import Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from services.bus.server import Server
from services.common import log
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.config.settings import Settings, arguments, variables
from services.common.errors import LongshoreError
from services.common.jetstream.provisioning import limits
from services.common.process import ports
from services.common.process.child import SUPERVISED, Child, describe_exit
from services.common.process.environment import own
from services.common.process.lifecycle import STOP_TIMEOUT
from services.common.process.own_module import own_module
from services.common.process.state_lock import lock
from services.deployer.runtime import ports as replica_ports
from services.deployer.service import check
from services.deployer.settings import DeployerSettings
from services.proxy.sockets.listeners import Listener, environment
from services.supervisor.plan import Plan
from services.supervisor.removals import Removals
from services.supervisor.sockets import Sockets

START_TIMEOUT = 15.0
"""Seconds after which Longshore is ready anyway: a long log takes longer to read, and clients are served meanwhile."""

FIRST_SECONDS = 5.0
"""Seconds after the start in which a service that exits by itself is taken to have wrong settings."""

DEPLOYER = "deployer "
SECRETS = ("LONGSHORE_REGISTRY_USERNAME", "LONGSHORE_REGISTRY_PASSWORD", "LONGSHORE_NOTIFY_SECRET")
"""Secret variables of deployers. They are no options: everyone on the host can read a command line."""
FOR_US = ("LONGSHORE_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")
TELEMETRY = ("OTEL_", "GRPC_")
"""Variables that configure the libraries of the gateway."""


class Supervisor:
    """Runs a plan. Use `start`, then `until_failed` or other work, then `stop`."""

    def __init__(self, plan: Plan, stderr: int | None = None) -> None:
        """`stderr`: a file descriptor for the log lines of the services; None: that of this process."""
        self.plan = plan
        self._stderr = stderr
        self.children: dict[str, Child] = {}
        self.bus = Server(plan.gateway, plan.nats_server)
        self._sockets = Sockets()
        self._resources = contextlib.ExitStack()
        self._ending: set[asyncio.Task[None]] = set()
        self._removals = Removals()
        self._is_changed = False
        self._trial_ends: float | None = None
        self._failed: asyncio.Future[LongshoreError] = asyncio.get_running_loop().create_future()
        self._log = log.get("supervisor")

    async def start(self) -> None:
        """Start all services, and return when they run. Raises LongshoreError, with all stopped, when one does not."""
        plan = self.plan
        try:
            self._resources.enter_context(lock(plan.state_dir, "supervisor"))
            ports.check_free("--admin-port", plan.gateway.admin_port, plan.gateway.admin_address)
            await self._check(plan.deployers)
            self._reserve_ports()
            self._sockets.take()
            self._sockets.change(self._sockets.open(plan.proxy.listen, plan.proxy.workers))
            await self._start_bus()
            await self._start_services()
            await self._until_ready()
            if not plan.gateway.nats_url:  # on a shared bus, other applications may have deployers of their own
                self._removals.sweep(plan.deployers)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Stop all services: the deployers, which act, first, and the bus with the log last."""
        self._removals.hurry()
        await self._stop(DEPLOYER)
        await self._removals.end()
        self._sockets.close()  # before the proxy: a client that no worker will serve is refused
        await self._stop("health", "proxy")
        await self._stop("gateway")
        await self.bus.stop()
        self._resources.close()

    async def change(self, plan: Plan) -> None:
        """Change to another plan: start, stop and restart only what differs. Raises LongshoreError before any change.

        Only applications and their ports can change; other differences wait for the next start. Services that are no
        longer in the plan stop last, and in the background. It can be cancelled at any time: `stop` ends all services.
        """
        before = {deployer.app: deployer for deployer in self.plan.deployers}
        wanted = {DEPLOYER + deployer.app: deployer for deployer in plan.deployers}
        changed = [
            deployer
            for name, deployer in wanted.items()
            if before.get(deployer.app) != deployer or name not in self.children
        ]
        await self._check(changed)
        proxy = msgspec.structs.replace(self.plan.proxy, listen=plan.proxy.listen)
        after = msgspec.structs.replace(self.plan, deployers=plan.deployers, proxy=proxy)
        # Those of applications that leave stay reserved, since their deployers still run.
        replica_ports.reserve(Path(after.state_dir), after.ports | self.plan.ports)
        listeners = self._sockets.open(proxy.listen, proxy.workers)
        self.plan = after
        self._is_changed = True
        if [one.binding for one in listeners] != [one.binding for one in self._sockets.listeners]:
            await self._hand_over(listeners)
        self._removals.hurry(deployer.app for deployer in plan.deployers)
        await self._removals.end(deployer.app for deployer in plan.deployers)
        async with asyncio.TaskGroup() as replacing:
            for deployer in changed:
                replacing.create_task(self._replace(deployer))
        for name in [name for name in self.children if name.startswith(DEPLOYER) and name not in wanted]:
            if former := before.get(name.removeprefix(DEPLOYER)):
                timeout = self.plan.proxy.drain_time + STOP_TIMEOUT
                removal = self._removals.by_deployer(former, self.children.pop(name), timeout)
                ending = self._track(name, removal)
                ending.add_done_callback(partial(self._ended_for_good, former))
            else:
                self._retire(name)

    def _ended_for_good(self, deployer: DeployerSettings, _ending: asyncio.Task[None]) -> None:
        """Remove an application from the host when its deployer has ended, unless it is back in the plan."""
        if deployer.app not in {one.app for one in self.plan.deployers}:
            self._removals.begin(deployer)

    async def until_failed(self) -> None:
        """Wait until a service fails to start, and raise its error."""
        raise await self._failed

    def _reserve_ports(self) -> None:
        """Keep the ports of the plan from replicas, before a deployer of the plan starts one."""
        replica_ports.reserve(Path(self.plan.state_dir), self.plan.ports)

    async def _start_bus(self) -> None:
        settings = self.plan.gateway
        if not settings.nats_url:
            await self.bus.start()
            return
        limits(settings)
        found = [credentials.find(settings, service) for service in ("deployer", "health", "proxy", "gateway")]
        bus = await Bus.connect("supervisor", found[-1], settings.bus_timeout)
        await bus.close()

    async def _check(self, deployers: list[DeployerSettings]) -> None:
        for deployer in deployers:
            await asyncio.to_thread(check, deployer)

    async def _hand_over(self, listeners: list[Listener]) -> None:
        """Start a proxy for these listeners; the previous one finishes its open connections."""
        closed = self._sockets.change(listeners)
        former = self.children.pop("proxy")
        try:
            await self._start("proxy", "proxy", self.plan.proxy, listeners)
        finally:
            self._end("proxy", former)
            for listener in closed:
                listener.close()

    async def _replace(self, deployer: DeployerSettings) -> None:
        """Start a deployer after the previous one of the same application has ended."""
        await self._stop(DEPLOYER + deployer.app, is_whole=True)
        await self._start(DEPLOYER + deployer.app, "deployer", deployer)

    def _retire(self, name: str) -> asyncio.Task[None]:
        """Stop a service in the background; `_stop` waits for it."""
        return self._end(name, self.children.pop(name))

    def _end(self, name: str, child: Child) -> asyncio.Task[None]:
        return self._track(name, child.stop(self.plan.proxy.drain_time + STOP_TIMEOUT))

    def _track(self, name: str, stopping: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run the end of a service in the background; `_stop` waits for it."""
        ending = asyncio.create_task(stopping, name=name)
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        return ending

    async def _stop(self, *names: str, is_whole: bool = False) -> None:
        """Stop the services with these prefixes (`is_whole`: names), and wait for them and for those that stop already.

        They stop even when the wait is cancelled.
        """

        def is_meant(name: str) -> bool:
            return name in names if is_whole else name.startswith(names)

        for name in [name for name in self.children if is_meant(name)]:
            self._retire(name)
        if ending := [task for task in self._ending if is_meant(task.get_name())]:
            await asyncio.wait(ending)

    async def _start_services(self) -> None:
        plan = self.plan
        await self._start("gateway", "gateway", plan.gateway)
        await self._start("health", "health", plan.health)
        await self._start("proxy", "proxy", plan.proxy, self._sockets.listeners)
        for deployer in plan.deployers:
            await self._start(DEPLOYER + deployer.app, "deployer", deployer)

    async def _start(
        self, name: str, command: str, settings: Settings, listeners: list[Listener] | None = None
    ) -> None:
        self.children[name] = Child(
            name,
            own_module("cli.main", command, *arguments(settings)),
            child_environment(command, os.environ, listeners or []) | variables(settings),
            [fd for listener in listeners or [] for fd in listener.fds],
            self._on_exit,
            self._stderr,
            has_watchdog=True,
        )
        await self.children[name].start(retry_start=self._is_changed)

    async def _until_ready(self) -> None:
        """Wait for the first watchdog ping of every service, and for the gateway to have read the log."""
        url = f"{self.plan.admin_url}/healthz/ready"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT
        while not (self._all_live() and await asyncio.to_thread(answers, url)):
            if self._failed.done():
                raise self._failed.result()
            if loop.time() > deadline:
                silent = ", ".join(name for name, child in self.children.items() if not child.is_live)
                self._log.warning("not ready yet, continuing", starting=silent or "none", url=url)
                break
            await asyncio.sleep(0.05)
        self._trial_ends = loop.time() + FIRST_SECONDS

    def _all_live(self) -> bool:
        return all(child.is_live for child in self.children.values())

    def _on_exit(self, child: Child, code: int) -> bool:
        """Return whether to restart a service. One that exits right after the start has wrong settings: fail then.

        After a reload it is restarted: the other services must not stop because of it.
        """
        is_trial = self._trial_ends is None or asyncio.get_running_loop().time() < self._trial_ends
        if self._is_changed or child.restarts or not is_trial or code not in (1, 2):
            return True
        if not self._failed.done():
            self._failed.set_result(
                LongshoreError(f"{child.name} does not start: {describe_exit(code)}, see its message above")
            )
        return False


def child_environment(service: str, environ: Mapping[str, str], listeners: list[Listener]) -> dict[str, str]:
    """Return the environment of a service. No variable or file may add to the settings that it is given.

    A deployer passes on variables that the user names, and runs programs that read others (credential helpers), so it
    gets all except those for Longshore itself.
    """
    if service == "deployer":
        result = {name: value for name, value in environ.items() if name in SECRETS or not name.startswith(FOR_US)}
    else:
        result = own(environ, TELEMETRY if service == "gateway" else ())
    result |= {"LONGSHORE_CONFIG": os.devnull, SUPERVISED: "1"}
    if listeners:
        result["LONGSHORE_LISTEN_FDS"] = environment(listeners)
    return result


def answers(url: str) -> bool:
    """Return whether a URL of this host answers 2xx."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=1):
            return True
    except OSError:
        return False
