"""An audit of a log: whatever was done to it shows, and a whole one is called whole."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import codec, subjects
from schemas.chain import Sealer, digest
from schemas.codec import Batch
from schemas.events import EventsDropped, ServiceStarted, ServiceStopped
from services.replay.audit import MOST, Audit, Kind
from services.replay.heads import Head
from services.replay.log.logfile import Record

INSTANCES = 3
EACH = 12


def whole() -> list[bytes]:
    """The batches of a few instances, in turns."""
    sealers = [Sealer("health", "host", f"i{n}") for n in range(INSTANCES)]
    events = [codec.encode_events([ServiceStopped(float(n), "why")]) for n in range(EACH)]
    return [sealer.seal("web", msgspec.Raw(each)) for each in events for sealer in sealers]


def stored(payload: bytes, sequence: int, began: float = 0.0) -> Record:
    """A message as it is in the stream, stored when its sequence says."""
    try:
        batch = codec.decode(payload).batch
    except msgspec.MsgspecError:
        return Record(sequence, float(sequence), "longshore.events.health.web", payload, began)
    return Record(sequence, float(sequence), subjects.events(batch.service, batch.app), payload, began)


def audit(payloads: list[bytes], start: int = 1, heads: list[Head] | None = None) -> Audit:
    result = Audit(heads)
    for sequence, payload in enumerate(payloads, start):
        result.add(stored(payload, sequence))
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


def test_a_log_says_how_many_messages_it_has_and_from_where_to_where() -> None:
    empty, part = audit([]), audit(whole()[4:9], start=5)
    assert (empty.messages, empty.first, empty.last) == (0, 0, 0)
    assert (part.messages, part.first, part.last) == (5, 5, 9)
    part.end(12)
    assert part.last == 12


@given(st.integers(0, INSTANCES * (EACH - 1) - 1))
def test_a_batch_that_is_taken_out_is_a_gap(index: int) -> None:
    payloads = whole()
    taken = codec.decode(payloads.pop(index)).batch
    (finding,) = audit(payloads).findings()
    assert (finding.kind, finding.instance) == ("gap", taken.instance)
    assert finding.text == f"batch {taken.sequence} of health on host ({taken.instance}) missing"


@given(st.integers(0, INSTANCES * EACH - 1), st.integers(0, INSTANCES * EACH))
def test_a_batch_that_is_there_twice_is_told_and_is_no_fault(index: int, place: int) -> None:
    payloads = whole()
    batch = codec.decode(payloads[index]).batch
    payloads.insert(place, payloads[index])
    result = audit(payloads)
    assert (result.findings(), result.repeated, result.instances[batch.instance].repeated) == ([], 1, 1)
    second = max(n for n, payload in enumerate(payloads, 1) if payload == whole()[index])
    name = f"health on host ({batch.instance})"
    assert result.repeats == [f"batch {batch.sequence} of {name} is there again, at {second}"]


@given(st.integers(0, INSTANCES * EACH - 1), st.integers(0, INSTANCES * EACH))
def test_a_copy_with_another_content_was_altered(index: int, place: int) -> None:
    payloads = whole()
    payloads.insert(place, changed(payloads[index], events=[]))
    result = audit(payloads)
    assert {finding.kind for finding in result.findings()} == {"altered"}
    name = codec.decode(payloads[place]).batch.instance
    assert result.instances[name].altered == result.counts["altered"]
    assert any("is there again" in finding.text for finding in result.findings())


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
    before = audit(whole()).instances[f"i{owner}"].head
    result = audit(forged(place, owner))
    assert result.findings() == []
    assert result.instances[f"i{owner}"].head != before


def forged(place: int, owner: int) -> list[bytes]:
    """The log with a batch of an instance emptied and the chain made to fit from there to its end."""
    payloads, previous = whole(), None
    for number in range(place * INSTANCES + owner, len(payloads), INSTANCES):
        fields: dict[str, Any] = {"previous": previous} if previous else {"events": []}
        payloads[number] = changed(payloads[number], **fields)
        previous = digest(payloads[number])
    return payloads


@given(st.integers(1, INSTANCES * EACH - 1))
def test_what_left_the_log_at_its_old_end_is_no_gap(count: int) -> None:
    assert kinds(whole()[count:], start=count + 1) == set()


def test_a_log_that_begins_with_1_and_lacks_a_beginning_has_a_gap() -> None:
    result = audit(whole()[2 * INSTANCES :])
    assert [finding.text.partition(" of ")[0] for finding in result.findings()] == ["batches 1 to 2"] * INSTANCES


def uuid(seconds: float) -> str:
    return f"{round(seconds * 1000) >> 16:08x}-{round(seconds * 1000) & 0xFFFF:04x}-7000-8000-000000000000"


def test_what_lacks_of_an_instance_that_is_younger_than_the_log_is_a_gap() -> None:
    payloads = [Sealer("health", "host", uuid(at)).seal("_", msgspec.Raw(b"\x90")) for at in (1.0, 905.0)]
    later = [changed(payload, sequence=3) for payload in payloads]
    (finding,) = audit(later, start=900).findings()
    assert (finding.kind, finding.instance) == ("gap", uuid(905.0))


def test_what_left_the_log_that_another_was_imported_from_is_no_gap() -> None:
    result = Audit()
    for sequence, payload in enumerate(whole()[2 * INSTANCES :], 1):
        result.add(stored(payload, sequence, began=7.0))
    assert result.findings() == []


def test_a_message_under_the_subject_of_another_service_or_application_is_misplaced() -> None:
    wrong = ("proxy.web", "health.shop", "proxy.shop.another-host", "proxy")
    for subject in (f"longshore.events.{each}" for each in wrong):
        result = Audit()
        result.add(msgspec.structs.replace(stored(whole()[0], 1), subject=subject))
        (finding,) = result.findings()
        assert (finding.kind, finding.sequence) == ("misplaced", 1)
        assert subject in finding.text


def test_a_message_is_in_its_place_with_and_without_its_host_in_the_subject() -> None:
    plain = stored(whole()[0], 1)
    host = codec.decode(plain.payload).batch.host
    for subject in (plain.subject, f"{plain.subject}.{host}"):
        result = Audit()
        result.add(msgspec.structs.replace(plain, subject=subject))
        assert result.findings() == []


def test_a_process_without_a_chain_after_one_that_had_it_is_told() -> None:
    forged = [changed(payload, instance="new", previous=b"") for payload in whole()[::INSTANCES]]
    assert kinds([*whole(), *forged]) == {"unchained"}
    assert kinds([*forged, *whole()]) == set()
    elsewhere = [changed(payload, host="other") for payload in forged]
    assert kinds([*whole(), *elsewhere]) == set()


def worker(parent: str) -> bytes:
    started = codec.encode_events([ServiceStarted(1.0, "proxy-worker", "1", 1, parent)])
    return Sealer("proxy", "host", "w").seal("_", msgspec.Raw(started))


def test_a_process_whose_parent_was_taken_out_is_told() -> None:
    assert kinds([*whole(), worker("i1")]) == set()
    (finding,) = audit([*whole(), worker("i9")]).findings()
    assert (finding.kind, finding.instance) == ("orphan", "w")
    assert "i9" in finding.text


def test_a_parent_that_is_older_than_the_log_may_have_left_it() -> None:
    assert kinds([worker(uuid(899.0))], start=900) == set()
    assert kinds([worker(uuid(901.0))], start=900) == {"orphan"}


def listed(payloads: list[bytes], start: int = 1) -> list[Head]:
    """The list of a log, as `longshore verify --json` prints it."""
    return [
        Head(one.service, one.host, one.id, one.last, one.head, one.sequence, one.time)
        for one in audit(payloads, start).instances.values()
    ]


@given(st.integers(INSTANCES, INSTANCES * EACH), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_a_log_that_has_grown_is_as_the_list_has_it(count: int, random: Any) -> None:
    payloads, left = whole(), count - 1
    assert audit(payloads[left:], start=left + 1, heads=listed(payloads[:count])).findings() == []
    random.shuffle(payloads)
    assert audit(payloads, heads=listed(payloads[:count])).findings() == []


@given(st.integers(0, INSTANCES - 1))
def test_a_process_that_was_taken_out_of_the_log_is_missed_in_the_list(owner: int) -> None:
    without = [payload for payload in whole() if codec.decode(payload).batch.instance != f"i{owner}"]
    assert kinds(without) == set()
    (finding,) = audit(without, heads=listed(whole())).findings()
    assert (finding.kind, finding.instance) == ("removed", f"i{owner}")


def test_a_process_whose_last_word_is_older_than_the_log_may_have_left_it() -> None:
    payloads = whole()[INSTANCES:]
    for time, expected in ((3.9, set()), (4.0, {"removed"}), (4.1, {"removed"})):
        found = audit(payloads, 4, [*listed(payloads, 4), Head("health", "host", "gone", 1, "", 0, time)]).findings()
        assert {finding.kind for finding in found} == expected
    assert [one.kind for one in audit([], heads=[Head("health", "host", "gone", 1)]).findings()] == ["removed"]


@given(st.integers(1, INSTANCES * EACH))
def test_the_newest_end_that_was_taken_off_is_missed_in_the_list(count: int) -> None:
    found = audit(whole()[:-count], heads=listed(whole())).findings()
    assert {finding.kind for finding in found} == {"removed"}
    assert len(found) == min(count, INSTANCES)


@given(st.integers(1, INSTANCES * EACH))
def test_a_process_that_was_put_in_shows_beside_a_later_list(place: int) -> None:
    payloads = whole()
    payloads.insert(place - 1, Sealer("deployer", "host", "never").seal("web", msgspec.Raw(b"\x90")))
    assert kinds(payloads) == set()
    (finding,) = audit(payloads, heads=listed(whole())).findings()
    assert (finding.kind, finding.instance, finding.sequence) == ("added", "never", place)
    assert f"is in the log from {place} on" in finding.text


@given(st.integers(0, EACH - 2), st.integers(0, INSTANCES - 1))
def test_a_chain_that_was_forged_is_not_that_of_the_list(place: int, owner: int) -> None:
    found = audit(forged(place, owner), heads=listed(whole())).findings()
    assert [(finding.kind, finding.instance) for finding in found] == [("altered", f"i{owner}")]


def test_a_message_that_was_deleted_from_the_stream_is_a_hole() -> None:
    payloads = whole()
    result = audit(payloads[:5])
    for sequence, payload in enumerate(payloads[7:], 8):
        result.add(stored(payload, sequence))
    assert result.findings()[0].text == "messages 6 to 7 are not in the stream"


def test_messages_that_were_deleted_at_the_new_end_are_a_hole() -> None:
    result = audit(whole())
    result.end(INSTANCES * EACH)
    assert result.findings() == []
    result.end(INSTANCES * EACH + 2)
    assert [one.text for one in result.findings()] == ["messages 37 to 38 are not in the stream"]


def test_a_log_that_lost_every_second_batch_is_checked_in_one_go() -> None:
    count = 30_000
    result = audit([codec.encode(Batch("health", "host", "web", "i", 2 * n + 1, [])) for n in range(count)])
    assert len(result.findings()) == MOST
    assert result.counts["gap"] == count - 1


def test_what_is_no_batch_is_told() -> None:
    assert kinds([*whole(), b"\xc1"]) == {"unreadable"}


def test_a_gap_tells_that_events_were_dropped() -> None:
    sealer = Sealer("health", "host", "i")
    payloads = [sealer.seal("_", msgspec.Raw(codec.encode_events([EventsDropped(1.0, 7)]))) for _ in range(4)]
    (finding,) = audit([payloads[0], *payloads[2:]]).findings()
    assert finding.text == "batch 2 of health on host (i) missing; it reported 21 dropped events"


def test_batches_of_versions_that_did_not_chain_are_checked_for_gaps_only() -> None:
    payloads = [codec.encode(Batch("health", "host", "web", "old", n, [])) for n in (1, 2, 4)]
    result = audit(payloads)
    assert [finding.kind for finding in result.findings()] == ["gap"]
    assert result.instances["old"].head == ""


def test_of_batches_that_are_there_again_the_first_are_told_and_all_are_counted() -> None:
    result = audit([whole()[0]] * (MOST + 6))
    assert (len(result.repeats), result.repeated) == (MOST, MOST + 5)


def test_a_hopeless_log_is_not_told_line_by_line() -> None:
    result = audit([b""] * (5 * MOST))
    assert len(result.findings()) == MOST
    assert result.counts["unreadable"] == 5 * MOST


@given(st.lists(st.binary(max_size=100), max_size=20))
@pytest.mark.filterwarnings("error")
def test_random_bytes_raise_nothing(payloads: list[bytes]) -> None:
    audit(payloads).findings()
