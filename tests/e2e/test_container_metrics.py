"""The series of containers, as newer versions of Dewy name them, against what the engine itself says."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import docker
import pytest

from tests.e2e.containers import FIRST, Containers
from tests.support import images
from tests.support.docker_registry import DockerRegistry
from tests.support.harness import wait_for
from tests.support.metrics_receiver import Scrape, scraped

SCRIPT = f"trap 'exit 0' TERM; httpd -f -p 8080 -h /www & while ! test -e /tmp/now; do sleep 0.1; done; {images.HUNGRY}"
"""Takes all the memory that there is once it is told to."""


@pytest.fixture
def server(tmp_path: Path, image_registry: DockerRegistry) -> Iterator[Containers]:
    image = f"{image_registry.host}/measured"
    images.publish(image_registry.host, "measured", FIRST, SCRIPT)
    one = Containers(tmp_path, image, "--replicas=2", "--stop-containers", "--", "--memory=16m")
    one.start()
    yield one
    one.stop()


RESTARTS = "longshore_replica_restarts_total"


def scrape(one: Containers) -> Scrape:
    try:
        with urllib.request.urlopen(one.metrics_url, timeout=5) as answer:
            return scraped(answer.read().decode())
    except OSError:
        return {}


def by_container(one: Containers, name: str, **labels: str) -> dict[str, float]:
    found = [(dict(key), value) for key, value in scrape(one).get(f"dewy_container_{name}", {}).items()]
    return {key["container"]: value for key, value in found if labels.items() <= key.items()}


def test_what_is_told_of_containers_is_what_the_engine_says(server: Containers, engine: docker.DockerClient) -> None:
    wait_for("it serves", lambda: server.serves(FIRST))
    names = {one["id"] for one in server.status()["replicas"]}
    containers = {name: engine.containers.get(name) for name in names}
    wait_for("both are told", lambda: set(by_container(server, "started_timestamp_seconds")) == names)
    began = {
        name: datetime.fromisoformat(one.attrs["State"]["StartedAt"][:26] + "+00:00")
        for name, one in containers.items()
    }
    for name, moment in by_container(server, "started_timestamp_seconds").items():
        assert moment == pytest.approx(began[name].timestamp(), abs=5)
    image = f"{server.arguments()[2].removeprefix('img://')}:{FIRST}"
    assert by_container(server, "info", version=FIRST, image=image, app="web") == dict.fromkeys(names, 1)
    assert by_container(server, "status", state="running") == dict.fromkeys(names, 1)
    assert by_container(server, "restarts") == dict.fromkeys(names, 0)
    assert list(scrape(server)["dewy_container_desired_replicas"].values()) == [2]
    assert by_container(server, "oom_killed") == by_container(server, "last_terminated_exit_code") == {}
    lost = sorted(names)[0]
    containers[lost].exec_run("touch /tmp/now", detach=True)
    wait_for("its end is told", lambda: by_container(server, "last_terminated_exit_code") == {lost: 137})
    assert by_container(server, "oom_killed") == {lost: 1}
    assert by_container(server, "status", state="exited")[lost] == 1
    wait_for("it is replaced", lambda: sum(by_container(server, "status", state="running").values()) == 2)
    wait_for("that is a restart of a replica", lambda: sum(scrape(server)[RESTARTS].values()) == 1)
    assert set(by_container(server, "restarts").values()) == {0}  # the engine restarted no container
