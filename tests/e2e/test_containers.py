"""`longshore container` on a real engine, with images of a real registry, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import docker
import pytest

from services.deployer.runtime.docker.engine import url as engine_url
from tests.e2e.containers import FIRST, SECOND, Containers
from tests.support import images
from tests.support.docker_registry import DockerRegistry
from tests.support.harness import wait_for

DEPLOYMENTS = int(os.environ.get("LONGSHORE_TEST_DEPLOYMENTS", "4"))
"""Enough to see each image follow the other; more by the variable, where time allows."""
LINES = 15
SLOW = f"""
busybox mkdir -p /www/cgi-bin
cat > /www/cgi-bin/slow <<'END'
#!/bin/sh
echo Content-Type: text/plain
echo
i=0
while [ $i -lt {LINES} ]; do echo "line $i of a long download"; sleep 0.2; i=$((i+1)); done
END
busybox chmod +x /www/cgi-bin/slow
"""


class Download(threading.Thread):
    """A download that takes about three seconds, from before a deployment to after it."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self.lines = 0
        self.begun = threading.Event()
        self._url = f"http://127.0.0.1:{port}/cgi-bin/slow"
        self.start()
        assert self.begun.wait(20)

    def run(self) -> None:
        with urllib.request.urlopen(self._url, timeout=60) as answer:
            for _ in answer:
                self.lines += 1
                self.begun.set()


@pytest.fixture
def server(tmp_path: Path, image_registry: DockerRegistry, engine: docker.DockerClient) -> Iterator[Containers]:
    registry = image_registry.host
    for release in (FIRST, SECOND):
        images.publish(registry, "web", release, SLOW + images.SERVE)
    one = Containers(tmp_path, f"{registry}/web", "--replicas", "3", "--workers", "2", "--stop-containers")
    one.start()
    yield one
    one.stop()
    left = engine.containers.list(all=True, filters={"label": "longshore.app=web"})
    assert [one.name for one in left if registry in one.attrs["Config"]["Image"]] == []


@pytest.mark.timeout(600)
def test_deployments_in_a_row_lose_no_request_and_cut_no_download(server: Containers) -> None:
    wait_for("the newest release serves", lambda: server.serves(SECOND))
    url = f"http://127.0.0.1:{server.port}/"
    fresh = ["wrk", "-t1", "-c4", "-d10m", "-H", "Connection: close", url]
    kept = ["wrk", "-t1", "-c4", "-d10m", url]
    loads = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in (fresh, kept)]
    try:
        for number in range(DEPLOYMENTS):
            download = Download(server.port)
            deployed = server.verb("deploy", (FIRST, SECOND)[number % 2])
            assert deployed.returncode == 0, deployed.stderr
            download.join(60)
            assert download.lines == LINES
    finally:
        for load in loads:
            load.send_signal(signal.SIGINT)
        reports = [load.communicate(timeout=60)[0] for load in loads]
    for report in reports:
        assert "Socket errors" not in report, report
        assert "Non-2xx" not in report, report
        assert int(re.findall(r"(\d+) requests in", report)[0]) > 0
    assert server.serves(SECOND)
    outcomes = [line.split()[4] for line in server.verb("history").stdout.splitlines()[1:]]
    assert len(outcomes) == DEPLOYMENTS + 1


def test_a_killed_container_is_ejected_before_a_second_connection_fails(
    server: Containers, engine: docker.DockerClient
) -> None:
    wait_for("it serves", lambda: server.serves(SECOND))
    victim = server.status()["replicas"][0]["id"]
    failed = 0
    engine.containers.get(victim).kill("KILL")
    for _ in range(100):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=20) as answer:
                answer.read()
        except OSError:
            failed += 1
    assert failed <= 1
    wait_for("it is replaced", lambda: victim not in str(server.status()) and len(server.status()["replicas"]) == 3)


def test_a_deployer_that_is_started_again_while_the_engine_is_away_goes_on_when_that_is_back(
    tmp_path: Path, image_registry: DockerRegistry, engine: docker.DockerClient
) -> None:
    image, way = f"{image_registry.host}/engine-away", tmp_path / "engine"
    socket = urlsplit(engine_url("")).path
    way.symlink_to(socket)
    images.publish(image_registry.host, "engine-away", FIRST)
    server = Containers(tmp_path, image, "--docker-host", f"unix://{way}", "--stop-containers")
    server.start()
    try:
        wait_for("it serves", lambda: server.serves(FIRST))
        before = server.status()["replicas"]
        way.unlink()
        os.kill(server.children()["deployer"], signal.SIGKILL)
        wait_for("that is told", lambda: "no container engine answers at" in server.log.read_text())
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/", timeout=20) as answer:
            assert answer.read().decode() == FIRST
        way.symlink_to(socket)
        wait_for("a deployer answers", lambda: server.verb("resume").returncode == 0)
        assert server.status()["replicas"] == before
        images.publish(image_registry.host, "engine-away", SECOND)
        wait_for("the next release serves", lambda: server.serves(SECOND), 60)
    finally:
        server.stop()
