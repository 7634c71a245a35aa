"""Small parts of the proxy: choosing, timing, framing."""

from __future__ import annotations

import math
import socket
from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from schemas.chain import Sealer
from schemas.codec import decode
from schemas.events import Event, EventsDropped, ListenerClosed
from schemas.routing import Backend, BackendState
from services.proxy.crash.blackbox import BlackBox
from services.proxy.frames import Unframer, frame
from services.proxy.messages import ApplyRoute, Balance, ForwardBatch, Message, RouteApplied
from services.proxy.worker.balancer import Balancer, Dial, Target
from services.proxy.worker.channel import Channel
from services.proxy.worker.loop import Loop
from services.proxy.worker.recorder import Recorder
from services.proxy.worker.timers import Timed, Timers


def balancer(*names: str, policy: Balance = "round-robin") -> Balancer:
    result = Balancer(policy)
    result.follow([backend(name) for name in names], [], {})
    return result


def backend(name: str, state: BackendState = "active", port: int = 1) -> Backend:
    return Backend(name, "127.0.0.1", port, state)


class Client:
    """Somebody who is connected to a backend."""

    def cut(self) -> bool:
        raise AssertionError

    def moved(self) -> None:
        raise AssertionError

    def shut_down(self) -> None:
        raise AssertionError


def picks(subject: Balancer, count: int, tried: tuple[str, ...] = ()) -> str:
    targets = [subject.pick([(name, 0) for name in tried]) for _ in range(count)]
    return "".join(target.id if target else "-" for target in targets)


def test_every_ready_backend_gets_its_turn() -> None:
    assert picks(balancer("a", "b", "c"), 6) == "abcabc"


def test_what_was_tried_ejected_or_drains_is_passed_over() -> None:
    subject = balancer("a", "b", "c", "d")
    subject.follow([backend("a"), backend("b", "draining"), backend("c"), backend("d")], [], {})
    assert subject.eject("c")
    assert subject.eject("c") is False
    assert subject.eject("x") is False
    assert set(picks(subject, 6)) == {"a", "d"}
    assert picks(subject, 2, ("a",)) == "dd"
    assert picks(subject, 1, ("a", "d")) == "-"
    subject.readmit("c", 0)
    assert set(picks(subject, 6)) == {"a", "c", "d"}


def test_an_ejection_ends_with_a_new_address_or_a_return_from_draining() -> None:
    subject = balancer("a", "b")
    subject.eject("a")
    subject.eject("b")
    subject.follow([backend("a"), backend("b")], [], {})
    assert not subject.has_ready
    subject.follow([backend("a", port=2), backend("b", "draining")], [], {})
    assert picks(subject, 2) == "aa"
    subject.follow([backend("a", port=2), backend("b")], [], {"b": 1})
    targets = [subject.pick([]) for _ in range(2)]
    assert {target.id for target in targets if target} == {"a", "b"}


def test_a_worker_that_starts_late_knows_who_is_ejected() -> None:
    subject = Balancer("round-robin")
    subject.follow([backend("a"), backend("b")], ["a"], {})
    assert picks(subject, 2) == "bb"


def test_following_tells_who_is_gone() -> None:
    subject = balancer("a", "b")
    gone, moved = subject.follow([backend("b", port=2), backend("c")], [], {})
    assert [target.id for target in gone] == ["a"]
    assert [target.id for target in moved] == ["b"]


def test_a_target_is_tried_again_in_a_round_once_it_is_admitted_again() -> None:
    subject = balancer("a")
    tried = {("a", 0)}
    assert subject.has_ready
    assert subject.pick(tried) is None
    subject.eject("a")
    subject.readmit("a", 1)
    again = subject.pick(tried)
    assert again
    assert again.id == "a"


def test_least_connections_gives_to_who_has_fewest_and_in_turns_where_they_are_equal() -> None:
    subject = balancer("a", "b", "c", policy="least-connections")
    assert picks(subject, 6) == "abcabc"
    subject.targets["a"].sessions.add(Client())
    subject.targets["c"].sessions.update((Client(), Client()))
    assert picks(subject, 3) == "bbb"
    subject.eject("b")
    assert picks(subject, 3) == "aaa"


def test_turns_do_not_look_at_connections() -> None:
    subject = balancer("a", "b")
    subject.targets["a"].sessions.add(Client())
    assert picks(subject, 4) == "abab"


def test_a_target_that_this_host_cannot_dial_is_skipped_until_it_is_tried_again() -> None:
    subject = balancer("a", "b")
    subject.block(subject.targets["a"])
    assert picks(subject, 2) == "bb"
    subject.block(subject.targets["b"])
    assert not subject.has_ready
    subject.unblock()
    assert set(picks(subject, 2)) == {"a", "b"}


