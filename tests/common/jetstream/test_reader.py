"""Reading the log by application."""

from __future__ import annotations

from schemas import subjects
from services.common.bus.connection import Bus
from services.common.jetstream.log_reader import read


async def test_events_are_found_by_app_with_the_host_in_their_subject_and_without(bus: Bus) -> None:
    old = subjects.events("health", "web")
    for subject in (old, subjects.from_host(old, "a"), subjects.from_host(old, "b"), subjects.events("health", "blog")):
        await bus.jetstream.publish(subject, b"x")
    wanted = subjects.events("*", "web")
    found = [entry.subject async for entries in read(bus, subject=wanted, wait=False) for entry in entries]
    assert found == [old, f"{old}.a", f"{old}.b"]
