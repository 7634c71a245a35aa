"""Of several deployers of one application on one host, one has it; the others wait for its end.

In one state directory a lock decides that. Deployers with state directories of their own meet on the bus, where a
lease decides: it is free when it is given back, or was not renewed for a few seconds.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from schemas import subjects
from services.common import log
from services.common.bus import credentials
from services.common.bus.connection import Bus
from services.common.errors import BusError, LongshoreError
from services.common.jetstream.lease import POLL_INTERVAL, TERM, Lease
from services.common.jetstream.provisioning import ensure_streams, limits
from services.deployer.identity import identify
from services.deployer.settings import DeployerSettings

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Tenure:
    """That this deployer has the application. It changes nothing while it has not.

    It is one and the same for all deployers that follow each other in a state directory: a new one has at once what a
    killed one had.
    """

    def __init__(self, bus: Bus, settings: DeployerSettings) -> None:
        self.what = f"{settings.app} on {settings.host}"
        about = f"process {os.getpid()}, --state-dir {Path(settings.state_dir).absolute()}"
        key = subjects.deployer_lease_key(settings.host, settings.app)
        self._bus = bus
        self._lease = Lease(bus, key, holder(settings.state_dir), settings.host, description=about)
        self._log = log.get("deployer")

    @property
    def is_held(self) -> bool:
        return self._lease.is_held

    @property
    def is_lost(self) -> bool:
        """Somebody else has had it since: what we know is out of date."""
        return self._lease.is_superseded

    def check(self) -> None:
        """Raises BusError unless we may change something now."""
        if not self.is_held:
            raise BusError(f"the lease of {self.what} is not renewed yet: nothing is changed without it")

    async def take(self, stopping: asyncio.Event | None = None) -> None:
        """Return when we have it, or are to stop. Raises DeniedError when this account may not write leases."""
        rounds, told = 0, ""
        while not self.is_held and not (stopping and stopping.is_set()):
            await self._bus.unless_denied(subjects.LEASES, self._lease.round())
            if self.is_held:
                return
            rounds += 1
            problem = self._problem(rounds)
            if problem and problem != told:
                told = problem
                self._log.warning(problem, app=self.what, by=self._lease.other or "nobody")
            await asyncio.sleep(POLL_INTERVAL)

    async def keep(self) -> None:
        """Renew it until it is given back. Raises LongshoreError when somebody else has taken it."""
        while not self.is_lost and not self._lease.is_released:
            await self._lease.step()
        if self.is_lost:
            raise LongshoreError(
                f"{self.what} was taken over by another deployer while this one was stopped or cut off "
                f"({self._lease.other or 'gone again'}): start it anew, and it waits for its turn"
            )

    async def give_back(self) -> None:
        """End it, so that the next one need not wait."""
        await self._lease.release()

    def _problem(self, rounds: int) -> str:
        """What there is to say after so many rounds in vain."""
        if self._lease.other:
            return "another deployer has this application on this host: waits for its end"
        return "its lease cannot be taken, trying on" if rounds * POLL_INTERVAL > TERM else ""


def holder(state_dir: str) -> str:
    """The lease's holder: all deployers that follow each other in a state directory, for as long as the machine runs.

    A cloned machine has a copy of the directory, and often the same host name; the kernel's boot id is its own.
    """
    return f"{identify(state_dir)}@{BOOT_ID.read_text().strip()}"


async def wait_for_turn(settings: DeployerSettings) -> None:
    """Return when we have the application. Raises BusError when there is no bus.

    Until then nobody is told that this deployer has started: its start ends the one before.
    """
    bus = await Bus.connect("deployer", credentials.find(settings, "deployer"), settings.bus_timeout)
    try:
        if settings.nats_url:
            await ensure_streams(bus, limits(settings))
        await Tenure(bus, settings).take()
    finally:
        await bus.close()
