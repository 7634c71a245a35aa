"""The room that a state takes grows with what is there, not with what has been."""

from __future__ import annotations

from schemas import events as e
from services.metrics_gateway.snapshots import snapshot
from tests.metrics_gateway.events import accepted, closed, established, started
from tests.metrics_gateway.recording import exposition
from tests.metrics_gateway.timeline import STREAM, Timeline
from tests.metrics_gateway.traces.story import failed, succeeded

CONNECTIONS = 50


def day(log: Timeline, number: int) -> None:
    """Everything is restarted, two releases come of which one fails, and clients come and go."""
    proxy, worker, deployer = (f"{name}-{number}" for name in ("proxy", "worker", "deployer"))
    log.now += 86_400
    log.say(proxy, started("proxy:80"), app="_")
    log.say(proxy, e.ListenerOpened(1.0, 80, "0.0.0.0"))
    log.say(worker, started("proxy-worker", proxy), app="_")
    log.say(deployer, started("deployer:web"), app="_", service="deployer")
    good, bad = (_renamed(story, number) for story in (succeeded(f"good-{number}"), failed(f"bad-{number}")))
    log.say(deployer, *good, service="deployer")
    log.say(deployer, *bad, service="deployer")
    before = e.ReplicaRetired(1.0, f"good-{number}", f"web-2-good-{number - 1}", reason="replaced")
    log.say(deployer, before, service="deployer")
    log.say(deployer, e.ReleaseQuarantined(1.0, f"{number}.1", "answers 500"), service="deployer")
    log.say(deployer, e.QuarantineLifted(1.0, f"{number}.1", "a newer release"), service="deployer")
    for connection in range(CONNECTIONS):
        log.say(worker, accepted(connection), established(connection), closed(connection))
    log.beat(10, proxy, worker, deployer)


def _renamed(story: list[e.AnyEvent], number: int) -> list[e.AnyEvent]:
    """Release names are new every day."""
    changed = []
    for event in story:
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        if "release" in fields:
            fields["release"] = f"{number}.0"
        changed.append(type(event)(**fields))
    return changed


def test_years_of_restarts_and_releases_take_the_room_of_months() -> None:
    log = Timeline()
    rooms, pages = [], []
    for number in range(1, 1601):
        day(log, number)
        if number in (600, 1600):
            rooms.append(len(snapshot.encode(log.state, STREAM)))
            pages.append(len(exposition(log.state).splitlines()))
    assert rooms[1] < 1.05 * rooms[0]
    assert pages[1] <= pages[0]
    assert f" {1600 * CONNECTIONS}.0" in exposition(log.state)
