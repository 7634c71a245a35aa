"""The files in examples/ work as they are, but for their paths and ports.

Covers: longshore.testing
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import pytest

from services.cli import config
from services.cli.app import options_of_all
from services.cli.commands import all_in_one
from services.cli.options import build
from services.deployer.settings import DeployerSettings
from tests.support import images
from tests.support.docker_registry import DockerRegistry
from tests.support.engine import connect
from tests.support.harness import LONGSHORE, clean_environment, wait_for
from tests.support.ports import free_port

ROOT = Path(__file__).parents[2]
EXAMPLES = Path(__file__).parents[2] / "examples"
LOG = EXAMPLES.parent / "tests" / "replay" / "golden-v1.log"
SERVE = "trap 'exit 0' TERM; echo well >/www/health; httpd -f -p 3000 -h /www & wait"


@pytest.fixture
def configuration(tmp_path: Path) -> Path:
    """Copy the examples, and write the paths and ports of this test into the configuration."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    file = tmp_path / "examples" / "longshore.toml"
    text = file.read_text().replace("/srv/web", str(tmp_path / "examples" / "releases"))
    text = text.replace("/etc/longshore", str(tmp_path / "examples"))
    text = text.replace("8080", str(free_port())).replace("9090", str(free_port()))
    settings = f'state-dir = "{tmp_path / "state"}"\nadmin-port = {free_port()}\nstop-containers = true\n'
    file.write_text(settings + text)
    return file


def test_the_whole_configuration_is_accepted_up_to_the_missing_engine(configuration: Path) -> None:
    environment = clean_environment() | {"DOCKER_HOST": f"unix://{configuration.parent}/none.sock"}
    done = subprocess.run(
        [LONGSHORE, "up", "--file", configuration], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"no container engine answers at unix://{configuration.parent}/none.sock" in done.stderr


@pytest.fixture
def image_registry(tmp_path: Path) -> Iterator[str]:
    """Start a registry with the image of the example, and return its address; skip where no engine answers."""
    connect().close()
    folder = tmp_path / "registry"
    folder.mkdir()
    registry = DockerRegistry(folder)
    registry.start()
    images.publish(registry.host, "myorg/api", "1.0.0", SERVE)
    yield registry.host
    registry.stop()


@contextmanager
def running(configuration: Path) -> Iterator[None]:
    """Run `longshore up` with the configuration, and stop it and its replicas."""
    with (configuration.parent / "longshore.log").open("wb") as log:
        process = subprocess.Popen([LONGSHORE, "up", "--file", configuration], stderr=log, env=clean_environment())
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


@pytest.mark.system
def test_the_release_is_deployed_and_the_hook_records_it(configuration: Path, tmp_path: Path) -> None:
    configuration.write_text(configuration.read_text().partition("\n[app.api]")[0])
    record = tmp_path / "state" / "deployments.txt"
    with running(configuration):
        wait_for("the hook has run", lambda: record.exists() and record.read_text(), 60)
    assert re.fullmatch(r"web 1\.0\.0 after nothing, [0-9.]+ s\n", record.read_text())


@pytest.mark.system
@pytest.mark.timeout(300)
def test_both_applications_serve(configuration: Path, image_registry: str) -> None:
    configuration.write_text(configuration.read_text().replace("ghcr.io", image_registry))
    ports = [int(port) for port in re.findall(r'^port = \["?(\d+)', configuration.read_text(), re.MULTILINE)]
    with running(configuration):
        for port in ports:
            wait_for(f"port {port} answers", partial(answers, port), 120)


def answers(port: int) -> bool:
    """Whether an application answers with status 200."""
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as reply:
        return bool(reply.status == 200)
    return False


def test_the_replay_test_passes_on_an_exported_log(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "test_replay.py", tmp_path)
    shutil.copy(LOG, tmp_path / "web-1.log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout


@pytest.mark.parametrize("block", range(2))
def test_every_file_that_the_page_about_production_shows_is_accepted(block: int, tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", (ROOT / "docs" / "running.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    file = tmp_path / "longshore.toml"
    file.write_text(blocks[block].replace("/srv/web", str(tmp_path)))
    shared = config.defaults(str(file), options_of_all())["up"]
    tables = config.applications(str(file), all_in_one.APP)
    host = shared.get("host", "web-1")
    built = [build(DeployerSettings, all_in_one.with_runtime(table), host=host) for table in tables.values()]
    assert [(one.app, one.runtime, one.after) for one in built] == [
        [("web", "process", []), ("shop", "docker", [])],
        [("web", "process", ["web-1"])],
    ][block]
