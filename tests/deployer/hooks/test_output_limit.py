"""What of an output gets into the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.deployer.hooks.output_limit import OutputLimit


def lines(limit: OutputLimit, *chunks: bytes) -> list[str]:
    return [line for chunk in chunks for line in limit.feed(chunk)] + limit.end()


def test_lines_come_out_however_they_came_in() -> None:
    assert lines(OutputLimit(), b"one\ntw", b"o\n\nthr", b"ee") == ["one", "two", "", "three"]


def test_lines_beyond_the_most_are_counted_in_bytes() -> None:
    limit = OutputLimit(lines=2)
    assert lines(limit, b"a\nb\nccc\n", b"dd\n") == ["a", "b"]
    assert limit.omitted == len(b"ccc\ndd\n")


def test_bytes_beyond_the_most_are_counted_and_the_line_before_is_kept_as_far_as_it_fits() -> None:
    limit = OutputLimit(size=4)
    assert lines(limit, b"a\nbcdefgh\n") == ["a", "bc"]
    assert limit.omitted == len(b"defgh\n")


def test_what_is_no_text_and_what_steers_a_terminal_is_made_readable() -> None:
    assert lines(OutputLimit(), b"\xff\x1b[31mred\ta\r\n") == ["\ufffd\ufffd[31mred       a"]


@given(st.lists(st.binary(max_size=30)), st.integers(0, 5), st.integers(0, 60))
def test_nothing_is_counted_twice_or_forgotten(chunks: list[bytes], most: int, size: int) -> None:
    limit = OutputLimit(most, size)
    shown = lines(limit, *chunks)
    total = b"".join(chunks)
    assert len(shown) <= most
    assert sum(map(len, shown)) <= 8 * size
    kept = total[:size].split(b"\n")
    if kept[-1] == b"":
        kept.pop()
    assert len(shown) == min(most, len(kept))
    assert (limit.omitted == 0) == (len(total) <= size and len(kept) <= most)
