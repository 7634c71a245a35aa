"""How a command ends whose output nobody wants, or that fails with an error that says nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from services.cli import app, main
from services.common.errors import BusError, reason

PROGRAM = str(Path(sys.executable).with_name("longshore"))


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "connection reset"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (ValueError("wrong"), "wrong"),
        (BusError(), "bus"),
        (Exception(), "error"),
    ],
)
def test_an_error_says_something_even_without_a_text(error: Exception, text: str) -> None:
    assert reason(error) == text


@pytest.mark.parametrize("error", [TimeoutError(), BusError(), OSError()])
def test_a_command_that_fails_without_a_text_says_what_kind_of_error_it_was(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(standalone_mode: bool) -> None:
        raise error

    monkeypatch.setattr(app, "app", fail)
    monkeypatch.setattr(sys, "argv", ["longshore"])
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said == f"longshore: {reason(error)}\n"
    assert said.strip() != "longshore:"


@pytest.mark.parametrize("words", [["--help"], ["server", "--help"], ["--version"]])
def test_a_reader_that_has_enough_is_141_as_with_the_systems_programs(words: list[str]) -> None:
    process = subprocess.Popen([PROGRAM, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stderr
    process.stdout.close()  # before it has written anything: it takes a while to start
    said = process.stderr.read()
    process.stderr.close()
    assert (process.wait(60), said) == (main.READER_GONE, b"")


@pytest.mark.parametrize("word", ["help", "version"])
def test_a_word_that_people_try_names_the_option(word: str) -> None:
    done = subprocess.run([PROGRAM, word], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (2, f"longshore: No such command '{word}'. Use `longshore --{word}`\n")
