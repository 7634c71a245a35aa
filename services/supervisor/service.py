"""The supervisor: starts the services in order, starts again what dies, stops them in order.

It holds the listening sockets of the proxy, so that no death of a proxy process closes a port.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import urllib.request
from collections.abc import Mapping

import msgspec

from services.bus.server import Server
from services.common import credentials, log, ports
from services.common.bus import Bus
from services.common.environment import own
from services.common.errors import LongshoreError
from services.common.lifecycle import STOP_TIMEOUT
from services.common.processes import SUPERVISED, Child, ended_how
from services.common.provision import limits
from services.common.settings import Settings, arguments, variables
from services.common.state import lock
from services.deployer.service import check
from services.deployer.settings import DeployerSettings
from services.proxy.activation import activated
from services.proxy.listeners import Listener, complete, environment, parse
from services.supervisor.plan import Plan
from services.supervisor.removals import Removals

START_TIMEOUT = 15.0
FIRST_SECONDS = 5.0
DEPLOYER = "deployer "
SECRETS = ("LONGSHORE_REGISTRY_USERNAME", "LONGSHORE_REGISTRY_PASSWORD", "LONGSHORE_NOTIFY_SECRET")
"""Variables that are no options, for deployers: a command line can be read by everyone on the host."""
FOR_US = ("LONGSHORE_", "LISTEN_", "NOTIFY_SOCKET", "WATCHDOG_")
TELEMETRY = ("OTEL_", "GRPC_")
"""Variables by which the gateway's libraries are set up."""


