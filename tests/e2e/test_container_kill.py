"""kill -9 of each process of Longshore in each phase of a deployment of containers."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import docker
import pytest

from tests.e2e.containers import FIRST, SECOND, UNHEALTHY, Download, Gated
from tests.support.docker_registry import DockerRegistry
from tests.support.harness import Traffic, runs, wait_for, workers

VICTIMS = ("bus", "gateway", "health", "deployer", "proxy", "worker", "supervisor")
PHASES = ("hook", "pull", "check", "drain", "stop", "undo")
HARMLESS = ("bus", "gateway", "health", "deployer")
"""No byte of a client goes through these."""

EVERY = list(itertools.product(VICTIMS, PHASES))
CHOSEN = [(victim, PHASES[(5 * n + 3) % len(PHASES)]) for n, victim in enumerate(VICTIMS)]
"""Each victim once, each phase at least once; all combinations by the variable, where time allows."""


@pytest.fixture
def server(tmp_path: Path, image_registry: DockerRegistry, engine: docker.DockerClient) -> Iterator[Gated]:
    one = Gated(tmp_path, image_registry, engine)
    one.publish(FIRST)
    one.start()
    try:
        yield one
    finally:
        one.release()
        one.stop()
        one.remove_containers()
        print(one.log.read_text())


def kill(server: Gated, victim: str) -> None:
    """Kill a process with -9, and wait until another one has taken its place."""
    if victim == "supervisor":
        orphans = server.children().values()
        server.stop(signal.SIGKILL)
        server.release()  # its proxy ends when its last connection has
        wait_for("the services end with their supervisor", lambda: not any(map(runs, orphans)), 60)
        server.start()
        return
    children = server.children()
    pid = workers(children["proxy"])[0] if victim == "worker" else children[victim]
    os.kill(pid, signal.SIGKILL)
    if victim == "worker":
        wait_for("the worker is gone", lambda: not runs(pid))
    else:
        wait_for("it comes back", lambda: server.children().get(victim, pid) != pid)


@pytest.mark.parametrize(
    ("victim", "phase"), EVERY if os.environ.get("LONGSHORE_TEST_KILLS") == "all" else CHOSEN, ids=str
)
@pytest.mark.timeout(300)
def test_killed_in_a_phase_of_a_deployment_the_app_serves_and_no_container_is_left_over(
    server: Gated, victim: str, phase: str
) -> None:
    wait_for("the first release serves", lambda: server.serves(FIRST), 60)
    with ExitStack() as clients:
        traffic = clients.enter_context(Traffic(server.port, 1))
        server.hold(phase)
        download = clients.enter_context(Download(server.port)) if phase == "drain" else None
        server.publish(UNHEALTHY if phase == "undo" else SECOND)
        server.arrive(phase)
        kill(server, victim)
        server.release()
        last = FIRST if phase == "undo" else SECOND
        wait_for(f"{last} serves alone", lambda: server.serves(last) and server.containers() == [last], 60)
        traffic.wait_for_more(10)
    assert server.outcomes() == ["succeeded", "rolled back" if phase == "undo" else "succeeded"]
    if victim in HARMLESS:
        assert traffic.broken == []
        assert download is None or download.text == "begun\nended\n"
