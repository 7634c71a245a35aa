"""Prometheus brings the metrics token from a file, as docs/admin-api.md prints it."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.metrics_gateway.export.test_prometheus import Prometheus
from tests.support.gateway_process import Launch, running
from tests.support.ports import free_port

PAGE = Path(__file__).parents[3] / "docs" / "admin-api.md"
(SAMPLE,) = re.findall(r"^```yaml\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


async def test_prometheus_scrapes_with_the_token_of_its_file(launch: Launch, tmp_path: Path) -> None:
    token, config, port = tmp_path / "token", tmp_path / "prometheus.yml", free_port()
    token.write_text("metrics-1\n")
    gateway = launch(metrics_token_file=str(token))
    await gateway.until_ready()
    sample = SAMPLE.replace("/etc/prometheus/longshore-token", str(token))
    config.write_text(
        "global: {scrape_interval: 1s}\n"
        + sample.replace("localhost:17539", f"localhost:{gateway.settings.admin_port}")
    )
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={tmp_path}/tsdb"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with running(command, tmp_path / "prometheus.log"):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}/api/v1") as client:
            (target,) = await Prometheus(client).until_there_is("up == 1")
    assert target["metric"]["job"] == "longshore"
    assert (await gateway.get("/metrics")).status_code == 401