def test_a_backend_is_on_probation_from_its_admission_to_its_next_address() -> None:
    subject = balancer("a")
    target = subject.targets["a"]
    assert not target.on_probation
    subject.eject("a")
    subject.readmit("a", 1)
    assert target.on_probation
    subject.follow([backend("a")], [], {"a": 1})
    assert target.on_probation
    subject.follow([backend("a", port=2)], [], {"a": 1})
    assert not target.on_probation


def test_a_backend_drains_when_the_route_says_so() -> None:
    subject = balancer("a")
    assert subject.targets["a"].is_draining is False
    subject.follow([backend("a", "draining")], [], {})
    assert subject.targets["a"].is_draining is True


def test_a_new_target_was_never_answered_nor_blocked() -> None:
    target = Target(backend("a"), False, 3)
    assert (target.id, target.address, target.admission) == ("a", ("127.0.0.1", 1), 3)
    assert target.answered_at == target.blocked_at == -math.inf


def dial(target: Target, began: float) -> Dial:
    """A dial to a backend as it is now."""
    return Dial(target, target.address, target.admission, began)


def test_a_dial_says_something_about_its_backend_in_the_same_admission_and_at_the_same_address() -> None:
    subject = balancer("a")
    first = dial(subject.targets["a"], 1.0)
    assert first.is_current
    subject.follow([backend("a", port=2)], [], {})
    second = dial(subject.targets["a"], 1.0)
    assert (first.is_current, second.is_current) == (False, True)
    subject.follow([backend("a", port=2)], [], {"a": 1})
    assert (second.is_current, dial(subject.targets["a"], 1.0).is_current) == (False, True)
    assert subject.follow([backend("a", port=2)], [], {"a": 1}).moved == []


def test_a_failed_dial_is_no_news_once_one_that_began_later_was_answered() -> None:
    target = balancer("a").targets["a"]
    assert dial(target, 0.0).is_news
    target.answered_at = 2.0
    assert [dial(target, began).is_news for began in (1.0, 2.0, 3.0)] == [False, True, True]


class Alarm:
    def __init__(self) -> None:
        self.slot: set[Timed] | None = None

    def on_timer(self) -> None:
        raise AssertionError


@given(st.lists(st.tuples(st.floats(0, 400), st.booleans()), max_size=40), st.floats(0, 1e6))
def test_timers_fire_once_never_early_and_hardly_late(plan: list[tuple[float, bool]], start: float) -> None:
    timers = Timers()
    alarms = {Alarm(): delay for delay, _ in plan}
    for (alarm, delay), (_, is_cleared) in zip(alarms.items(), plan, strict=True):
        timers.set(alarm, start, 1.0)
        timers.set(alarm, start, delay)
        if is_cleared:
            timers.clear(alarm)
    fired = []
    now = start
    while (wait := timers.until_next(now)) is not None:
        now += wait + 1e-6
        for timed in timers.due(now):
            assert isinstance(timed, Alarm)
            fired.append(timed)
            assert 0 <= now - start - alarms[timed] + 1e-5 <= 0.66
    assert len(fired) == len(set(fired)) == sum(not is_cleared for _, is_cleared in plan)


@given(st.lists(st.integers(1, 50), max_size=30))
def test_messages_survive_any_pieces(sizes: list[int]) -> None:
    messages: list[Message] = [ApplyRoute("web", n, n, [backend("b" * n)]) for n in range(1, 11)]
    messages += [RouteApplied("web", 1, 2, {"a": 3})]
    data = b"".join(map(frame, messages))
    unframer = Unframer()
    seen: list[Message] = []
    for size in sizes:
        seen += unframer.feed(data[:size])
        data = data[size:]
    seen += unframer.feed(data)
    assert seen == messages


def test_events_that_an_absent_reader_leaves_no_room_for_are_counted() -> None:
    ours, theirs = socket.socketpair()
    loop = Loop()
    channel = Channel(theirs, loop, lambda _: None, lambda: None)
    recorder = Recorder(loop, channel, Sealer("proxy", "host", "worker"), BlackBox())
    count = 0
    while not channel.is_congested:
        recorder.record("web", ListenerClosed(0.0, 80))
        count += 1
    for _ in range(1000):
        recorder.record("web", ListenerClosed(0.0, 80))
    recorder.flush()
    with ours, ThreadPoolExecutor() as pool:
        hearing = pool.submit(hear, ours)
        while channel.is_congested:
            loop.turn()
        recorder.flush()
        channel.flush()
        theirs.close()
        events = hearing.result()
    told = sum(event.count for event in events if isinstance(event, EventsDropped))
    assert told >= 1000
    assert told + sum(isinstance(event, ListenerClosed) for event in events) == count + 1000


def hear(sock: socket.socket) -> list[Event]:
    """Everything that is recorded until the other end closes."""
    unframer = Unframer()
    events: list[Event] = []
    while data := sock.recv(1 << 20):
        for message in unframer.feed(data):
            assert isinstance(message, ForwardBatch)
            events += decode(message.batch.payload).batch.events
    return events
