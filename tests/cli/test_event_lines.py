"""The lines of `longshore events`."""

from __future__ import annotations

import pytest

from schemas.events import AnyEvent, CommandAnswered, ConnectionClosed
from services.cli.output import clock
from services.cli.verbs import as_line
from services.client.client import LoggedEvent


def line(event: AnyEvent) -> str:
    return as_line(LoggedEvent(1, "proxy", "here", "web", event))


def test_a_time_is_shown_as_date_and_time() -> None:
    sent = 1_796_000_000.25
    text = line(CommandAnswered(sent, command="pause", by="me", ok=True, message="paused", duration=0.5, sent=sent))
    assert text.startswith(f"{clock(sent)} proxy/web CommandAnswered command=pause by=me ok=True message=paused ")
    assert text.endswith(f'sent="{clock(sent)}"')


def test_a_time_that_is_not_known_is_empty() -> None:
    assert line(CommandAnswered(1.0, command="pause", by="me", ok=True, message="paused", duration=0.5)).endswith(
        'sent=""'
    )


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0.0, "0"), (0.25, "0.25"), (0.000123, "0.000123"), (1234567.5, "1234567.5"), (-1.0, "-1")]
)
def test_durations_are_shown_in_full(seconds: float, shown: str) -> None:
    closed = ConnectionClosed(
        1.0, 7, 8080, backend="a", bytes_in=123456789, bytes_out=0, duration=seconds, reason="eof"
    )
    assert f"bytes_in=123456789 bytes_out=0 duration={shown} reason=eof" in line(closed)
