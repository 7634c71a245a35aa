"""Real stores of metrics: a Prometheus that scrapes, and a VictoriaMetrics that it writes to."""

from __future__ import annotations

import json
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.harness import wait_for
from tests.support.ports import free_port

Series = list[dict[str, Any]]

SCRAPE_INTERVAL = "1s"


class Store:
    """A process that answers Prometheus' query API."""

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        with log.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, stderr=output)
        wait_for(f"{command[0]} answers", lambda: self.answers("/api/v1/query?query=1"))

    def answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def query(self, expression: str) -> Series:
        """The instant vector; an assertion with the store's reason for an expression that it refuses."""
        words = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{words}", timeout=5) as answer:
                result: Series = json.load(answer)["data"]["result"]
                return result
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None

    def rules(self) -> list[dict[str, Any]]:
        """The groups of alert rules, each with the result of its last evaluation."""
        with urllib.request.urlopen(f"{self.url}/api/v1/rules", timeout=5) as answer:
            groups: list[dict[str, Any]] = json.load(answer)["data"]["groups"]
            return groups

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def victoria_metrics(folder: Path) -> Store:
    """As compose/observability.yaml starts it, that is with the same options."""
    port = free_port()
    options = [f"-storageDataPath={folder / 'vm'}", f"-httpListenAddr=127.0.0.1:{port}", "-retentionPeriod=30d"]
    return Store(["victoria-metrics", *options, "-search.latencyOffset=0s"], port, folder / "vm.log")


def prometheus(folder: Path, target: str, remote_write: str) -> Store:
    """One that scrapes a gateway each second with our own rules, and passes everything on."""
    port = free_port()
    config = {
        "global": {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": "1s"},
        "rule_files": [str(Path(__file__).parents[2] / "compose/observability/alerts.yml")],
        "scrape_configs": [{"job_name": "longshore", "static_configs": [{"targets": [target]}]}],
        "remote_write": [{"url": remote_write}],
    }
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(config))
    options = [f"--config.file={file}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    listening = [f"--web.listen-address=127.0.0.1:{port}", "--enable-feature=exemplar-storage"]
    return Store(["prometheus", *options, *listening], port, folder / "prometheus.log")
