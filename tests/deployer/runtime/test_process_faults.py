"""Replicas as real processes, where something is missing or in the way."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import threading
from pathlib import Path

import pytest

from services.common.errors import ReleaseError
from services.deployer.runtime import orphans
from tests.deployer.runtime.process_host import Host
from tests.deployer.waiting import eventually
from tests.support.releases import PYTHON, SERVER, release


async def test_a_deployer_without_descriptors_cannot_start_a_replica_and_goes_on(host: Host) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    release(host.registry, "1.0.0", SERVER)
    used = {int(name) for name in os.listdir("/proc/self/fd")}  # noqa: PTH208 # pathlib's would be one more open
    for room in range(12):  # from none on: each open is the one that fails
        resource.setrlimit(resource.RLIMIT_NOFILE, (len(used) + room, hard))
        try:
            with contextlib.suppress(ReleaseError):
                await host.start(SERVER, f"web-1-{room}-x")
                host.runtime.stop(f"web-1-{room}-x", 0.1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await eventually(lambda: not [room for room in range(12) if [*orphans.find(f"web-1-{room}-x")]])
    await host.start(SERVER)


async def test_the_search_for_what_a_replica_left_behind_stops_nothing_else(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    turned = threading.Event()
    waited: list[bool] = []
    monkeypatch.setattr(orphans, "kill", lambda _: waited.append(turned.wait(20)))
    await host.start("#!/bin/sh\nexit 0\n")
    await eventually(lambda: not host.folder().is_alive)
    asyncio.get_running_loop().call_later(0.2, turned.set)
    await host.exit()
    assert waited == [True]


async def test_a_replica_of_another_user_is_left_alone(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    await host.start(SERVER)
    host.runtime.close()
    host.restart()
    send = signal.pidfd_send_signal

    def refused(descriptor: int, number: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(signal, "pidfd_send_signal", refused)
    assert await host.runtime.adopt() == []
    monkeypatch.setattr(signal, "pidfd_send_signal", send)
    assert len(await host.runtime.adopt()) == 1
    host.runtime.stop("web-1-0-x", 0.1)
    await host.exit()


async def test_a_relative_state_directory_is_as_good_as_any(
    state_dir: Path, registry: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(state_dir.parent)
    host = Host(Path("relative"), registry)
    try:
        await host.start(PYTHON + "print('here')")
        assert (await host.exit()).code == 0
        assert host.folder().output.read_text() == "here\n"
    finally:
        host.runtime.close()
