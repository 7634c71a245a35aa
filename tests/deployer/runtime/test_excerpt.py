"""The last lines of an output, as an event has them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.deployer.runtime.excerpt import MOST_BYTES, MOST_LINES, READ, excerpt
from services.deployer.variables.masking import MASK, mask, secrets


def test_the_last_lines_are_kept_and_blank_ones_at_the_end_are_not() -> None:
    assert excerpt(b"\n".join(b"%d" % number for number in range(50)) + b"\n\n \n").split("\n") == [
        str(number) for number in range(50 - MOST_LINES, 50)
    ]
    assert excerpt(b"") == excerpt(b"\n") == ""


def test_what_steers_a_terminal_is_replaced() -> None:
    assert excerpt(b"\x1b[2Jgone\r\n\xffend") == "\ufffd[2Jgone\n\ufffdend"


def test_a_line_that_is_too_long_keeps_its_end() -> None:
    assert excerpt(b"x" * READ + b"end") == "x" * (MOST_BYTES - 3) + "end"


@given(st.binary(max_size=3 * MOST_BYTES))
def test_an_excerpt_never_exceeds_its_limits(output: bytes) -> None:
    found = excerpt(output)
    assert len(found.encode()) <= MOST_BYTES
    assert found.count("\n") < MOST_LINES
    assert all(character.isprintable() or character == "\n" for character in found)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("DB_PASSWORD", "hunter2", {"hunter2"}),
        ("apiKey", "abcd", {"abcd"}),
        ("GITHUB_TOKEN", "abc", set()),
        ("COLOUR", "hunter2", set()),
        ("DATABASE_URL", "postgres://me:hunter2@db/x", {"hunter2"}),
        ("SIGNING_KEY", "-----BEGIN-----\nMIIEabc\n", {"-----BEGIN-----", "MIIEabc"}),
    ],
)
def test_secrets_are_found_by_the_names_of_variables_and_in_urls(name: str, value: str, found: set[str]) -> None:
    assert secrets([(name, value)]) == found


def test_secrets_and_passwords_of_urls_are_masked_the_longer_one_first() -> None:
    assert mask("abcd abcdef", {"abcd", "abcdef"}) == f"{MASK} {MASK}"
    assert mask("to amqp://me:pw@host/x and http://host:80/a@b", ()) == (
        f"to amqp://me:{MASK}@host/x and http://host:80/a@b"
    )


@pytest.mark.parametrize("end", ["\n", ""])
@pytest.mark.parametrize("size", [18, 1000, 5000])
def test_a_secret_that_the_first_byte_of_what_is_read_cuts_in_two_is_not_shown(size: int, end: str) -> None:
    secret = "hunter2-is-" + "secret".rjust(size - 11, "x")
    output = ((secret + end) * (READ // len(secret) + 2)).encode()
    for cut in (READ, READ + 7):
        assert "secret" not in excerpt(output[-cut:], {secret})


def test_a_password_of_a_url_that_the_first_byte_of_what_is_read_cuts_in_two_is_not_shown() -> None:
    output = b"amqp://me:" + b"half" * 100 + b"@host/x\n" + b"y" * 5000 + b"\n" + b"s" * 11000 + b"\nend"
    assert excerpt(output[-READ:], {"s" * 11000, "y" * 5000}).splitlines() == [MASK, MASK, "end"]