class Supervisor:
    """Everything of one plan. Use `start`, then `until_failed` or other work, then `stop`."""

    def __init__(self, plan: Plan, stderr: int | None = None) -> None:
        """`stderr`: a file descriptor for the services' log lines; None: this process's own."""
        self.plan = plan
        self._stderr = stderr
        self.children: dict[str, Child] = {}
        self.bus = Server(plan.gateway, plan.nats_server)
        self._listeners: list[Listener] = []
        self._resources = contextlib.ExitStack()
        self._ending: list[asyncio.Task[None]] = []
        self._removals = Removals()
        self._is_changed = False
        self._failed: asyncio.Future[LongshoreError] = asyncio.get_running_loop().create_future()
        self._log = log.get("supervisor")

    async def start(self) -> None:
        """Return when everything runs. Raises LongshoreError, with nothing left behind, when something does not."""
        plan = self.plan
        try:
            self._resources.enter_context(lock(plan.state_dir, "supervisor"))
            ports.check_free("--admin-port", plan.gateway.admin_port, plan.gateway.admin_address)
            await self._check(plan.deployers)
            handed = activated(os.environ, os.getpid(), plan.proxy.listen, plan.proxy.workers)
            self._listeners = self._open(plan, handed)
            await self._start_bus()
            await self._start_services()
            await self._until_ready()
            if not plan.gateway.nats_url:  # on a shared bus, they may have deployers of their own
                self._removals.sweep(plan.deployers)
        except BaseException:
            await self.stop()
            raise

    async def stop(self) -> None:
        """End all services, the ones that act first, the log last."""
        await self._removals.end()
        await self._stop(*(name for name in self.children if name.startswith(DEPLOYER)))
        for listener in self._listeners:  # before the proxy: a client that nobody will serve is to be refused
            listener.close()
        await self._stop("health", "proxy")
        await asyncio.gather(*self._ending)
        await self._stop("gateway")
        await self.bus.stop()
        self._resources.close()

    async def change(self, plan: Plan) -> None:
        """Change to another plan: start, stop and restart only what differs. Raises LongshoreError before it does.

        Only applications and their ports can change; what else differs waits for the next start.
        """
        before = {deployer.app: deployer for deployer in self.plan.deployers}
        after = {deployer.app: deployer for deployer in plan.deployers}
        changed = [deployer for app, deployer in after.items() if before.get(app) != deployer]
        await self._check(changed)
        proxy = msgspec.structs.replace(self.plan.proxy, listen=plan.proxy.listen)
        self.plan, former = msgspec.structs.replace(self.plan, deployers=plan.deployers, proxy=proxy), self.plan
        try:
            listeners = self._open(self.plan, self._listeners)
        except LongshoreError:
            self.plan = former
            raise
        self._is_changed = True
        gone = [app for app in before if app not in after]
        await self._stop(*(DEPLOYER + app for app in [*gone, *(deployer.app for deployer in changed)]))
        if [one.binding for one in listeners] != [one.binding for one in self._listeners]:
            await self._hand_over(listeners)
        await self._removals.end(after)
        for app in gone:
            self._removals.begin(before[app])
        for deployer in changed:
            await self._start(DEPLOYER + deployer.app, "deployer", deployer)

    async def until_failed(self) -> None:
        """Run until a service turns out not to be startable, and raise that."""
        raise await self._failed

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

    def _open(self, plan: Plan, given: list[Listener]) -> list[Listener]:
        """The listeners of a plan: those that are open already, and new ones."""
        kept = {listener.binding for listener in given}
        for binding in map(parse, plan.proxy.listen):
            if binding not in kept:
                ports.check_free("--port", binding.port, binding.address)
        return complete(given, plan.proxy.listen, plan.proxy.workers)

    async def _hand_over(self, listeners: list[Listener]) -> None:
        """Start a proxy for these listeners; the one before finishes the connections that it has."""
        former = self.children.pop("proxy")
        closed = [listener for listener in self._listeners if listener not in listeners]
        self._listeners = listeners
        await self._start("proxy", "proxy", self.plan.proxy, listeners)
        ending = asyncio.create_task(former.stop(self.plan.proxy.drain_time + STOP_TIMEOUT))
        self._ending = [one for one in self._ending if not one.done()] + [ending]
        for listener in closed:
            listener.close()

    async def _stop(self, *names: str) -> None:
        children = [self.children.pop(name) for name in names if name in self.children]
        await asyncio.gather(*(child.stop(self.plan.proxy.drain_time + STOP_TIMEOUT) for child in children))

    async def _start_services(self) -> None:
        plan = self.plan
        await self._start("gateway", "gateway", plan.gateway)
        await self._start("health", "health", plan.health)
        await self._start("proxy", "proxy", plan.proxy, self._listeners)
        for deployer in plan.deployers:
            await self._start(DEPLOYER + deployer.app, "deployer", deployer)

    async def _start(
        self, name: str, command: str, settings: Settings, listeners: list[Listener] | None = None
    ) -> None:
        self.children[name] = Child(
            name,
            [sys.executable, "-P", "-m", "services.cli.main", command, *arguments(settings)],
            child_environment(command, os.environ, listeners or []) | variables(settings),
            [fd for listener in listeners or [] for fd in listener.fds],
            self._on_exit,
            self._stderr,
            has_pulse=True,
        )
        await self.children[name].start(is_patient=self._is_changed)

    async def _until_ready(self) -> None:
        """Wait for the gateway, which is ready when it has read the log."""
        url = f"{self.plan.admin_url}/healthz/ready"
        loop = asyncio.get_running_loop()
        deadline = loop.time() + START_TIMEOUT
        while not await asyncio.to_thread(answers, url):
            if self._failed.done():
                raise self._failed.result()
            if loop.time() > deadline:
                self._log.warning("the gateway is still reading the log", url=url)
                return
            await asyncio.sleep(0.05)

    def _on_exit(self, child: Child, code: int) -> bool:
        """A service that gives up by itself right after its first start has wrong settings: do not start it again.

        One of a plan that was changed to is tried on: the others are not to end for its sake.
        """
        if self._is_changed or child.restarts or child.uptime > FIRST_SECONDS or code not in (1, 2):
            return True
        if not self._failed.done():
            self._failed.set_result(
                LongshoreError(f"{child.name} does not start: {ended_how(code)}, see its message above")
            )
        return False


def child_environment(service: str, environ: Mapping[str, str], listeners: list[Listener]) -> dict[str, str]:
    """What a service needs of our environment. No variable or file may add to the settings that it is given.

    A deployer passes on variables that the user names, and asks programs that read others (credential helpers), so it
    gets all but those for ourselves.
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
    """Whether a URL of this host answers 2xx."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=1):
            return True
    except OSError:
        return False
