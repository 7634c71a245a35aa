"""An option of `docker run` before the `--` leads to the place where it belongs."""

from __future__ import annotations

import pytest

from services.cli.main import hint


@pytest.mark.parametrize(
    ("words", "message", "says"),
    [
        (["container", "--memory", "1g"], "No such option: --memory (Possible options: --telemetry)", "--memory is"),
        (["container", "-v", "/a:/b"], "No such option: -v", "-v is an option of `docker run`: write it behind --"),
        (["container", "--memroy", "1g"], "No such option: --memroy", ""),
        (["server", "--memory", "1g"], "No such option: --memory", ""),
        (["container"], "Missing command.", ""),
    ],
)
def test_a_word_of_docker_run_is_sent_behind_the_dashes(words: list[str], message: str, says: str) -> None:
    assert (says in hint(words, message)) if says else hint(words, message) == ""
