"""Every metric of the document on a running pipeline: it equals what was counted outside, and the same by OTLP."""

from __future__ import annotations

import math
import os
import time
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from prometheus_client.parser import text_string_to_metric_families

from services.common.process.lifecycle import resident_bytes
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.state.application import PHASES
from tests.contract.contract import promises
from tests.contract.pipeline import Client, Releases, gateway_alone
from tests.support.harness import Server, wait_for
from tests.support.metrics_receiver import (
    Labels,
    Receiver,
    Scrape,
    check_histogram,
    metrics,
    number,
    points,
    receiving,
    scraped,
)

DEWY = promises("dewy")
HOLD = 0.3


class Site:
    """A server without a healthy replica yet, and everything that counts."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.releases = Releases(server)
        self.client = Client(server.port)
        self.ports = {"app": "web", "host": "box", "proxy_port": str(server.port)}
        self.app = {"app": "web", "host": "box"}

    def scrape(self) -> Scrape:
        """What /metrics says; empty while it says nothing."""
        return fetch(self.server.metrics_url)

    def value(self, name: str) -> float:
        """The one series of this name, -1 if there is none yet."""
        values = list(self.scrape().get(name, {"": -1.0}).values())
        assert len(values) == 1
        return values[0]

    def until(self, name: str, value: float) -> None:
        wait_for(f"{name} is {value:g}", lambda: self.value(name) == value)


def fetch(url: str) -> Scrape:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return scraped(answer.read().decode())
    except OSError:
        return {}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    server = Server(tmp_path)
    one = Site(server)
    one.releases.fall_ill()
    one.releases.push("1.0.0")
    options = ["--host=box", "--replicas=2", f"--hold={HOLD}", "--health-path=/health", "--health-timeout=60"]
    server.start(*options, "--probe-interval=0.2", "--drain-time=1")
    yield one
    server.stop()
    server.end_replicas()


def test_every_metric_equals_what_was_counted_outside(site: Site) -> None:
    began = time.monotonic()
    zero_series(site)
    refuse_some(site)
    deliver(site)
    serve(site)
    deliver_more(site)
    live(site)
    site.client.leave()
    site.until("dewy_proxy_connections_active", 0)
    site.server.stop()
    first, failed = compare(site, time.monotonic() - began), site.releases.probes(503)
    be_ill_for_a_while(site)
    site.server.stop()
    compare_probes(site, first, failed)


NOW = {
    "dewy_proxy_backends",
    "dewy_proxy_connections_active",
    "dewy_container_replicas",
    "longshore_proxy_backend_connections_active",
    "longshore_releases_quarantined",
}
"""What is true as long as a service runs that knows it: when all have said that they stop, it is unknown."""


def zero_series(site: Site) -> None:
    """From the start there is every series, of the promised type and labels, and what has not happened is zero."""
    names = {"dewy_proxy_backends", "dewy_deployments_total"}
    wait_for("the port and the app are there", lambda: names <= {*site.scrape()})
    with urllib.request.urlopen(site.server.metrics_url, timeout=5) as answer:
        families = {one.name: one for one in text_string_to_metric_families(answer.read().decode())}
    for promise in DEWY:
        for name in (promise.prometheus, *promise.aliases):
            family = families[name.removesuffix("_total") if promise.kind == "counter" else name]
            assert family.type == {"updowncounter": "gauge"}.get(promise.kind, promise.kind)
            assert family.documentation == next(one.description for one in INSTRUMENTS if one.name == promise.name)
            labels = site.ports if promise.labels else site.app
            for sample in family.samples:
                assert {key: value for key, value in sample.labels.items() if key != "le"} == labels
                assert sample.value == 0 or "healthcheck" in name or name == "dewy_container_replicas"
            bounds = [float(sample.labels["le"]) for sample in family.samples if "le" in sample.labels]
            assert bounds == ([*promise.buckets, math.inf] if promise.buckets else [])


def refuse_some(site: Site) -> None:
    """While no replica is healthy, connections are held for a while and refused."""
    for _ in range(3):
        site.client.be_refused()
    assert site.client.refused == 3
    site.until("dewy_proxy_errors_total", 3)


def deliver(site: Site) -> None:
    wait_for("probes fail", lambda: site.releases.probes(503) > 2)
    site.releases.recover()
    site.until("dewy_deployments_total", 1)


def serve(site: Site) -> None:
    for size in range(10):
        site.client.ask(size * 1000, 100_000 - size)
    for size in (1000, 200_000, 50):
        site.client.stay(size)
    site.until("dewy_proxy_connections_active", 3)
    site.until("dewy_proxy_backends", 2)
    site.until("dewy_container_replicas", 2)
    site.until("dewy_proxy_bytes_transferred_total", site.client.sent + site.client.received)


def deliver_more(site: Site) -> None:
    """Two more releases, of which one cannot even start; connections to what is replaced end."""
    site.releases.push("1.1.0")
    site.until("dewy_deployments_total", 2)
    site.releases.push("1.2.0", runs=False)
    site.until("dewy_deployment_errors_total", 1)
    site.until("longshore_deployment_rollbacks_total", 1)
    site.client.leave()
    for size in (10, 20):
        site.client.stay(size)


def live(site: Site) -> None:
    """What is true now, as long as it is."""
    site.until("dewy_proxy_connections_active", site.client.open)
    site.until("dewy_proxy_backends", 2)
    site.until("dewy_container_replicas", 2)
    site.until("dewy_container_desired_replicas", 2)
    site.until("longshore_replicas_healthy", 2)
    site.until("longshore_releases_quarantined", 1)
    scrape = site.scrape()
    steps = scrape["longshore_deployment_phase_duration_seconds_count"].items()
    assert {dict(labels)["phase"]: count > 0 for labels, count in steps} == dict.fromkeys(PHASES, True)
    versions = {dict(labels)["version"]: dict(labels)["container"] for labels in scrape["dewy_container_info"]}
    assert set(versions) == {"1.1.0", "1.2.0"}
    broken = versions["1.2.0"]
    codes = scrape["dewy_container_last_terminated_exit_code"].items()
    assert {dict(labels)["container"]: code for labels, code in codes} == {broken: 3}
    now = [dict(labels) for labels, value in scrape["dewy_container_status"].items() if value]
    states = {one["container"]: one["state"] for one in now}
    assert sorted(states.values()) == ["exited", "running", "running"]
    assert states[broken] == "exited"
    wait_for("every process is measured", partial(processes_are_measured, site))
    started = scrape["dewy_container_started_timestamp_seconds"].values()
    assert all(time.time() - 600 < moment <= time.time() for moment in started)


def processes_are_measured(site: Site) -> bool:
    """Memory and CPU time of every service are what the kernel says of its process."""
    scrape = site.scrape()
    memory, cpu, spool = (
        {dict(key)["unit"].partition(":")[0]: value for key, value in scrape[f"longshore_{name}"].items()}
        for name in ("process_memory_bytes", "process_cpu_seconds_total", "spool_batches")
    )
    children = {name.partition(" ")[0]: pid for name, pid in site.server.children().items() if name != "bus"}
    return (
        set(spool) == set(memory) == set(cpu) == {*children, "proxy-worker"}
        and set(spool.values()) == {0}
        and all(memory[name] == pytest.approx(resident_bytes(pid), rel=0.5) for name, pid in children.items())
        and all(0 < cpu[name] <= spent(pid) for name, pid in children.items())
        and scrape["longshore_gateway_fold_seconds_total"][()] > 0
    )


def spent(pid: int) -> float:
    """CPU seconds of a process (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + 0.02


def compare(site: Site, elapsed: float) -> Scrape:
    """Everything has stopped: what the log says equals what the others have counted, by scrape and by OTLP."""
    client, pushed, visits = site.client, site.releases.pushed, site.releases.visits()
    answered = client.connections - client.refused
    assert len(visits) == answered
    assert (client.sent, client.received) == (sum(one.received for one in visits), sum(one.sent for one in visits))
    scrape = settled(site)
    ports, app = labels_of(site.ports), labels_of(site.app)
    expected = {
        "dewy_proxy_connections_total": client.connections,
        "dewy_proxy_connection_duration_seconds_count": client.connections,
        "dewy_proxy_connect_latency_seconds_count": answered,
        "dewy_proxy_connect_latency_count": answered,
        "dewy_proxy_bytes_transferred_total": client.sent + client.received,
        "dewy_proxy_errors_total": client.refused,
    }
    assert {name: scrape[name][ports] for name in expected} == expected
    assert scrape["dewy_proxy_connection_duration_seconds_sum"][ports] >= client.refused * HOLD
    assert 0 < scrape["dewy_proxy_connect_latency_seconds_sum"][ports] < elapsed * answered
    expected = {
        "dewy_deployments_total": pushed[True],
        "dewy_deployment_errors_total": pushed[False],
        "dewy_deployment_duration_seconds_count": sum(pushed.values()),
    }
    assert {name: scrape[name][app] for name in expected} == expected
    assert {name for name in NOW if name in scrape} == set()
    assert 0 < scrape["dewy_deployment_duration_seconds_sum"][app] < elapsed
    checks, failures = scrape["dewy_healthchecks_total"][app], scrape["dewy_healthchecks_failures_total"][app]
    assert checks - failures == site.releases.probes(200)
    assert failures >= site.releases.probes(503)  # and those that came before the application listened
    compare_our_own(site, scrape, elapsed)
    return scrape


def compare_our_own(site: Site, scrape: Scrape, elapsed: float) -> None:
    """The series that the document does not have, with the same care."""
    client, pushed = site.client, site.releases.pushed
    answered = client.connections - client.refused

    def by(label: str, name: str) -> dict[str, float]:
        return {dict(key)[label]: value for key, value in scrape[name].items() if dict(key).get("le", "+Inf") == "+Inf"}

    assert by("direction", "longshore_proxy_bytes_total") == {"in": client.sent, "out": client.received}
    assert by("reason", "longshore_proxy_errors_total") == {"no_backend": client.refused, "dial_failed": 0}
    assert sum(by("reason", "longshore_proxy_connections_closed_total").values()) == answered
    assert sum(by("backend", "longshore_proxy_backend_connections_total").values()) == answered
    assert sum(by("backend", "longshore_proxy_backend_connect_latency_seconds_count").values()) == answered
    assert sum(by("backend", "longshore_proxy_backend_dial_failures_total").values()) == 0
    ports, app = labels_of(site.ports), labels_of(site.app)
    assert scrape["longshore_proxy_hold_duration_seconds_count"][ports] == client.refused
    assert HOLD * client.refused <= scrape["longshore_proxy_hold_duration_seconds_sum"][ports] < elapsed
    assert sum(by("phase", "longshore_deployment_failures_total").values()) == pushed[False]
    assert scrape["longshore_deployment_rollbacks_total"][app] == pushed[False]
    assert scrape["longshore_healthcheck_duration_seconds_count"][app] == scrape["dewy_healthchecks_total"][app]
    lags = by("service", "longshore_event_lag_seconds_count")
    assert {service for service, count in lags.items() if count} == {"deployer", "gateway", "health", "proxy"}


def be_ill_for_a_while(site: Site) -> None:
    """The server starts anew, finds its replicas, and they fail some probes."""
    site.server.start("--host=box", "--replicas=2", "--health-path=/health", "--probe-interval=0.2")
    before = site.releases.probes(200)
    wait_for("probes go on", lambda: site.releases.probes(200) > before + 2)
    before = site.releases.probes(503)
    site.releases.fall_ill()
    wait_for("probes fail", lambda: site.releases.probes(503) > before + 5)
    site.releases.recover()


def compare_probes(site: Site, first: Scrape, failed_before: int) -> None:
    """Since the first comparison, every probe has reached the application, which wrote it down."""
    scrape, app = settled(site), labels_of(site.app)
    checks, failures = "dewy_healthchecks_total", "dewy_healthchecks_failures_total"
    failed = site.releases.probes(503) - failed_before
    assert failed > 5
    assert scrape[failures][app] - first[failures][app] == failed
    assert scrape[checks][app] - scrape[failures][app] == site.releases.probes(200)


def settled(site: Site) -> Scrape:
    """What a gateway says that reads the log alone; what it pushes is the same."""
    receiver = Receiver()
    with receiving(receiver) as port:
        options = [f"--otlp-endpoint=localhost:{port}", "--otlp-insecure", "--otlp-interval=0.3"]
        with gateway_alone(site.server, *options) as url:
            wait_for("the log is read", partial(fetch, f"{url}/metrics"))
            receiver.last()
            pushed, scrape = metrics(receiver.last()), fetch(f"{url}/metrics")
    for promise in DEWY:
        assert pushed[promise.name].unit == promise.unit
        same(pushed[promise.name], scrape, [promise.prometheus, *promise.aliases])
        assert bool(points(pushed[promise.name])) == (promise.prometheus not in NOW)
    return scrape


def same(metric: Metric, scrape: Scrape, names: list[str]) -> None:
    for labels, point in points(metric).items():
        for name in names:
            if metric.WhichOneof("data") == "histogram":
                check_histogram(name, labels, point, scrape)
            else:
                assert number(point) == scrape[name][labels]


def labels_of(labels: dict[str, str]) -> Labels:
    return tuple(sorted(labels.items()))
