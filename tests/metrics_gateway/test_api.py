"""The admin API of a real gateway process on a real bus."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Iterable

import httpx
import msgspec
import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from schemas import events as e
from services.common.bus.connection import Bus
from services.common.jetstream.log_reader import LogMessage
from services.metrics_gateway import api, service
from services.metrics_gateway.api.tokens import Tokens
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.projection import Projection
from services.metrics_gateway.settings import GatewaySettings
from services.metrics_gateway.views.status import Container, Containers, Status
from services.metrics_gateway.views.traffic import Traffic
from tests.metrics_gateway.recording import LOG, read
from tests.support.gateway_process import Launch, publishing
from tests.support.nats_server import NatsServer
from tests.support.ports import free_port


def names(families: Iterable[Metric]) -> set[str]:
    return {sample.name for family in families for sample in family.samples}


async def publish_a_deployment(bus: Bus) -> None:
    now = time.time()
    async with publishing(bus, "deployer", "d-1") as deployer:
        deployer.record(e.ServiceStarted(now, "deployer:shop", "0.1.0", 42))
        deployer.record(e.ServiceHeartbeat(now, rss=1000, cpu=1.5, loop_lag=0.01))
        deployer.record(
            e.DeploymentStarted(1.0, "d", "1.0", previous="0.9", by="ann", strategy="rolling", replicas=2, trace=""),
            "shop",
        )
        deployer.record(e.ReplicaStarted(1.0, "d", "shop-1", release="1.0", address="127.0.0.1:4000", pid=7), "shop")
        deployer.record(e.ReplicaRouted(2.0, "d", "shop-1"), "shop")
        deployer.record(e.ReplicaStarted(3.0, "d", "shop-2", release="1.0", address="127.0.0.1:4001", pid=8), "shop")
        deployer.record(e.DeploymentSucceeded(4.0, "d", "1.0", 3.0), "shop")
        deployer.record(e.ReleaseQuarantined(5.0, "1.1", "exited with 1"), "shop")
        deployer.record(e.DeploymentsPaused(6.0, "ann"), "shop")


async def publish_connections(bus: Bus, instance: str, count: int) -> None:
    async with publishing(bus, "proxy", instance) as proxy:
        proxy.record(e.ListenerOpened(1.0, 8080, "0.0.0.0"), "shop")
        proxy.record(e.BackendJoined(1.0, 8080, "shop-1", "127.0.0.1:4000"), "shop")
        for connection in range(count):
            proxy.record(e.ConnectionAccepted(1.0, connection, 8080), "shop")


async def test_status_tells_apps_proxies_services_and_the_log(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await publish_a_deployment(bus)
    await publish_connections(bus, "p-1", 3)
    answer = await gateway.until("/api/status", lambda got: '"open_connections":3' in got.text)
    status = msgspec.json.decode(answer.content, type=Status)
    (app,) = status.apps
    assert (app.name, app.host, app.release, app.replicas, app.desired_replicas) == ("shop", "web-1", "1.0", 2, 2)
    assert (app.paused, app.quarantined) == (True, {"1.1": "exited with 1"})
    last = app.last_deployment
    assert last
    assert (last.id, last.previous, last.by, last.outcome, last.duration) == ("d", "0.9", "ann", "succeeded", 3.0)
    assert last.started_at == "1970-01-01T00:00:01.000+00:00"
    (proxy,) = status.proxies
    assert (proxy.port, proxy.listening, proxy.backends) == (8080, True, {"shop-1": "127.0.0.1:4000"})
    deployer, itself = (next(one for one in status.services if one.service == name) for name in ("deployer", "gateway"))
    assert (deployer.unit, deployer.pid, deployer.rss, deployer.cpu) == ("deployer:shop", 42, 1000, 1.5)
    assert (itself.host, itself.unit) == ("web-1", "gateway")
    assert status.log.position > 0
    assert status.log.bus_connected
    assert status.log.caught_up


async def test_containers_are_the_replicas_that_run(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await publish_a_deployment(bus)
    answer = await gateway.until("/api/containers", lambda got: "shop-2" in got.text)
    assert msgspec.json.decode(answer.content, type=Containers).containers == [
        Container(
            id="shop-1",
            name="shop-1",
            app="shop",
            host="web-1",
            release="1.0",
            address="127.0.0.1:4000",
            pid=7,
            status="serving",
            healthy=None,
            started_at="1970-01-01T00:00:01.000+00:00",
            deployed_at="1970-01-01T00:00:02.000+00:00",
        ),
        Container(
            id="shop-2",
            name="shop-2",
            app="shop",
            host="web-1",
            release="1.0",
            address="127.0.0.1:4001",
            pid=8,
            status="starting",
            healthy=None,
            started_at="1970-01-01T00:00:03.000+00:00",
            deployed_at=None,
        ),
    ]


async def test_metrics_are_off_by_default_and_the_answer_says_how_to_switch_them_on(launch: Launch) -> None:
    gateway = launch(telemetry=False)
    await gateway.until_ready()
    answer = await gateway.get("/metrics")
    assert answer.status_code == 404
    assert "--telemetry" in answer.text
    assert answer.text.count("\n") == 1
    assert (await gateway.get("/api/status")).status_code == 200


async def test_an_otlp_endpoint_switches_metrics_on(launch: Launch) -> None:
    gateway = launch(telemetry=False, otlp_endpoint=f"localhost:{free_port()}")
    await gateway.until_ready()
    assert (await gateway.get("/metrics")).status_code == 200


async def test_metrics_come_as_text_or_openmetrics_and_compressed_when_asked(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await publish_connections(bus, "p-1", 3)
    await gateway.until("/metrics", lambda got: 'proxy_port="8080"} 3.0' in got.text)
    text = await gateway.get("/metrics", accept="text/plain", accept_encoding="identity")
    assert text.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "content-encoding" not in text.headers
    openmetrics = await gateway.get("/metrics", accept="application/openmetrics-text; version=1.0.0")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    parsed = parse_openmetrics(openmetrics.text)  # type: ignore[no-untyped-call]  # the library has no types here
    assert names(parsed) == names(parse_text(text.text))
    zipped = await gateway.get("/metrics", accept_encoding="gzip")
    assert zipped.headers["content-encoding"] == "gzip"
    assert "dewy_proxy_connections_total" in zipped.text


async def test_a_restarted_gateway_serves_the_same_totals(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await publish_connections(bus, "p-1", 1500)
    line = 'dewy_proxy_connections_total{app="shop",host="web-1",proxy_port="8080"} 1500.0'
    await gateway.until("/metrics", lambda got: line in got.text)
    assert gateway.stop() == 0
    gateway.start()
    first = await gateway.until("/metrics", lambda got: got.status_code == 200)
    assert line in first.text


async def test_metrics_outlive_the_bus_and_say_so(launch: Launch, bus: Bus, nats_server: NatsServer) -> None:
    gateway = launch()
    await publish_connections(bus, "p-1", 3)
    await gateway.until("/metrics", lambda got: 'proxy_port="8080"} 3.0' in got.text)
    nats_server.kill()
    answer = await gateway.until("/metrics", lambda got: "longshore_bus_connected 0.0" in got.text)
    assert 'dewy_proxy_connections_total{app="shop",host="web-1",proxy_port="8080"} 3.0' in answer.text
    assert (await gateway.get("/healthz/ready")).status_code == 200
    nats_server.start()
    await publish_connections(bus, "p-2", 4)
    await gateway.until(
        "/metrics", lambda got: "longshore_bus_connected 1.0" in got.text and 'proxy_port="8080"} 7.0' in got.text
    )


async def test_it_answers_with_nothing_but_one_line_until_the_log_is_read(bus: Bus) -> None:
    live = Projection(bus)
    settings = GatewaySettings(admin_port=free_port(), telemetry=True)
    stopping = asyncio.Event()
    app = api.create(api.Gateway(settings, Tokens(), live, Traffic(), Exporter(live.measurement, {}), bus, stopping))
    serving = asyncio.create_task(api.serve(app, api.listen(settings), stopping))
    payloads = list(read(LOG))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{settings.admin_port}") as client:
        for position, payload in enumerate(payloads, 1):
            if position in (1, 2, len(payloads)):
                for path in ("/metrics", "/healthz/ready"):
                    answer = await client.get(path)
                    assert answer.status_code == 503
                    assert answer.text.count("\n") == 1
                assert (await client.get("/healthz/live")).status_code == 200
            live.fold(LogMessage(position, "s", payload, len(payloads) - position, 1.0))
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.get("/healthz/ready")).status_code == 200
    stopping.set()
    await serving


def test_without_an_endpoint_the_exporter_is_not_even_loaded() -> None:
    code = "import sys, services.metrics_gateway.service; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "prometheus_client" in loaded
    assert set(loaded).isdisjoint({"grpc", "services.metrics_gateway.export.metrics_pusher"})


async def test_a_backlog_leaves_requests_their_turn(bus: Bus) -> None:
    payloads = list(read(LOG)) * 50
    entries = [LogMessage(position, "s", payload, 0, 1.0) for position, payload in enumerate(payloads, 1)]
    folding = asyncio.create_task(service._fold(Projection(bus), entries))
    turns = 0
    while not folding.done():
        await asyncio.sleep(0)
        turns += 1
    assert turns > 2


async def test_a_client_that_never_reads_holds_nobody_up(launch: Launch, bus: Bus) -> None:
    gateway = launch()
    await gateway.until_ready()
    silent = [socket.create_connection(("127.0.0.1", gateway.settings.admin_port)) for _ in range(5)]
    for one in silent:
        one.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
    assert (await gateway.get("/metrics")).status_code == 200
    assert gateway.stop() == 0
    for one in silent:
        one.close()


@pytest.mark.parametrize("path", ["/nothing", "/api", "/page/index.html"])
async def test_other_paths_are_not_found(launch: Launch, path: str) -> None:
    gateway = launch()
    await gateway.until_ready()
    assert (await gateway.get(path)).status_code == 404
