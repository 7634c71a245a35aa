"""The OpenAPI document, and the real API asked by schemathesis along it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.metrics_gateway.api.conftest import Deployer
from tests.support.gateway_process import Gateway

EXAMPLES = 12
ROOT = Path(__file__).parents[3]


async def test_the_description_is_at_schema_and_asks_nothing_of_elsewhere(client: httpx.AsyncClient) -> None:
    answer = await client.get("/schema")
    assert answer.status_code == 200
    assert answer.json()["openapi"].startswith("3.")
    assert (await client.get("/schema/openapi.json")).json() == answer.json()
    assert "https://" not in answer.text
    for viewer in ("swagger", "redoc", "elements", "rapidoc", "scalar"):
        assert (await client.get(f"/schema/{viewer}")).status_code == 404


async def test_the_real_api_keeps_to_its_description(
    gateway: Gateway, deployer: Deployer, token: Callable[[], str], tmp_path: Path
) -> None:
    await deployer.listen("shop")
    await gateway.until("/api/status", lambda got: '"name":"shop"' in got.text)
    report = tmp_path / "report.ndjson"
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        *("run", f"{gateway.url}/schema", "--header", f"Authorization: Bearer {token()}"),
        *("--max-examples", str(EXAMPLES), "--seed", "1", "--phases", "coverage,fuzzing"),
        *("--generation-database", "none", "--request-timeout", "60", "--suppress-health-check", "all"),
        *("--report", "ndjson", "--report-ndjson-path", str(report), "--no-color"),
    ]
    environment = {
        "SCHEMATHESIS_HOOKS": "tests.metrics_gateway.api.hooks",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    ran = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=600, env=environment, cwd=ROOT
    )
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr
    assert deployer.obeyed, "no generated command reached the deployer"
    schema = (await gateway.get("/schema")).json()
    operations = {f"{verb.upper()} {path}" for path, verbs in schema["paths"].items() for verb in verbs}
    asked = _asked(report)
    assert operations <= asked, operations - asked


def _asked(report: Path) -> set[str]:
    """The operations that were tried."""
    found = set()
    for line in report.read_text().splitlines():
        for name, content in json.loads(line).items():
            if name == "ScenarioFinished":
                found.add(content["recorder"]["label"])
    return found
