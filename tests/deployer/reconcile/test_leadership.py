"""Several deployer processes of one application on one host, each with a state directory: one has it at any time."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from schemas.events import DeploymentStarted, DeploymentSucceeded, ReplicaStarted
from services.deployer.reconcile import leadership
from services.deployer.reconcile.leadership import Leadership
from services.deployer.runtime import orphans
from tests.deployer.site import Site
from tests.deployer.waiting import eventually
from tests.support.patience import patience
from tests.support.releases import release


class Rival:
    """A deployer process with a state directory of its own."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.state_dir = folder
        self.log = folder.with_suffix(".log")
        self._settings = msgspec.json.encode(site.settings(state_dir=str(folder))).decode()

    async def start(self) -> None:
        with self.log.open("ab") as output:
            command = [sys.executable, "-m", "tests.deployer.reconcile.mortal", self._settings, "never"]
            self.process = await asyncio.create_subprocess_exec(*command, stdout=output, stderr=output)

    @property
    def started(self) -> set[str]:
        """The replicas that it ever started."""
        return {path.parent.name for path in self.state_dir.glob("replicas/web/*/started")}

    @property
    def waits(self) -> bool:
        return "another deployer has this application" in self.log.read_text()

    async def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        for replica in self.started:
            orphans.kill(replica)


@pytest.fixture
async def rivals(site: Site, tmp_path: Path) -> AsyncIterator[list[Rival]]:
    """Two that were started in the same instant; the first of them has the application."""
    release(site.registry, "1.0.0")
    both = [Rival(site, tmp_path / name) for name in ("one", "two")]
    await asyncio.gather(*(rival.start() for rival in both))
    try:
        await site.until(DeploymentSucceeded)
        await eventually(lambda: any(rival.waits for rival in both))
        yield sorted(both, key=lambda rival: rival.waits)
    finally:
        await asyncio.gather(*(rival.end() for rival in both))


async def test_of_two_that_start_at_once_one_acts(site: Site, rivals: list[Rival]) -> None:
    holder, waiting = rivals
    assert f"process {holder.process.pid}, --state-dir {holder.state_dir}" in waiting.log.read_text()
    release(site.registry, "2.0.0")
    await site.until(DeploymentSucceeded, 2)
    assert {event.replica for event in site.of(ReplicaStarted)} == holder.started
    assert [event.release for event in site.of(DeploymentStarted)] == ["1.0.0", "2.0.0"]
    assert not waiting.started


async def test_the_one_that_waits_takes_over_when_the_other_is_killed(site: Site, rivals: list[Rival]) -> None:
    holder, waiting = rivals
    holder.process.kill()
    (replica,) = await eventually(lambda: waiting.started)
    await eventually(lambda: site.active() == [replica])
    await holder.start()
    release(site.registry, "2.0.0")
    await site.until(DeploymentSucceeded, 2)
    await eventually(lambda: holder.waits)
    assert len(holder.started) == 1


async def test_a_killed_one_has_it_again_at_once_in_its_state_directory(site: Site, rivals: list[Rival]) -> None:
    holder, waiting = rivals
    await waiting.end()
    holder.process.kill()
    await holder.process.wait()
    await holder.start()
    release(site.registry, "2.0.0")
    await site.until(DeploymentSucceeded, 2)
    assert not holder.waits


async def test_one_that_stood_still_until_another_took_over_changes_nothing_any_more(
    site: Site, rivals: list[Rival]
) -> None:
    holder, waiting = rivals
    holder.process.send_signal(signal.SIGSTOP)
    await eventually(lambda: waiting.started and set(site.active()) <= waiting.started and site.active())
    release(site.registry, "2.0.0")
    await site.until_serving("2.0.0")
    await site.until(DeploymentSucceeded, 2)
    seen, started = len(site.routes), len(holder.started)
    holder.process.send_signal(signal.SIGCONT)
    assert await holder.process.wait() == 1
    assert "web on here was taken over by another deployer" in holder.log.read_text()
    await holder.start()
    await eventually(lambda: holder.waits)
    release(site.registry, "3.0.0")
    await site.until(DeploymentSucceeded, 3)
    routed = {backend.id for route in site.routes[seen:] for backend in route.backends}
    assert routed <= waiting.started
    assert len(holder.started) == started


async def test_a_cloned_machine_does_not_have_what_its_original_has(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = site.settings()
    original = Leadership(site.bus, settings)
    async with asyncio.timeout(patience(30)):
        await original.take()
    successor = Leadership(site.bus, settings)
    await successor._lease.round()
    assert successor.is_held  # what a killed one had
    (tmp_path / "boot_id").write_text("another-boot\n")
    monkeypatch.setattr(leadership, "BOOT_ID", tmp_path / "boot_id")
    shutil.copytree(site.state_dir, tmp_path / "cloned")
    clone = Leadership(site.bus, site.settings(state_dir=str(tmp_path / "cloned")))
    await clone._lease.round()
    assert not clone.is_held
