"""A recorded log, folded, gives exactly the metrics that are stored beside it."""

from __future__ import annotations

from collections import Counter

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from tests.metrics_gateway.recording import APP, GOLDEN, HOST, LOG, PORT, exposition, folded, read

KEY = (HOST, APP, PORT)


def _batches() -> list[Batch]:
    """Each batch of the log once."""
    found = {}
    for payload in read(LOG):
        if payload.startswith(b"\xc1"):
            continue
        batch = codec.decode(payload).batch
        found[batch.instance, batch.sequence] = batch
    return list(found.values())


def _kinds() -> Counter[type[e.Event]]:
    return Counter(type(event) for batch in _batches() for event in batch.events)


def test_the_recorded_log_gives_the_stored_metrics_to_the_letter() -> None:
    assert exposition(folded(list(read(LOG)))) == GOLDEN.read_text()


def test_the_recorded_log_holds_what_can_go_wrong() -> None:
    state = folded(list(read(LOG)))
    assert state.events > 2000
    assert min(state.repeated, state.late, state.undecodable, state.unknown, state.malformed, state.missing()) > 0
    assert any(instance.ended == "killed by signal 9" for instance in state.instances.values())


def test_the_stored_counters_equal_a_plain_count_of_the_events() -> None:
    kinds = _kinds()
    state = folded(list(read(LOG)))
    port, app = state.ports[KEY], state.apps[HOST, APP]
    assert port.connections == kinds[e.ConnectionAccepted]
    assert port.errors == kinds[e.ConnectionRefused]
    assert port.duration.count == kinds[e.ConnectionClosed] + kinds[e.ConnectionRefused]
    assert port.latency.count == kinds[e.ConnectionEstablished] + kinds[e.DialFailed]
    assert app.deployments == kinds[e.DeploymentSucceeded]
    assert app.healthchecks == kinds[e.HealthChecked]
    assert state.events == sum(kinds.values())


def test_the_stored_bytes_equal_the_last_word_on_each_connection() -> None:
    most: dict[tuple[str, int], int] = {}
    for batch in _batches():
        for event in batch.events:
            if isinstance(event, e.ConnectionClosed | e.ConnectionProgressed):
                key = (batch.instance, event.connection)
                most[key] = max(most.get(key, 0), event.bytes_in + event.bytes_out)
    assert folded(list(read(LOG))).ports[KEY].bytes == sum(most.values())


def test_folding_a_log_again_gives_the_same_state() -> None:
    payloads = list(read(LOG))
    assert folded(payloads) == folded(payloads)
    assert folded(payloads[:-1]) != folded(payloads)
