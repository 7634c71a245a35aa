"""What docs/admin-api.md says is true: its commands run as printed, against a real server."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from litestar.openapi.spec import OpenAPI

from services.common.bus.connection import Bus
from services.demo import releases
from services.metrics_gateway import api
from services.metrics_gateway.api.tokens import Tokens
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.views.traffic import Traffic
from tests.support.harness import Server, wait_for

PAGE = (Path(__file__).parents[2] / "docs" / "admin-api.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def run(script: str, server: Server) -> str:
    """What a printed sample says, here where port and folder are others."""
    own = script.replace("localhost:17539", f"localhost:{server.admin_port}")
    own = own.replace("/var/lib/longshore", server.state)
    ran = subprocess.run(["bash", "-euo", "pipefail", "-c", own], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, f"{script}\n{ran.stdout}{ran.stderr}"
    return ran.stdout


def answers(text: str) -> list[dict[str, Any]]:
    """Several answers in a row, which may or may not end their line."""
    found, decoder = [], json.JSONDecoder()
    while text.strip():
        value, end = decoder.raw_decode(text.lstrip())
        found.append(value)
        text = text.lstrip()[end:]
    return found


def test_every_command_of_the_page_does_what_the_page_says(server: Callable[..., Server]) -> None:
    one = server("--replicas", "2")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    releases.publish(one.registry, releases.SECOND)
    wait_for("the second release serves", lambda: one.serves(releases.SECOND))
    reading, following, dumping, pausing, returning, retrying = blocks("sh")
    status, deployments, events = answers(run(reading, one))
    assert status["apps"][0]["release"] == releases.SECOND
    assert [each["release"] for each in deployments["deployments"]] == [releases.SECOND, releases.FIRST]
    assert {each["kind"] for each in events["events"]} == {"ReplicaRouted", "ReplicaRetired"}
    assert "event: DeploymentStarted\n" in run(following, one)
    assert run(dumping, one).count("event: DeploymentSucceeded\n") == 2
    assert [each["message"].split(" until")[0] for each in answers(run(pausing, one))] == [
        "deployments are paused",
        "the newest release is followed again",
    ]
    refused, expected = answers(run(retrying, one)), json.loads(blocks("json")[1])
    assert refused == [expected]
    (begun,) = answers(run(returning, one))
    printed = json.loads(blocks("json")[0])
    assert begun == printed | {"host": begun["host"], "deployment": begun["deployment"]}
    wait_for("the first release serves again", lambda: one.serves(releases.FIRST))
    replica = one.status()["replicas"][0]["id"]
    token = (Path(one.state) / "admin-token").read_text().strip()
    body = json.dumps({"replica": replica})
    drain = f"curl -fsS -H 'Authorization: Bearer {token}' --json '{body}' localhost:17539/api/drain"
    assert answers(run(drain, one))[0]["message"].startswith(f"replica {replica} goes")
    wait_for("it is replaced", lambda: replica not in [each["id"] for each in one.status()["replicas"]])


def test_the_table_has_every_address_of_the_description() -> None:
    rows = re.findall(r"^\| `([A-Z]+ /\S*)` \|", PAGE, re.MULTILINE)
    described = asyncio.run(_description()).paths or {}
    operations = [
        f"{verb.upper()} {path}" for path, item in described.items() for verb in ("get", "post") if getattr(item, verb)
    ]
    assert rows == operations


async def _description() -> OpenAPI:
    bus = Bus("gateway")
    live = Projection(bus)
    gateway = api.Gateway(
        GatewaySettings(), Tokens(), live, Traffic(), Exporter(live.measurement, {}), bus, asyncio.Event()
    )
    return api.create(gateway).openapi_schema


def test_links_of_the_page_lead_somewhere() -> None:
    for target in re.findall(r"(?:\]\(|src=\")(?!https?:)([^)\"#]+)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / target).exists(), target
