"""The words after `--` have the effect that they have behind `docker run`, as the engine describes the container."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Any

import docker
import pytest

from services.deployer.runtime.docker.arguments import OPTIONS, parse
from tests.support.docker_registry import DockerRegistry
from tests.support.images import publish

REPOSITORY = "longshore-test-docker-run"
WORDS = [
    ["--add-host", "db:10.0.0.5"],
    ["--blkio-weight=300"],
    ["--cap-add", "NET_ADMIN", "--cap-add=SYS_TIME"],
    ["--cap-drop", "ALL"],
    ["--cgroup-parent", "/longshore-test"],
    ["--cgroupns=private"],
    ["--cpu-period=50000", "--cpu-quota=25000"],
    ["-c", "512"],
    ["--cpu-shares=512"],
    ["--cpus", "0.5"],
    ["--cpuset-cpus", "0", "--cpuset-mems=0"],
    ["--device", "/dev/null"],
    ["--device", "/dev/null:/dev/nothing:r"],
    ["--device=/dev/null:rw"],
    ["--device-cgroup-rule", "c 42:* rmw"],
    ["--dns", "1.1.1.1", "--dns-option=ndots:2", "--dns-opt=rotate", "--dns-search", "example.com"],
    ["--domainname", "example.com", "-h", "web"],
    ["--entrypoint", "/bin/sh"],
    ["--gpus", "all"],
    ["--gpus", "2"],
    ["--gpus", '"device=0,1"'],
    ["--group-add", "audio", "--group-add=1234"],
    ["--hostname=web"],
    ["--init"],
    ["--ipc", "shareable"],
    ["--label", "a=b"],
    ["--log-driver", "json-file", "--log-opt", "max-size=10m"],
    ["-m", "64m", "--memory-swap=128m", "--memory-reservation", "32m"],
    ["--memory=64m", "--memory-swap", "-1"],
    ["--memory-swappiness=10"],
    ["--oom-kill-disable", "--memory=64m"],
    ["--oom-score-adj", "-500"],
    ["--pids-limit", "100"],
    ["--pids-limit=-1"],
    ["--privileged"],
    ["--read-only", "--tmpfs", "/run:size=64m"],
    ["--restart=on-failure:3"],
    ["--runtime", "runc"],
    ["--security-opt", "no-new-privileges"],
    ["--security-opt=seccomp=unconfined"],
    ["--security-opt=systempaths=unconfined"],
    ["--shm-size", "128m"],
    ["--stop-signal", "SIGINT"],
    ["--sysctl", "net.core.somaxconn=1024"],
    ["--ulimit", "nofile=10:20"],
    ["-u", "1000:1000"],
    ["--userns=host"],
    ["-v", "/srv:/data:ro"],
    ["--volume-driver", "local"],
    ["-w", "/srv"],
    ["--workdir=/"],
    ["--health-cmd", "true", "--health-interval=5s", "--health-retries", "4"],
    ["--no-healthcheck"],
]
UNCHANGED = [["--blkio-weight=300"], ["--pids-limit=-1"], ["--runtime", "runc"]]
"""Words of a default, or of what the kernel of the tests may lack."""
OF_ONE = {"HostnamePath", "Image"}
APART = {"storage-opt", "volumes-from", "env", "env-file", "network", "mount", "health-start-period", "health-timeout"}
"""Words that need a special engine or another container, or that other tests cover."""


@pytest.fixture(scope="module")
def image(engine: docker.APIClient, image_registry: DockerRegistry) -> Iterator[str]:
    name = f"{image_registry.host}/{REPOSITORY}:1"
    publish(image_registry.host, REPOSITORY, "1")
    engine.pull(name)
    yield name
    engine.remove_image(name, force=True)


def described(engine: docker.APIClient, container: str) -> dict[str, Any]:
    """What the settings of a container are, and remove it. Its own id and host name are no settings."""
    try:
        found = engine.inspect_container(container)
    finally:
        engine.remove_container(container, force=True, v=True)
    config = {name: value for name, value in found["Config"].items() if name not in OF_ONE}
    if config["Hostname"] == found["Id"][:12]:
        config["Hostname"] = ""
    return {**config, **found["HostConfig"]}


def by_docker(engine: docker.APIClient, image: str, words: Sequence[str]) -> dict[str, Any]:
    program = shutil.which("docker")
    assert program, "docker is missing: apt-get install docker.io"
    made = subprocess.run([program, "create", *words, image], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return described(engine, made.stdout.split()[-1])


def by_longshore(engine: docker.APIClient, image: str, words: Sequence[str]) -> dict[str, Any]:
    parsed = parse(words)
    made = engine.create_container_from_config({**parsed.config, "Image": image, "HostConfig": parsed.host})
    return described(engine, made["Id"])


def changes(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What words have changed: the client sends other defaults than the engine has, of the same meaning."""
    return {name: value or None for name, value in after.items() if (value or None) != (before.get(name) or None)}


@pytest.fixture(scope="module")
def plain(engine: docker.APIClient, image: str) -> tuple[dict[str, Any], dict[str, Any]]:
    return by_docker(engine, image, []), by_longshore(engine, image, [])


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_words_mean_what_they_mean_to_docker_run(
    words: list[str], engine: docker.APIClient, image: str, plain: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    docker_run = changes(plain[0], by_docker(engine, image, words))
    assert docker_run or words in UNCHANGED
    assert changes(plain[1], by_longshore(engine, image, words)) == docker_run


def test_every_word_is_compared_or_named() -> None:
    compared = {name for name in OPTIONS if any(f"--{name}" in word for words in WORDS for word in words)}
    assert set(OPTIONS) - compared - APART - {"user", "volume"} == set()
