"""The open connections of each backend are counted as they come and go, and not walked for an answer."""

from __future__ import annotations

from collections import Counter
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.fold import expiry
from services.metrics_gateway.fold.apply import apply
from services.metrics_gateway.instruments.instrument import Measurement
from services.metrics_gateway.snapshots import snapshot
from services.metrics_gateway.state.port import Listener
from services.metrics_gateway.state.state import State
from services.metrics_gateway.views import backends, status

NUMBERS = st.integers(1, 3)
NAMES = st.sampled_from(["", "a", "b"])
EVENTS = st.one_of(
    st.builds(lambda n: e.ConnectionAccepted(1.0, n, 80), NUMBERS),
    st.builds(
        lambda n, name: e.ConnectionEstablished(1.0, n, 80, backend=name, latency=0.1, attempts=1), NUMBERS, NAMES
    ),
    st.builds(lambda n: e.ConnectionProgressed(1.0, n, 80, bytes_in=5, bytes_out=5), NUMBERS),
    st.builds(
        lambda n, name: e.ConnectionClosed(
            1.0, n, 80, backend=name, bytes_in=9, bytes_out=9, duration=0.1, reason="eof"
        ),
        NUMBERS,
        NAMES,
    ),
    st.builds(lambda n: e.ConnectionRefused(1.0, n, 80, reason="no_backend", duration=0.1), NUMBERS),
)


def folded(batches: list[tuple[int, list[Any]]]) -> State:
    """What so many batches of one worker make, in the order in which they came."""
    state = State()
    for position, (sequence, events) in enumerate(batches, 1):
        apply(state, position, 1.0, codec.encode(Batch("proxy", "web-1", "shop", "w", sequence, events)))
    return state


def listeners(state: State) -> list[Listener]:
    return [listener for instance in state.instances.values() for listener in instance.listeners.values()]


@given(st.lists(st.lists(EVENTS, max_size=6), max_size=6), st.randoms())
def test_they_are_those_that_are_open_in_whatever_order_the_batches_come(parts: list[list[Any]], order: Any) -> None:
    batches = list(enumerate(parts, 1))
    order.shuffle(batches)
    state = folded(batches)
    for listener in listeners(state):
        assert listener.carried == dict(Counter(name for _, _, name in listener.open.values() if name))
    restored = snapshot.restore(snapshot.decode(snapshot.encode(state, "s"), "s", state.position))
    assert restored == state


def test_a_snapshot_of_a_version_that_did_not_count_them_is_counted() -> None:
    state = folded([(1, [e.ConnectionEstablished(1.0, 1, 80, backend="a", latency=0.1, attempts=1)])])
    (listener,) = listeners(state)
    listener.carried = {}
    restored = snapshot.restore(snapshot.decode(snapshot.encode(state, "s"), "s", state.position))
    assert [one.carried for one in listeners(restored)] == [{"a": 1}]


class Unwalked(dict[Any, Any]):
    """Connections that may be looked up and counted, and not walked."""

    def __iter__(self) -> NoReturn:
        raise AssertionError("all open connections are walked")

    def values(self) -> NoReturn:
        raise AssertionError("all open connections are walked")

    items = keys = values


@pytest.fixture
def state() -> State:
    """A proxy with open and held connections, which nobody may walk."""
    opened = [e.ConnectionEstablished(1.0, number, 80, backend="a", latency=0.1, attempts=1) for number in range(50)]
    held = [e.ConnectionAccepted(1.0, number, 80) for number in range(50, 60)]
    state = folded([(1, [e.BackendJoined(1.0, 80, "a", "127.0.0.1:1"), *opened, *held])])
    (listener,) = listeners(state)
    listener.open = Unwalked(listener.open)
    return state


def test_a_scrape_walks_no_open_connection(state: State) -> None:
    text = Exporter(lambda: Measurement(state, 1.0, "1", True, {}), {}).expose("", "").body.decode()
    labels = 'app="shop",backend="a",host="web-1",proxy_port="80"'
    assert f"longshore_proxy_backend_connections_active{{{labels}}} 50.0" in text
    assert 'dewy_proxy_connections_active{app="shop",host="web-1",proxy_port="80"} 60.0' in text


def test_neither_does_what_time_does_nor_a_view(state: State) -> None:
    state.next_expiry = 0.0
    expiry.advance(state, 1.0)
    assert list(state.ports["web-1", "shop", 80].backends) == ["a"]
    assert backends.backends(state, "").backends
    assert status.containers(state)
