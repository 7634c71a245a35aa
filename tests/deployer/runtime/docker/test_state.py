"""What is read out of an engine's answers."""

from __future__ import annotations

from typing import Any

import pytest

from services.deployer.runtime.docker.platforms import mismatch
from services.deployer.runtime.docker.state import State, addresses, usage
from services.deployer.runtime.protocol import Usage

AMD64 = {"Os": "linux", "Arch": "amd64"}


@pytest.mark.parametrize(
    ("engine", "image"),
    [
        ("amd64", {"Os": "linux", "Architecture": "amd64"}),
        ("amd64", {"Os": "", "Architecture": ""}),
        ("amd64", {}),
        ("amd64", {"Os": "linux", "Architecture": "x86_64"}),
        ("amd64", {"Os": "Linux", "Architecture": "x86-64"}),
        ("amd64", {"Os": "linux", "Architecture": "i386"}),
        ("arm64", {"Os": "linux", "Architecture": "aarch64"}),
        ("aarch64", {"Os": "linux", "Architecture": "arm64"}),
        ("arm64", {"Os": "linux", "Architecture": "armhf"}),
    ],
    ids=str,
)
def test_an_image_of_the_engine_s_platform_fits_whatever_it_is_called(engine: str, image: dict[str, str]) -> None:
    assert mismatch({"Os": "linux", "Arch": engine}, image) == ""


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ({"Os": "linux", "Architecture": "aarch64"}, "linux/arm64"),
        ({"Os": "windows", "Architecture": "amd64"}, "windows/amd64"),
        ({"Os": "windows", "Architecture": "386"}, "windows/386"),
        ({"Architecture": "s390x"}, "linux/s390x"),
    ],
)
def test_an_image_of_another_platform_does_not_fit(image: dict[str, str], said: str) -> None:
    assert mismatch(AMD64, image) == f"is for {said}, and this engine runs linux/amd64"


def container(mode: str, **networks: dict[str, str]) -> dict[str, Any]:
    return {"HostConfig": {"NetworkMode": mode}, "NetworkSettings": {"Networks": networks, "Ports": {}}}


BACK, FRONT = ({"IPAddress": f"172.2{n}.0.2", "NetworkID": f"{n}f00"} for n in (1, 2))


@pytest.mark.parametrize(
    ("found", "address"),
    [
        (container("front", back=BACK, front=FRONT), "172.22.0.2"),
        (container("2f0", back=BACK, front=FRONT), "172.22.0.2"),
        (container("default", aaa=BACK, bridge=FRONT), "172.22.0.2"),
        (container("bridge", podman=FRONT), "172.22.0.2"),
        (container("front", front={"GlobalIPv6Address": "fd00::2"}), "fd00::2"),
        (container("front", back=BACK), None),
        (container("front"), None),
    ],
    ids=str,
)
def test_a_container_is_dialed_in_the_network_that_it_was_created_with(
    found: dict[str, Any], address: str | None
) -> None:
    assert addresses(found, {0: 8080}, "container") == ({0: (address, 8080)} if address else {})


RUNNING = State("running", "", 0, False, 7, restarts=2, memory_limit=900)


@pytest.mark.parametrize(
    ("cache", "memory"),
    [({"inactive_file": 100}, 400), ({"total_inactive_file": 100, "cache": 300}, 400), ({"inactive_file": 600}, 0)],
    ids=["version 2", "version 1", "more cache than use"],
)
def test_the_file_cache_that_the_kernel_can_drop_is_no_memory_of_a_container(
    cache: dict[str, int], memory: int
) -> None:
    stats = {
        "cpu_stats": {"cpu_usage": {"total_usage": 1_500_000_000}},
        "memory_stats": {"usage": 500, "limit": 2000, "stats": cache},
        "networks": {"eth0": {"rx_bytes": 1, "tx_bytes": 2}, "eth1": {"rx_bytes": 10, "tx_bytes": 20}},
    }
    assert usage(stats, RUNNING) == Usage(1.5, memory, 900, 11, 22, 2)
    assert usage({**stats, "networks": None}, RUNNING) == Usage(1.5, memory, 900, None, None, 2)


def test_a_container_that_has_just_ended_has_no_resources() -> None:
    assert usage({"memory_stats": {}, "cpu_stats": {}}, RUNNING) is None
