"""The lines of `longshore events`."""

from __future__ import annotations

import pytest

from schemas.events import AnyEvent, CommandAnswered, ConnectionClosed, DeploymentsPaused
from services.cli.event_lines import as_line, as_object
from services.cli.output import clock
from services.client.client import LoggedEvent


def line(event: AnyEvent) -> str:
    return as_line(LoggedEvent(1, "proxy", "here", "web", event))


def test_a_time_is_shown_as_date_and_time() -> None:
    sent = 1_796_000_000.25
    text = line(CommandAnswered(sent, command="pause", by="me", ok=True, message="paused", duration=0.5, sent=sent))
    assert text.startswith(
        f"{clock(sent, fraction=True)} proxy/web CommandAnswered command=pause by=me ok=True message=paused "
    )
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


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("ann", "ann"),
        ("änn", "änn"),
        ("ann\nroot", r'"ann\nroot"'),
        ("\x1b[2J", r'"\u001b[2J"'),
        ("\x9b2J\x7f", r'"\u009b2J\u007f"'),
        ("a\u2028b", r'"a\u2028b"'),
        ('"ann"', r'"\"ann\""'),
    ],
)
def test_a_text_cannot_end_its_line_or_command_the_terminal(name: str, shown: str) -> None:
    assert line(DeploymentsPaused(5.0, name)).endswith(f"DeploymentsPaused by={shown}")


def test_an_event_has_the_names_of_the_admin_api_and_its_fields_beside_the_envelope() -> None:
    assert as_object(LoggedEvent(3, "deployer", "here", "web", DeploymentsPaused(5.0, "ann"))) == {
        "sequence": 3,
        "service": "deployer",
        "host": "here",
        "app": "web",
        "kind": "DeploymentsPaused",
        "event": "DeploymentsPaused",
        "at": "1970-01-01T00:00:05.000+00:00",
        "time": 5.0,
        "by": "ann",
        "details": {"by": "ann"},
    }
