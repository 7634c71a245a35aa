"""An audit of a log: whatever was done to it shows, and a whole one is called whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec
from schemas.chain import Sealer, digest
from schemas.codec import Batch
from schemas.events import EventsDropped, ServiceStopped
from services.replay.audit import MOST, Audit, Kind

INSTANCES = 3
EACH = 12


def whole() -> list[bytes]:
    """The batches of a few instances, in turns."""
    sealers = [Sealer("health", "host", f"i{n}") for n in range(INSTANCES)]
    events = [codec.encode_events([ServiceStopped(float(n), "why")]) for n in range(EACH)]
    return [sealer.seal("web", msgspec.Raw(each)) for each in events for sealer in sealers]


def audit(payloads: list[bytes], start: int = 1) -> Audit:
    result = Audit()
    for sequence, payload in enumerate(payloads, start):
        result.add(sequence, payload)
    return result


def kinds(payloads: list[bytes], start: int = 1) -> set[Kind]:
    return {finding.kind for finding in audit(payloads, start).findings()}


def changed(payload: bytes, **fields: Any) -> bytes:
    return codec.encode(msgspec.structs.replace(codec.decode(payload).batch, **fields))


@given(st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_whole_log_is_whole_in_whatever_order_its_batches_came(random: Any) -> None:
    payloads = whole()
    heads = {f"i{n}": digest(payloads[n - INSTANCES]).hex() for n in range(INSTANCES)}
    random.shuffle(payloads)
    result = audit(payloads)
    assert result.findings() == []
    assert {one.id: one.head for one in result.instances.values()} == heads
    assert {(one.first, one.last, one.batches) for one in result.instances.values()} == {(1, EACH, EACH)}


@given(st.integers(0, INSTANCES * (EACH - 1) - 1))
def test_a_batch_that_is_taken_out_is_a_gap(index: int) -> None:
    payloads = whole()
    taken = codec.decode(payloads.pop(index)).batch
    (finding,) = audit(payloads).findings()
    assert (finding.kind, finding.instance) == ("gap", taken.instance)
    assert f"batch {taken.sequence} of health on host" in finding.text


@given(st.integers(0, INSTANCES * EACH - 1), st.integers(0, INSTANCES * EACH))
def test_a_batch_that_is_there_twice_is_a_repeat(index: int, place: int) -> None:
    payloads = whole()
    payloads.insert(place, payloads[index])
    assert kinds(payloads) == {"repeat"}


@given(st.integers(0, INSTANCES * (EACH - 1) - 1), st.sampled_from(["events", "app", "previous"]))
def test_a_batch_that_is_altered_shows_unless_it_is_the_head(index: int, field: str) -> None:
    payloads = whole()
    fields = {"events": [], "app": "other", "previous": bytes(32)}
    payloads[index] = changed(payloads[index], **{field: fields[field]})
    assert kinds(payloads) == {"altered"}


def test_a_head_that_is_altered_shows_in_its_digest() -> None:
    payloads = whole()
    before = audit(payloads).instances["i2"].head
    payloads[-1] = changed(payloads[-1], events=[])
    result = audit(payloads)
    assert result.findings() == []
    assert result.instances["i2"].head != before


@given(st.integers(0, EACH - 2), st.integers(0, EACH - 2), st.integers(0, INSTANCES - 1), st.integers(0, INSTANCES - 1))
def test_batches_that_were_given_each_other_s_place_show(one: int, other: int, owner: int, thief: int) -> None:
    payloads = whole()
    a, b = one * INSTANCES + owner, other * INSTANCES + thief
    left, right = codec.decode(payloads[a]).batch, codec.decode(payloads[b]).batch
    payloads[a] = changed(payloads[b], instance=left.instance, sequence=left.sequence)
    payloads[b] = changed(codec.encode(left), instance=right.instance, sequence=right.sequence)
    assert kinds(payloads) == (set() if payloads == whole() else {"altered"})


@given(st.integers(1, INSTANCES * EACH))
def test_a_log_without_its_newest_end_looks_whole_but_for_the_digests_of_its_heads(count: int) -> None:
    heads = {one.id: one.head for one in audit(whole()).instances.values()}
    result = audit(whole()[:-count])
    assert result.findings() == []
    assert {one.id: one.head for one in result.instances.values()} != heads


@given(st.integers(0, EACH - 2), st.integers(0, INSTANCES - 1))
def test_a_chain_that_was_forged_from_a_batch_on_does_not_have_the_head_that_was_written_down(
    place: int, owner: int
) -> None:
    payloads = whole()
    before = audit(payloads).instances[f"i{owner}"].head
    previous = None
    for number in range(place * INSTANCES + owner, len(payloads), INSTANCES):
        fields: dict[str, Any] = {"previous": previous} if previous else {"events": []}
        payloads[number] = changed(payloads[number], **fields)
        previous = digest(payloads[number])
    result = audit(payloads)
    assert result.findings() == []
    assert result.instances[f"i{owner}"].head != before


@given(st.integers(1, INSTANCES * EACH - 1))
def test_what_left_the_log_at_its_old_end_is_no_gap(count: int) -> None:
    assert kinds(whole()[count:], start=count + 1) == set()


def test_a_log_that_begins_with_1_and_lacks_a_beginning_has_a_gap() -> None:
    result = audit(whole()[2 * INSTANCES :])
    assert [finding.text.partition(" of ")[0] for finding in result.findings()] == ["batches 1 to 2"] * INSTANCES


def test_a_message_that_was_deleted_from_the_stream_is_a_hole() -> None:
    payloads = whole()
    result = audit(payloads[:5])
    for sequence, payload in enumerate(payloads[7:], 8):
        result.add(sequence, payload)
    assert result.findings()[0].text == "messages 6 to 7 are not in the stream"


def test_what_is_no_batch_is_told() -> None:
    assert kinds([*whole(), b"\xc1"]) == {"unreadable"}


def test_a_gap_tells_that_events_were_dropped() -> None:
    sealer = Sealer("health", "host", "i")
    payloads = [sealer.seal("_", msgspec.Raw(codec.encode_events([EventsDropped(1.0, 7)]))) for _ in range(4)]
    (finding,) = audit([payloads[0], *payloads[2:]]).findings()
    assert finding.text == "batch 2 of health on host (i) not there; it said that 21 events were dropped"


def test_batches_of_versions_that_did_not_chain_are_checked_for_gaps_only() -> None:
    payloads = [codec.encode(Batch("health", "host", "web", "old", n, [])) for n in (1, 2, 4)]
    result = audit(payloads)
    assert [finding.kind for finding in result.findings()] == ["gap"]
    assert result.instances["old"].head == ""


def test_a_hopeless_log_is_not_told_line_by_line() -> None:
    result = audit([b""] * (5 * MOST))
    assert len(result.findings()) == MOST
    assert result.counts["unreadable"] == 5 * MOST


@given(st.lists(st.binary(max_size=100), max_size=20))
@pytest.mark.filterwarnings("error")
def test_random_bytes_raise_nothing(payloads: list[bytes]) -> None:
    audit(payloads).findings()
