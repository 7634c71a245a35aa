"""From a command line to the last step of what it caused: one trace, in a real collector's hands."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics import parser

from services.demo import releases
from tests.support.harness import Server, Traffic, wait_for
from tests.support.traces_receiver import Traces, receiving

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def test_a_rollback_is_one_trace_from_the_command_line_to_the_last_step(
    server: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = Traces()
    with receiving(traces) as port:
        one = server("--otlp-endpoint", f"localhost:{port}", "--otlp-insecure", "--stop-containers")
        wait_for("it serves", lambda: one.serves(releases.FIRST))
        releases.publish(one.registry, releases.SECOND)
        wait_for("it rolls out", lambda: one.serves(releases.SECOND))
        monkeypatch.setenv("TRACEPARENT", f"00-{TRACE}-{PARENT}-01")
        answer = one.verb("rollback")
        assert answer.returncode == 0, answer.stderr
        traces.until(lambda: [span for span in traces.named("deployment of web") if span.trace == TRACE])
    spans = [span for span in traces.spans if span.trace == TRACE]
    parents = {span.name: span.parent for span in spans}
    ids = {span.name: span.id for span in spans}
    assert parents["longshore rollback"] == PARENT
    assert parents["command rollback"] == ids["longshore rollback"]
    assert parents["deployment of web"] == ids["command rollback"]
    steps = {span.name for span in spans if span.parent == ids["deployment of web"]}
    assert steps == {"resolve", "pull", "start", "check", "route", "drain", "stop"}
    first, second, third = sorted(traces.named("deployment of web"), key=lambda span: span.start)
    assert (first.links, second.links, third.links) == ([], [first.id], [second.id])


def test_sampled_connections_are_traces_and_the_exemplars_of_the_latencies_lead_to_them(
    server: Callable[..., Server],
) -> None:
    traces = Traces()
    with receiving(traces) as port:
        otlp = ["--otlp-endpoint", f"localhost:{port}", "--otlp-insecure"]
        one = server(*otlp, "--trace-connections", "1", "--stop-containers")
        wait_for("it serves", lambda: one.serves(releases.FIRST))
        with Traffic(one.port) as traffic:
            traffic.wait_for_more(20)
        wait_for(
            "every connection is counted", lambda: one.metrics().get("dewy_proxy_connections_total") == traffic.answered
        )
        traces.until(lambda: len(traces.named("connection to web")) == traffic.answered)
        roots = {span.trace: span for span in traces.named("connection to web")}
        dials = {span.trace: span for span in traces.named("dial")}
        assert len(roots) == len(dials) == traffic.answered
        for trace, dial in dials.items():
            assert dial.parent == roots[trace].id
            assert roots[trace].start <= dial.start <= dial.end <= roots[trace].end
            assert dial.attributes["longshore.backend"] == roots[trace].attributes["longshore.backend"]
        steps = {span.name for span in traces.spans if span.trace in roots}
        assert steps >= {"connection to web", "dial", "first byte", "transfer"}
        assert exemplars(one, "dewy_proxy_connection_duration_seconds") <= {(t, span.id) for t, span in roots.items()}
        assert exemplars(one, "dewy_proxy_connect_latency_seconds") <= {(t, span.id) for t, span in dials.items()}


def exemplars(one: Server, metric: str) -> set[tuple[str, str]]:
    """Trace and span of each exemplar, of which there is one at least, and each belongs to its bucket."""
    request = urllib.request.Request(one.metrics_url, headers={"accept": "application/openmetrics-text;version=1.0.0"})
    with urllib.request.urlopen(request, timeout=5) as answer:
        families = list(parser.text_string_to_metric_families(answer.read().decode()))  # type: ignore[no-untyped-call]
    (family,) = [family for family in families if family.name == metric]
    found = [(sample, sample.exemplar) for sample in family.samples if sample.exemplar]
    assert found
    assert all(exemplar.value <= float(sample.labels["le"]) for sample, exemplar in found)
    return {(exemplar.labels["trace_id"], exemplar.labels["span_id"]) for _, exemplar in found}
