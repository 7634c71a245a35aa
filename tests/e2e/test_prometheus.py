"""A real Prometheus scrapes a running server, and the documented queries return data."""

from __future__ import annotations

import json
import subprocess
import tomllib
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from services.demo import releases
from tests.support.harness import Server, Traffic, wait_for
from tests.support.ports import free_port

QUERIES = Path(__file__).parents[1] / "contract" / "queries.toml"


class Prometheus:
    """A Prometheus process that scrapes one target each second."""

    def __init__(self, directory: Path, target: str) -> None:
        self._url = f"http://127.0.0.1:{free_port()}"
        config = directory / "prometheus.yml"
        job = {"job_name": "longshore", "scrape_interval": "1s", "static_configs": [{"targets": [target]}]}
        config.write_text(json.dumps({"scrape_configs": [job]}))
        subprocess.run(["promtool", "check", "config", str(config)], check=True, capture_output=True)
        with (directory / "prometheus.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={config}",
                    f"--storage.tsdb.path={directory / 'tsdb'}",
                    f"--web.listen-address={self._url.removeprefix('http://')}",
                ],
                stderr=log,
            )

    def query(self, expression: str) -> list[dict[str, Any]]:
        url = f"{self._url}/api/v1/query?{urllib.parse.urlencode({'query': expression})}"
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                result: list[dict[str, Any]] = json.load(answer)["data"]["result"]
                return result
        except OSError:
            return []

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def running(server: Callable[..., Server], tmp_path: Path) -> Iterator[tuple[Server, Prometheus]]:
    one = server("--replicas", "2")
    prometheus = Prometheus(tmp_path, f"127.0.0.1:{one.admin_port}")
    yield one, prometheus
    prometheus.stop()


def test_every_documented_query_returns_data(running: tuple[Server, Prometheus]) -> None:
    one, prometheus = running
    wait_for("the target is up", lambda: _value(prometheus, "up") == 1)
    wait_for("zero series are there from the start", lambda: prometheus.query("dewy_proxy_errors_total"))
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    with Traffic(one.port):
        for query in tomllib.loads(QUERIES.read_text())["query"]:
            if query["from"] == "dewy":
                wait_for(f"{query['expr']} returns data", partial(prometheus.query, query["expr"]))
        wait_for("the rate is above zero", lambda: _value(prometheus, "rate(dewy_proxy_connections_total[5m])") > 0)


def _value(prometheus: Prometheus, expression: str) -> float:
    result = prometheus.query(expression)
    return float(result[0]["value"][1]) if result else 0.0


def test_promtool_finds_nothing_wrong_with_the_exposition(server: Callable[..., Server]) -> None:
    one = server()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    wait_for("the log is read", one.metrics)
    with urllib.request.urlopen(one.metrics_url, timeout=5) as answer:
        check = subprocess.run(["promtool", "check", "metrics"], input=answer.read(), capture_output=True, check=False)
    assert check.returncode == 0, check.stdout + check.stderr
