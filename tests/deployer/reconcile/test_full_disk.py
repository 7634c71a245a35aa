"""A state directory on a disk without room: one line says so, what runs goes on, and all is made up for."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

from schemas.commands import Retry
from schemas.events import DeploymentFailed, DeploymentRolledBack, DeploymentSucceeded, ReplicaExited
from services.common.bus.connection import Bus
from services.deployer.runtime import orphans
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.disk import small_disk
from tests.support.harness import longshore
from tests.support.nats_server import NatsServer
from tests.support.releases import release


@contextlib.contextmanager
def ended(site: Site) -> Iterator[Site]:
    """A site of which no replica is left."""
    try:
        yield site
    finally:
        for replica in site.alive():
            orphans.kill(replica)


async def test_a_deployment_fails_for_want_of_room_and_what_runs_is_kept(
    nats_server: NatsServer, bus: Bus, tmp_path: Path, registry: Path
) -> None:
    with small_disk(tmp_path / "state") as disk, ended(Site(nats_server, bus, disk.folder, registry)) as site:
        async with site.played():
            release(registry, "1.0.0")
            async with site.deployer(replicas=2):
                before = await site.until_serving("1.0.0", 2)
                await site.until(DeploymentSucceeded)
                disk.fill()
                release(registry, "2.0.0")
                failed = await site.until(DeploymentFailed)
                assert failed.reason.startswith("cannot start a process in ")
                assert failed.reason.endswith("No space left on device")
                await site.until(DeploymentRolledBack)
                assert sorted(await site.until_serving("1.0.0", 2)) == sorted(before)
                os.kill(site.pids()[before[0]], signal.SIGKILL)
                await site.until(ReplicaExited)
                await eventually(lambda: site.active() == [before[1]])
                disk.free()
                assert before[1] in await site.until_serving("1.0.0", 2)
                await site.ask(Retry())
                await site.until_serving("2.0.0", 2)
                await site.until(DeploymentSucceeded, 2)


def test_a_start_without_room_says_what_to_do(tmp_path: Path, registry: Path) -> None:
    release(registry, "1.0.0")
    with small_disk(tmp_path / "state") as disk:
        disk.fill()
        done = longshore("server", "--registry", f"dir://{registry}", "--port", "8080", "--state-dir", str(disk.folder))
    assert done.returncode == 1
    assert done.stderr.startswith(f"longshore: --state-dir {disk.folder}: No space left on device")
    assert "make room there" in done.stderr
    assert done.stderr.count("\n") == 1
