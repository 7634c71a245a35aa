"""A real Prometheus over blocks that promtool made."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import free_port

DEADLINE = 60.0
Answers = dict[tuple[tuple[str, str], ...], float]


def load(directory: Path, openmetrics: Path) -> Path:
    """The folder of the blocks."""
    blocks = directory / "blocks"
    made = subprocess.run(
        ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(openmetrics), str(blocks)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr
    return blocks


class Prometheus:
    """One that scrapes nothing."""

    def __init__(self, url: str) -> None:
        self._url = url

    def at(self, moment: float, expression: str) -> Answers:
        """What each series was at a moment, by its name and labels."""
        query = urllib.parse.urlencode({"query": expression, "time": f"{moment:.3f}"})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{query}", timeout=30) as answer:
            found = json.load(answer)["data"]["result"]
        return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}

    def until_ready(self) -> None:
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self._url}/-/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)
        raise AssertionError("Prometheus is not ready")


@contextmanager
def prometheus(directory: Path, blocks: Path) -> Iterator[Prometheus]:
    """A server over the blocks, ended with the block of code."""
    config, address = directory / "prometheus.yml", f"127.0.0.1:{free_port()}"
    config.write_text("{}")
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={blocks}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={address}",
    ]
    with (directory / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(f"http://{address}")
        server.until_ready()
        yield server
    finally:
        process.terminate()
        process.wait(DEADLINE)
