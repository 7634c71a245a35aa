"""From a command line to the last step of what it caused: one trace, in a real collector's hands."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from services.demo import releases
from tests.e2e.harness import Server, wait_for
from tests.gateway.traces.receiver import Traces, receiving

pytestmark = pytest.mark.e2e

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
