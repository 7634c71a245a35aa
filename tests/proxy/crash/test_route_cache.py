"""Routes on disk: believed for a minute after the last master, on the same boot."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from schemas.routing import Backend, Route
from services.proxy.crash.route_cache import FRESH, RouteCache

ROUTES = [Route("web", 80, 7, [Backend("a", "127.0.0.1", 1, "active")]), Route("web", 81, 1, [])]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "proxy" / "80-81.routes"


def age(path: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def test_what_was_kept_last_is_recalled(path: Path) -> None:
    assert RouteCache(path).load() == []
    memory = RouteCache(path)
    memory.save(ROUTES[:1])
    memory.save(ROUTES)
    assert RouteCache(path).load() == ROUTES


@pytest.mark.parametrize("seconds", [FRESH + 10, -FRESH - 10])
def test_old_routes_and_those_of_the_future_are_not_believed_until_a_master_runs(path: Path, seconds: float) -> None:
    memory = RouteCache(path)
    memory.save(ROUTES)
    age(path, seconds)
    assert memory.load() == []
    memory.touch()
    assert memory.load() == ROUTES


def test_routes_of_another_boot_are_not_believed(path: Path) -> None:
    RouteCache(path).save(ROUTES)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path.write_text(path.read_text().replace(boot, "another"))
    assert RouteCache(path).load() == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b'{"boot": "\xff"}', b'{"boot": 1, "routes": 2}'])
def test_a_damaged_file_is_no_memory(path: Path, content: bytes) -> None:
    RouteCache(path).save(ROUTES)
    path.write_bytes(content)
    assert RouteCache(path).load() == []


def test_a_disk_that_takes_nothing_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    memory = RouteCache(tmp_path / "file" / "80.routes")
    memory.save(ROUTES)
    memory.save(ROUTES)
    memory.touch()
    said = capsys.readouterr()
    assert (said.out + said.err).count("cannot keep the routes") == 1
