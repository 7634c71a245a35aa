"""Where notices go: what is refused at start, and that no secret of a URL is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import SettingsError
from services.deployer.notifications.notifier import check
from services.deployer.notifications.target import Target, parse, scrubbed

TOKEN = "T0psecretT0ken"


@pytest.mark.parametrize(
    "url",
    [
        TOKEN,
        f"webhook+https:///{TOKEN}",
        f"webhook+ftp://host/{TOKEN}",
        f"webhook+http://host:no/{TOKEN}",
        f"webhook+http://host:0/{TOKEN}",
        f"slack://{TOKEN} /x",
        f"://{TOKEN}",
    ],
)
def test_what_is_no_url_is_refused_in_one_line_without_the_secret_in_it(url: str) -> None:
    with pytest.raises(SettingsError, match="--notify number 2: ") as refused:
        check(["ntfy://topic", url], {})
    assert TOKEN not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", [f"nonsense://{TOKEN}", f"https://example.com/{TOKEN}", f"slack://{TOKEN}", "dbus://"])
def test_what_apprise_does_not_understand_is_refused_before_anything_starts(url: str) -> None:
    with pytest.raises(SettingsError, match=r"--notify number 2 \([a-z]+://\*\*\*\): ") as refused:
        check(["ntfy://topic", url], {})
    assert TOKEN not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_webhook_needs_the_secret() -> None:
    with pytest.raises(SettingsError, match="LONGSHORE_NOTIFY_SECRET is not set"):
        check(["webhook+https://host/path"], {})
    check(["webhook+https://host/path"], {"LONGSHORE_NOTIFY_SECRET": "x"})


def test_services_that_apprise_knows_are_taken() -> None:
    check(["json://127.0.0.1:1/x", "mailto://user:pass@example.com", "ntfy://topic"], {})


def test_of_a_target_only_scheme_and_the_host_of_a_webhook_are_shown() -> None:
    (slack,) = parse([f"slack://{TOKEN}/{TOKEN}"])
    (webhook,) = parse([f"webhook+https://me:{TOKEN}@ops.example:8443/{TOKEN}?key={TOKEN}"])
    assert slack.name == "slack://***"
    assert webhook.name == "webhook+https://ops.example:8443/***"


@given(
    st.text("abcdefgh0123456789-_", min_size=5, max_size=20), st.sampled_from(["/{}", "user:{}@h", "h/?key={}", "{}"])
)
def test_nothing_that_is_said_of_a_url_gives_a_part_of_it_away(secret: str, form: str) -> None:
    url = Target(f"slack://{form.format(secret)}").url
    assert secret not in scrubbed(f"Failed to send to {url}:\n error at <{secret}>", url)


def test_a_secret_that_is_written_with_percent_signs_is_not_given_away_either() -> None:
    assert scrubbed("login with pa$$word failed", "mailto://user:pa%24%24word@example.com") == "login with *** failed"
