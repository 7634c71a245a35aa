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
from pathlib import Path

import pytest

from tests.support.harness import LONGSHORE, clean_environment, wait_for
from tests.support.ports import free_port

EXAMPLES = Path(__file__).parents[2] / "examples"
LOG = EXAMPLES.parent / "tests" / "replay" / "golden-v1.log"


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


@pytest.mark.e2e
def test_the_release_is_deployed_and_the_hook_records_it(configuration: Path, tmp_path: Path) -> None:
    configuration.write_text(configuration.read_text().partition("\n[app.api]")[0])
    record = tmp_path / "state" / "deployments.txt"
    with (tmp_path / "longshore.log").open("wb") as log:
        running = subprocess.Popen([LONGSHORE, "up", "--file", configuration], stderr=log, env=clean_environment())
    try:
        wait_for("the hook has run", lambda: record.exists() and record.read_text(), 60)
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(60)
    assert re.fullmatch(r"web 1\.0\.0 after nothing, [0-9.]+ s\n", record.read_text())


def test_the_replay_test_passes_on_an_exported_log(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "test_replay.py", tmp_path)
    shutil.copy(LOG, tmp_path / "web-1.log")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=.", "."]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "2 passed" in done.stdout
