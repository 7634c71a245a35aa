"""What a process imports when it starts: a command nothing of the others, a service only what it needs.

Times depend on the machine, modules do not; `python -m tests.benchmarks.start` measures the times.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from schemas import codec
from schemas.events import ServiceStarted
from services.common.bus.connection import Bus
from services.common.jetstream.log_reader import read
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port

DEADLINE = 60.0
PROGRAM = """
import atexit, runpy, sys
atexit.register(lambda: print("imported:", *sys.modules, file=sys.stderr))
runpy.run_module("services.cli.main", run_name="__main__", alter_sys=True)
"""
TRACED = [sys.executable, "-c", PROGRAM]
"""The command line, which prints the modules at its end: `-X importtime` omits those of importlib.import_module."""

NEVER = {"apprise", "docker", "grpc"}
"""Of every service: what needs them is a process of its own, a container's deployer, or a gateway that pushes."""

EXPORTERS = {"opentelemetry", "prometheus_client", "litestar", "uvicorn"}
CONTAINERS = {"services.deployer.runtime.docker.arguments", "services.deployer.registry.oci.images"}
OTHERS = {
    f"services.{name}.service" for name in ("bus", "deployer", "health", "metrics_gateway", "proxy", "supervisor")
}
UNWANTED = {
    "proxy": {"httpx", "h11", *EXPORTERS, *CONTAINERS},
    "health": {*EXPORTERS, *CONTAINERS},
    "deployer": {"httpx", "h11", *EXPORTERS, *CONTAINERS},
    "gateway": {"httpx", *CONTAINERS},
}
MODULE = {"gateway": "metrics_gateway"}


def imported(output: str) -> set[str]:
    """Return every module that a traced program has imported."""
    (names,) = re.findall(r"^imported: (.+)$", output, re.MULTILINE)
    return set(names.split())


def modules_of(*words: str) -> set[str]:
    ended = subprocess.run([*TRACED, *words], capture_output=True, text=True, check=True, timeout=DEADLINE)
    return imported(ended.stderr)


def test_the_version_needs_neither_the_bus_nor_the_logging_nor_any_command() -> None:
    found = modules_of("--version")
    assert "typer" in found
    unwanted = {"asyncio", "importlib.metadata", "msgspec", "nats", "rich", "structlog", "services.cli.options"}
    assert found & unwanted == set()
    assert not [name for name in found if name.startswith("services.cli.commands")]


@pytest.mark.parametrize("service", UNWANTED)
def test_a_command_that_starts_one_service_imports_no_other(service: str) -> None:
    found = modules_of(service, "--help")
    others = {f"services.cli.commands.{name}" for name in (*UNWANTED, "all_in_one", "bus", "demo") if name != service}
    assert found & {*others, "services.cli.verbs", "nats"} == set()


@pytest.mark.parametrize("service", UNWANTED)
async def test_a_service_imports_only_what_it_needs(
    service: str, nats_server: NatsServer, bus: Bus, tmp_path: Path
) -> None:
    _publish_what_ends_at_once(tmp_path / "registry")
    own = {
        "proxy": ["--listen", f"web={free_port()}", "--workers", "1"],
        "health": [],
        "deployer": ["--registry", f"dir://{tmp_path / 'registry'}", "--port", str(free_port()), "--host", "away"],
        "gateway": ["--telemetry", "--admin-port", str(free_port())],
    }
    words = [service, "--nats-url", nats_server.url, "--state-dir", str(tmp_path / "state"), *own[service]]
    with (tmp_path / "trace").open("wb") as output:
        environment = {**os.environ, "LONGSHORE_CONFIG": os.devnull}  # as the supervisor starts it
        process = await asyncio.create_subprocess_exec(*TRACED, *words, stderr=output, env=environment)
    try:
        async with asyncio.timeout(DEADLINE):
            await _until_started(bus)
            process.terminate()
            await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    found = imported((tmp_path / "trace").read_text())
    name = f"services.{MODULE.get(service, service)}.service"
    assert name in found
    assert found & (NEVER | UNWANTED[service] | OTHERS - {name}) == set()
    assert found & {"services.cli.verbs", "services.cli.commands.all_in_one"} == set()


def _publish_what_ends_at_once(registry: Path) -> None:
    """No replica outlives a deployer whose replicas do not run."""
    run = registry / "1.0.0" / "run"
    run.parent.mkdir(parents=True)
    run.write_text("#!/bin/sh\nexit 1\n")
    run.chmod(0o755)


async def _until_started(bus: Bus) -> None:
    async for entries in read(bus):
        for entry in entries:
            if any(isinstance(event, ServiceStarted) for event in codec.decode(entry.payload).batch.events):
                return
