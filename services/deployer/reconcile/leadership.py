"""Leadership: of several deployers of one application on one host, one leads; the others wait until it ends.

Within one state directory, a file lock decides. Deployers with different state directories meet on the bus, where a
lease decides: it is free when its holder released it, or has not renewed it for a few seconds.
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


class Leadership:
    """The lease of one application on one host. A deployer changes nothing while it does not hold it.

    All deployers that follow each other in a state directory share the holder's name: a new one takes over the lease
    of a killed one at once.
    """

    def __init__(self, bus: Bus, settings: DeployerSettings) -> None:
        self.name = f"{settings.app} on {settings.host}"
        about = f"process {os.getpid()}, --state-dir {Path(settings.state_dir).absolute()}"
        key = subjects.deployer_lease_key(settings.host, settings.app)
        self._bus = bus
        self._lease = Lease(bus, key, holder(settings.state_dir), settings.host, description=about)
        self._log = log.get("deployer")

    @property
    def is_held(self) -> bool:
        """The lease is held by this deployer now."""
        return self._lease.is_held

    @property
    def is_lost(self) -> bool:
        """Another deployer has held the lease since: what this one knows is out of date."""
        return self._lease.is_superseded

    def check(self) -> None:
        """Raise BusError unless this deployer may change something now."""
        if not self.is_held:
            raise BusError(f"the lease of {self.name} is not renewed yet: nothing is changed without it")

    async def take(self, stopping: asyncio.Event | None = None) -> None:
        """Return when the lease is held, or on stop. Raises DeniedError if this account may not write leases."""
        rounds, logged = 0, ""
        while not self.is_held and not (stopping and stopping.is_set()):
            await self._bus.unless_denied(subjects.LEASES, self._lease.round())
            if self.is_held:
                return
            rounds += 1
            problem = self._problem(rounds)
            if problem and problem != logged:
                logged = problem
                self._log.warning(problem, lease=self.name, by=self._lease.other or "none")
            await asyncio.sleep(POLL_INTERVAL)

    async def keep(self) -> None:
        """Renew the lease until it is released. Raises LongshoreError if another deployer has taken it."""
        while not self.is_lost and not self._lease.is_released:
            await self._lease.step()
        if self.is_lost:
            raise LongshoreError(
                f"{self.name} was taken over by another deployer while this one was stopped or cut off "
                f"({self._lease.other or 'gone again'}): start this one again, and it waits for the lease"
            )

    async def release(self) -> None:
        """Release the lease, so that the next deployer need not wait until it expires."""
        await self._lease.release()

    def _problem(self, rounds: int) -> str:
        """Return the reason to log after so many rounds without the lease, empty if it is too early."""
        if self._lease.other:
            return "another deployer has this application on this host: waiting until it ends"
        return "its lease cannot be taken, retrying" if rounds * POLL_INTERVAL > TERM else ""


def holder(state_dir: str) -> str:
    """Return the lease's holder: one name for all deployers that follow each other in a state directory until a reboot.

    A cloned machine has a copy of the directory, and often the same host name; the kernel's boot id is its own.
    """
    return f"{identify(state_dir)}@{BOOT_ID.read_text().strip()}"


async def wait_for_leadership(settings: DeployerSettings) -> None:
    """Return when this deployer holds the lease. Raises BusError if there is no bus.

    The deployer records its start only after that, because its start ends the one before.
    """
    bus = await Bus.connect("deployer", credentials.find(settings, "deployer"), settings.bus_timeout)
    try:
        if settings.nats_url:
            await ensure_streams(bus, limits(settings))
        await Leadership(bus, settings).take()
    finally:
        await bus.close()
