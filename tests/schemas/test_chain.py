"""Batches chained by digests: in whatever order they come, a change shows."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import chain, codec
from schemas.chain import Sealer, fits
from schemas.codec import Batch
from schemas.events import EventsDropped, ServiceStopped


def log(count: int, instance: str = "i") -> list[bytes]:
    sealer = Sealer("health", "host", instance)
    events = (codec.encode_events([ServiceStopped(float(n), "why")]) for n in range(count))
    return [sealer.seal("web", msgspec.Raw(each)) for each in events]


def breaks(payloads: list[bytes]) -> int:
    """How many of the messages do not fit."""
    links: dict[int, bytes] = {}
    return sum(not fits(links, codec.decode(payload).batch, payload) for payload in payloads)


def changed(payload: bytes, **fields: Any) -> bytes:
    return codec.encode(msgspec.structs.replace(codec.decode(payload).batch, **fields))


def test_what_is_sealed_is_a_batch() -> None:
    first, second = log(2)
    batch = codec.decode(second).batch
    assert (batch.service, batch.host, batch.app, batch.instance, batch.sequence) == ("health", "host", "web", "i", 2)
    assert batch.events == [ServiceStopped(1.0, "why")]
    assert batch.previous == chain.digest(first)


@given(st.integers(1, 20), st.randoms(use_true_random=False))
def test_a_whole_chain_fits_in_any_order_and_leaves_its_head(count: int, random: Any) -> None:
    payloads = log(count)
    head = chain.digest(payloads[-1])
    random.shuffle(payloads)
    links: dict[int, bytes] = {}
    assert all(fits(links, codec.decode(payload).batch, payload) for payload in payloads)
    assert links == {count + 1: head}


@given(st.integers(0, 8), st.sampled_from(["events", "previous", "stripped"]), st.randoms(use_true_random=False))
def test_a_change_of_any_but_the_last_shows_in_any_order(index: int, what: str, random: Any) -> None:
    payloads = log(10)
    fields: dict[str, Any] = {"events": []} if what == "events" else {"previous": bytes(32)}
    payloads[index] = changed(payloads[index], **({"previous": b""} if what == "stripped" else fields))
    random.shuffle(payloads)
    assert breaks(payloads) > 0


def test_a_chain_that_begins_with_another_first_batch_does_not_fit() -> None:
    assert breaks([changed(log(1)[0], previous=bytes(32))]) == 1


def test_a_chain_goes_on_where_somebody_else_left_it() -> None:
    sealer = Sealer("health", "host", "i")
    first = sealer.seal("web", msgspec.Raw(b"\x90"))
    second = Sealer("health", "host", "i", sealer.sequence, sealer.head).seal("web", msgspec.Raw(b"\x90"))
    assert breaks([first, second]) == 0


def test_batches_of_a_version_that_did_not_chain_fit() -> None:
    assert breaks([codec.encode(Batch("health", "host", "web", "old", n, [])) for n in (1, 2, 4, 3)]) == 0


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"[" * 5000])
def test_kinds_of_what_is_no_batch_are_refused(payload: bytes) -> None:
    with pytest.raises(msgspec.MsgspecError):
        codec.kinds(payload)


def test_kinds_counts_also_events_that_nobody_knows() -> None:
    batch = Batch("health", "host", "web", "i", 1, [ServiceStopped(1.0, ""), EventsDropped(1.0, 1)])
    raw = msgspec.msgpack.decode(codec.encode(batch))
    raw[5].append([9999, 1.0])
    assert codec.kinds(msgspec.msgpack.encode(raw)) == {"ServiceStopped": 1, "EventsDropped": 1, "tag 9999": 1}
