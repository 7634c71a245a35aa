"""Batches that repeat or overtake each other give the same state as the uninterrupted log."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas import events as e
from schemas.codec import Batch
from services.metrics_gateway.fold.apply import apply, apply_batch
from services.metrics_gateway.state.state import State
from services.metrics_gateway.views.status import LogStatus, containers, status
from tests.metrics_gateway.recording import LOG, exposition, read

PORTS = st.sampled_from([80, 81])
CONNECTIONS = st.integers(1, 6)
NAMES = st.sampled_from(["a", "b"])
SECONDS = st.floats(0, 100, allow_nan=False)
BYTES = st.integers(0, 1 << 40)


def built(kind: type[e.Event], *values: st.SearchStrategy[Any]) -> st.SearchStrategy[e.Event]:
    """Build events whose first fields have these values."""
    names = [field.name for field in msgspec.structs.fields(kind)]
    return st.builds(kind, **dict(zip(names, values, strict=False)))


PROXY_EVENTS = st.one_of(
    built(e.ListenerOpened, SECONDS, PORTS, NAMES),
    built(e.ListenerClosed, SECONDS, PORTS),
    built(e.DialFailed, SECONDS, CONNECTIONS, PORTS, NAMES, SECONDS, NAMES),
    built(e.BackendJoined, SECONDS, PORTS, NAMES, NAMES),
    built(e.BackendLeft, SECONDS, PORTS, NAMES),
    built(e.BackendEjected, SECONDS, PORTS, NAMES, NAMES),
    built(e.ServiceHeartbeat, SECONDS, BYTES, SECONDS, SECONDS),
    built(e.EventsDropped, SECONDS, st.integers(1, 9)),
    built(e.BackendDrained, SECONDS, PORTS, NAMES, st.integers(0, 3), SECONDS),
)
DEPLOYER_EVENTS = st.one_of(
    built(e.ReplicaReady, SECONDS, NAMES, NAMES, SECONDS),
    built(e.ReplicaRouted, SECONDS, NAMES, NAMES),
    built(e.ReplicaDraining, SECONDS, NAMES, NAMES),
    built(e.ReleaseQuarantined, SECONDS, NAMES, NAMES),
    built(e.QuarantineLifted, SECONDS, NAMES, NAMES),
    built(e.DeploymentsPaused, SECONDS, NAMES),
    built(e.DeploymentsResumed, SECONDS, NAMES),
    built(e.RegistryFailed, SECONDS, NAMES, NAMES, st.integers(1, 9)),
    built(e.RegistryRecovered, SECONDS, NAMES, st.integers(1, 9)),
    built(e.ReleaseFound, SECONDS, NAMES, NAMES, st.sampled_from(["img://a/b", "dir:///a"])),
    built(e.ScaleSet, SECONDS, st.integers(0, 9)),
    built(e.ImagePulled, SECONDS, NAMES, NAMES, SECONDS),
    built(e.HealthChecked, SECONDS, NAMES, st.booleans(), SECONDS),
)


@st.composite
def connection(draw: st.DrawFn, number: int) -> list[e.Event]:
    """The life of one connection, its bytes never shrinking."""
    port = draw(PORTS)
    first, second, third = sorted(draw(st.lists(BYTES, min_size=3, max_size=3)))
    life: list[e.Event] = [e.ConnectionAccepted(1.0, number, port)]
    if draw(st.booleans()):
        life.append(
            e.ConnectionEstablished(
                1.0, number, port, backend=draw(NAMES), latency=draw(SECONDS), attempts=1, held=draw(SECONDS)
            )
        )
    life += [
        e.ConnectionProgressed(1.0, number, port, bytes_in=first, bytes_out=second),
        e.ConnectionProgressed(1.0, number, port, bytes_in=second, bytes_out=second),
    ]
    life += [
        draw(
            st.sampled_from(
                [
                    e.ConnectionClosed(
                        1.0,
                        number,
                        port,
                        backend="a",
                        bytes_in=third,
                        bytes_out=third,
                        duration=draw(SECONDS),
                        reason="eof",
                    ),
                    e.ServiceHeartbeat(1.0, rss=1, cpu=1.0, loop_lag=1.0),
                ]
            )
        )
    ]
    return life


def samples(name: str) -> st.SearchStrategy[e.Event]:
    """Samples of one replica, as they are taken only while it runs."""

    def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.just({}) | st.builds(lambda value: {name: value}, values)

    cpu = st.builds(lambda value: {name: value}, SECONDS)
    limited = {field: some(BYTES) for field in ("memory", "memory_limit", "received", "sent")}
    return st.builds(e.ReplicasSampled, SECONDS, cpu=cpu, **limited, restarts=some(st.integers(0, 3)))


@st.composite
def replica(draw: st.DrawFn, number: int) -> list[e.Event]:
    """The life of one replica and the deployment that started it."""
    name, deployment, release = f"r{number}", f"d{number}", f"v{number}"
    life: list[e.Event] = [
        e.DeploymentStarted(
            1.0, deployment, release, previous="", by="registry", strategy="rolling", replicas=number, trace=""
        ),
        e.ReplicaStarted(
            2.0,
            draw(st.sampled_from([deployment, ""])),
            name,
            release=release,
            address=":1",
            pid=number,
            slot=number,
            duration=0.5,
        ),
        e.ReplicaReady(3.0, deployment, name, 1.0),
        e.ReplicaRouted(4.0, deployment, name, 0.25),
        *draw(st.lists(samples(name), max_size=3)),
        draw(
            st.sampled_from(
                [
                    e.DeploymentSucceeded(5.0, deployment, release, 2.5),
                    e.DeploymentFailed(5.0, deployment, release, phase="check", reason="no", duration=2.5),
                ]
            )
        ),
    ]
    ends: list[list[e.Event]] = [
        [],
        [e.ReplicaExited(6.0, name, release, draw(st.sampled_from([0, 1, -9, -1000])), draw(st.booleans()))],
        [
            e.ReplicaDraining(6.0, deployment, name),
            e.ReplicaDrained(6.5, deployment, name, cut=1, duration=0.5),
            e.ReplicaRetired(7.0, deployment, name, reason="replaced", duration=0.5),
        ],
    ]
    return life + draw(st.sampled_from(ends))


@st.composite
def log(draw: st.DrawFn) -> list[bytes]:
    """The batches of one instance that is a proxy and a deployer at once, in order."""
    events: list[e.Event] = [e.ServiceStarted(0.0, draw(st.sampled_from(["deployer:app", "proxy:80"])), "1", 1)]
    for number in range(draw(st.integers(1, 4))):
        events += draw(connection(number))
        events += draw(st.lists(PROXY_EVENTS, max_size=3))
        events += draw(replica(number))
        events += draw(st.lists(DEPLOYER_EVENTS, max_size=3))
    if draw(st.booleans()):
        gone = draw(st.sampled_from([[], [e.ApplicationRemoved(8.0, "ann")]]))
        events += [*gone, e.ServiceStopped(9.0, "stopped")]
    size = draw(st.integers(1, 4))
    batches: list[list[Any]] = [events[n : n + size] for n in range(0, len(events), size)]
    return [codec.encode(Batch("x", "h", "app", "i", n, batch)) for n, batch in enumerate(batches, 1)]


def fold(payloads: list[bytes]) -> State:
    state = State()
    for position, payload in enumerate(payloads, 1):
        apply(state, position, 1.0, payload)
    return state


def seen(state: State) -> tuple[str, bytes]:
    """All that anybody can see of a state, except how often batches were late or repeated."""
    lines = [line for line in exposition(state).splitlines() if "_repeated" not in line and "_late" not in line]
    answers = status(state, LogStatus(0, 0, True, 0.0, True), "1"), containers(state)
    return "\n".join(sorted(lines)), msgspec.json.encode(answers, order="deterministic")


@given(log(), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_repeated_and_reordered_batches_of_an_instance_change_nothing(payloads: list[bytes], random: Any) -> None:
    shuffled = payloads + random.choices(payloads, k=random.randint(0, len(payloads)))
    random.shuffle(shuffled)
    assert seen(fold(shuffled)) == seen(fold(payloads))


@given(st.randoms(use_true_random=False))
@settings(max_examples=25, deadline=None)
def test_the_recorded_log_may_come_twice(random: Any) -> None:
    payloads = [payload for payload in read(LOG) if not payload.startswith(b"\xc1")]
    once = fold(payloads)
    again = fold(payloads)
    for payload in random.sample(payloads, len(payloads)):
        apply_batch(again, codec.decode(payload).batch)
    assert seen(again) == seen(once)


@given(st.lists(st.binary(max_size=200), max_size=20))
@settings(max_examples=200, deadline=None)
def test_random_bytes_on_the_log_raise_nothing(payloads: list[bytes]) -> None:
    state = fold(payloads)
    assert state.position == len(payloads)
    exposition(state)
