"""Values of the buckets that are damaged or hostile: none is taken that a reader could stumble over."""

from __future__ import annotations

import asyncio
import errno
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.limits import is_address
from schemas.routing import Check, Decisions, Health, Lease, Replica, Route, Serving
from services.cli.overview import app_view
from services.health.probe import Prober
from services.health.thresholds import Tally, observe, pause
from services.proxy.worker.relay.dialing import dial
from tests.schemas.strategies import WILD

KINDS = (Route, Serving, Replica, Health, Decisions, Lease)
wild = st.recursive(
    st.none() | st.one_of(*WILD.values()).filter(lambda value: not isinstance(value, bytes)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WILD[str], inner, max_size=3),
    max_leaves=6,
)
addresses = st.sampled_from(
    ["127.0.0.1", "::1", "fe80::1%nosuch", "fe80::1%lo", "nohost", "", "1.2.3", "0x7f.1", "256.1.1.1"]
)
ports = st.sampled_from([-1, 0, 1, 65535, 65536, 70000, 2**31, 2**63])


def hostile(kind: Any) -> st.SearchStrategy[Any]:
    """JSON of a kind's shape with any value in any place, that is often right but for one."""
    special = {"host": addresses, "port": ports, "backends": st.lists(backends, max_size=3)}
    fields = {field.name: special.get(field.name, wild) for field in msgspec.structs.fields(kind)}
    honest = {name: st.sampled_from(HONEST[name]) for name in fields if name in HONEST}
    return st.fixed_dictionaries({name: honest.get(name, fields[name]) | fields[name] for name in fields})


backends = st.fixed_dictionaries({"id": st.sampled_from(["a", "b"]), "host": addresses, "port": ports})
HONEST: dict[str, list[Any]] = {
    "app": ["web"],
    "id": ["web-1"],
    "replica": ["web-1"],
    "release": ["1.0.0"],
    "generation": [1],
    "port": [8080],
    "draining": [{}, {"a": 1}],
    "check": [{}, {"interval": 0.0}, {"interval": 1e9, "timeout": 0.01, "path": "/ \u00e9"}],
    "pid": [0, 7],
    "healthy": [True],
    "starting": [False],
    "since": [1.0],
    "reason": [""],
    "quarantined": [{}],
    "paused": [False],
    "ongoing": [None],
    "artifacts": [{}],
    "telling": ["", "kQ=="],
}


def taken(kind: Any, value: Any) -> Any:
    """What a reader gets, None for what it refuses."""
    try:
        return codec.value(msgspec.json.encode(value), kind)
    except msgspec.MsgspecError:
        return None


@settings(deadline=None)
@given(hostile(Route))
def test_every_backend_of_a_route_that_is_taken_can_be_dialed(value: dict[str, Any]) -> None:
    route = taken(Route, value)
    for backend in route.backends if route else []:
        assert 1 <= backend.port <= 65535
        if is_address(backend.host):
            sock, problem = dial((backend.host, backend.port))
            assert (sock is None) == bool(problem)
            if sock:
                sock.close()


@pytest.mark.parametrize("address", [("127.0.0.1", 70000), ("127.0.0.1", -1), ("fe80::1%nosuch", 80), ("nohost.", 80)])
def test_an_address_that_cannot_be_dialed_is_a_failure_of_the_dial(address: tuple[str, int]) -> None:
    sock, problem = dial(address)
    assert sock is None
    assert problem in (errno.EINVAL, errno.ENETUNREACH)


@pytest.mark.parametrize("host", ["fe80::1%nosuch", "fe80::1%1", "localhost", "", "127.0.0.1 ", "1.2.3"])
def test_a_name_or_an_address_with_a_zone_is_no_address(host: str) -> None:
    assert not is_address(host)


@settings(deadline=None, max_examples=30)
@given(hostile(Replica))
def test_every_replica_that_is_taken_can_be_probed(value: dict[str, Any]) -> None:
    async def probe(replica: Replica) -> None:
        async with Prober(1) as prober:
            outcome = await prober.probe(
                msgspec.structs.replace(replica, check=Check(replica.check.path, timeout=0.05))
            )
        tally = observe(Tally(), outcome.passed, replica.check)
        assert pause(tally, replica.check, 0.5) > 0

    replica = taken(Replica, value)
    if replica:
        asyncio.run(probe(replica))


@settings(deadline=None)
@given(st.tuples(*map(hostile, (Decisions, Route, Replica, Health))))
def test_a_status_is_printed_of_whatever_is_taken(values: tuple[dict[str, Any], ...]) -> None:
    decided, route, replica, health = (
        taken(kind, value) for kind, value in zip((Decisions, Route, Replica, Health), values, strict=True)
    )
    view = app_view(
        "web",
        decided or Decisions(),
        [route] if route else [],
        [replica] if replica else [],
        {health.replica: health} if health else {},
    )
    msgspec.json.encode(view)


@settings(deadline=None)
@given(st.sampled_from(KINDS), st.data())
def test_a_value_is_taken_within_its_limits_or_refused(kind: Any, data: st.DataObject) -> None:
    found = taken(kind, data.draw(hostile(kind)))
    if found:
        assert taken(kind, msgspec.to_builtins(found)) == found


@settings(deadline=None)
@given(st.binary(max_size=80) | st.sampled_from([b"[" * 100_000, b'{"app":"\xff"}', b"1e999", b'"\\ud800"']))
def test_what_is_no_json_is_refused(payload: bytes) -> None:
    for kind in KINDS:
        try:
            codec.value(payload, kind)
        except msgspec.MsgspecError:
            continue
