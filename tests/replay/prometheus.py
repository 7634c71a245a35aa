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
from typing import Any

from tests.support.ports import free_port

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
    """A server that is asked."""

    def __init__(self, url: str) -> None:
        self._url = url

    def at(self, moment: float, expression: str) -> Answers:
        """What each series was at a moment, by its name and labels."""
        found = self._query(moment, expression)
        return {tuple(sorted(one["metric"].items())): float(one["value"][1]) for one in found}

    def samples(self, expression: str) -> list[tuple[float, float]]:
        """When the only series of a range selector was sampled until now, and as what."""
        found = self._query(time.time(), expression)
        return [(moment, float(value)) for one in found for moment, value in one["values"]]

    def _query(self, moment: float, expression: str) -> list[dict[str, Any]]:
        query = urllib.parse.urlencode({"query": expression, "time": f"{moment:.3f}"})
        with urllib.request.urlopen(f"{self._url}/api/v1/query?{query}", timeout=30) as answer:
            result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return result

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
def prometheus(directory: Path, blocks: Path, config_text: str = "{}") -> Iterator[Prometheus]:
    """A server over the blocks, which scrapes what it is configured to, ended with the block of code."""
    config, address = directory / f"{blocks.name}.yml", f"127.0.0.1:{free_port()}"
    config.write_text(config_text)
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={blocks}",
        "--storage.tsdb.retention.time=100y",
        f"--web.listen-address={address}",
    ]
    with (directory / f"{blocks.name}.prometheus.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        server = Prometheus(f"http://{address}")
        server.until_ready()
        yield server
    finally:
        process.terminate()
        process.wait(DEADLINE)
