"""The accounts that `longshore bus config` prints, on a real nats-server, with real services behind them."""

from __future__ import annotations

import contextlib
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest

from schemas import subjects
from schemas.routing import Route
from services.bus.export import Way
from services.bus.permissions import ACCESS
from services.common.errors import BusError
from services.common.jetstream.log_reader import last_sequence
from services.common.jetstream.provisioning import Limits, ensure_streams
from tests.support.configured_server import ConfiguredServer, connected, serving
from tests.support.ports import free_port

SIGN_IN: dict[Way, list[str]] = {
    "nkey": ["--nats-nkey-file={folder}/{{service}}.nk"],
    "password": ["--nats-user=longshore-{{service}}", "--nats-password-file={folder}/{{service}}.password"],
}


def longshore(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "services.cli.main", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


class Printed:
    """A server with the printed accounts, and how to sign in there."""

    def __init__(self, server: ConfiguredServer, folder: Path, way: Way) -> None:
        self.server = server
        self.options = ["--nats-url", server.url, *(word.format(folder=folder) for word in SIGN_IN[way])]
        self.settings: dict[str, Any] = {
            word.removeprefix("--").partition("=")[0].replace("-", "_"): word.format(folder=folder).partition("=")[2]
            for word in SIGN_IN[way]
        } | {"nats_url": [server.url]}


@pytest.fixture(params=get_args(Way))
def printed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Printed]:
    folder = tmp_path / "secrets"
    done = longshore("bus", "config", "--out", str(folder), "--auth", request.param)
    assert done.returncode == 0, done.stderr
    with serving(tmp_path / "nats", done.stdout) as server:
        yield Printed(server, folder, request.param)


def test_secrets_are_their_owners_only_and_the_same_the_next_time(tmp_path: Path) -> None:
    once, again = (longshore("bus", "config", "--out", str(tmp_path / "secrets")).stdout for _ in range(2))
    assert once == again
    files = list((tmp_path / "secrets").iterdir())
    assert {file.stem for file in files} == {"admin", *ACCESS}
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert not any(file.read_text() in once for file in files)  # the server has public keys only


def test_hosts_have_secrets_of_their_own_and_people_one_for_all(tmp_path: Path) -> None:
    words = ["bus", "config", "--out", str(tmp_path), "--host", "web-1.example", "--host", "web-2"]
    done = longshore(*words, "--auth", "password")
    assert done.returncode == 0, done.stderr
    files = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.password")}
    of_hosts = {f"{host}/{service}.password" for host in ("web-1_example", "web-2") for service in ACCESS}
    assert files == {"admin.password", "cli.password"} | of_hosts
    assert "--nats-user 'longshore-{service}-{host}'" in done.stdout
    assert "longshore-proxy-web-1_example" in done.stdout


def test_two_hosts_that_are_one_for_the_bus_are_refused_in_one_line(tmp_path: Path) -> None:
    done = longshore("bus", "config", "--out", str(tmp_path), "--host", "web.1", "--host", "web_1")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        "longshore: --host web_1: for the bus it is the same host as web.1; name one of them"
    ]


async def test_before_the_setup_a_service_says_what_to_do(printed: Printed) -> None:
    done = longshore("health", *printed.options)
    assert done.returncode == 1
    assert "run `longshore bus setup` with one that may" in done.stderr


async def test_setup_creates_everything_and_each_account_can_do_what_is_its_own_alone(printed: Printed) -> None:
    done = longshore("bus", "setup", *printed.options)
    assert done.returncode == 0, done.stderr
    admin = await connected("admin", **printed.settings)
    for service, access in ACCESS.items():
        bus = await connected(service, **printed.settings)
        await ensure_streams(bus, Limits())
        for bucket in subjects.BUCKETS:
            key = f"{access.leases or service}.web.80"
            may = bucket in access.writes or (bucket == subjects.LEASES and access.leases != "")
            if may:
                await bus.put(bucket, key, Route("web", 80, 1))
            else:
                with pytest.raises(BusError, match="may not use"):
                    await bus.put(bucket, key, Route("web", 80, 1))
            assert (await admin.get(bucket, key) is not None) == may
        await bus.close()
    assert await last_sequence(admin) == 0
    await admin.close()


async def test_limits_are_changed_by_an_account_that_may(printed: Printed) -> None:
    for words, expected in ((["--max-age", "2d", "--max-bytes", "1GiB"], (172800, 1 << 30)), ([], (172800, 1 << 30))):
        assert longshore("bus", "setup", *printed.options, *words).returncode == 0
        admin = await connected("admin", **printed.settings)
        config = (await admin.jetstream.stream_info(subjects.STREAM)).config
        assert (config.max_age, config.max_bytes) == expected
        await admin.close()
    done = longshore("gateway", *printed.options, "--max-age", "1d", "--admin-port", str(free_port()))
    assert done.returncode == 1
    assert "may not change the limits of LONGSHORE" in done.stderr


def test_services_run_with_these_accounts(printed: Printed, tmp_path: Path) -> None:
    assert longshore("bus", "setup", *printed.options).returncode == 0
    port, registry = free_port(), tmp_path / "releases"
    (registry / "1.0.0").mkdir(parents=True)
    run = registry / "1.0.0" / "run"
    run.write_text("#!/bin/sh\nexec python3 -m http.server --bind 127.0.0.1 $PORT\n")
    run.chmod(0o755)
    proxied = free_port()
    command = [sys.executable, "-P", "-m", "services.cli.main", "server", *printed.options]
    command += ["--registry", f"dir://{registry}", "--port", str(proxied), "--admin-port", str(port), "--settle", "0.1"]
    command += ["--state-dir", str(tmp_path / "state"), "--stop-containers", "--telemetry", "--app", "web"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        _until_served(f"http://127.0.0.1:{proxied}/", tmp_path / "log")
        secrets = [file.read_bytes().strip() for file in (tmp_path / "secrets").iterdir()]
        lines = _command_lines(process.pid)
        assert lines
        assert not any(secret in line for secret in secrets for line in lines)
    finally:
        process.terminate()
        process.wait(60)
    said = (tmp_path / "log").read_text()
    assert "may not" not in said, said
    assert "Permissions Violation" not in printed.server.log.read_text()


def _until_served(url: str, log: Path) -> None:
    for _ in range(600):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url).status_code == 200:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def _command_lines(pid: int) -> list[bytes]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [Path(f"/proc/{child}/cmdline").read_bytes() for child in children]
