"""What of an output gets into the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.deployer.hooks.output_limit import Excerpt


def lines(excerpt: Excerpt, *chunks: bytes) -> list[str]:
    return [line for chunk in chunks for line in excerpt.feed(chunk)] + excerpt.end()


def test_lines_come_out_however_they_came_in() -> None:
    assert lines(Excerpt(), b"one\ntw", b"o\n\nthr", b"ee") == ["one", "two", "", "three"]


def test_lines_beyond_the_most_are_counted_in_bytes() -> None:
    excerpt = Excerpt(lines=2)
    assert lines(excerpt, b"a\nb\nccc\n", b"dd\n") == ["a", "b"]
    assert excerpt.left_out == len(b"ccc\ndd\n")


def test_bytes_beyond_the_most_are_counted_and_the_line_before_is_kept_as_far_as_it_fits() -> None:
    excerpt = Excerpt(size=4)
    assert lines(excerpt, b"a\nbcdefgh\n") == ["a", "bc"]
    assert excerpt.left_out == len(b"defgh\n")


def test_what_is_no_text_and_what_steers_a_terminal_is_made_readable() -> None:
    assert lines(Excerpt(), b"\xff\x1b[31mred\ta\r\n") == ["\ufffd\ufffd[31mred       a"]


@given(st.lists(st.binary(max_size=30)), st.integers(0, 5), st.integers(0, 60))
def test_nothing_is_counted_twice_or_forgotten(chunks: list[bytes], most: int, size: int) -> None:
    excerpt = Excerpt(most, size)
    shown = lines(excerpt, *chunks)
    total = b"".join(chunks)
    assert len(shown) <= most
    assert sum(map(len, shown)) <= 8 * size
    kept = total[:size].split(b"\n")
    if kept[-1] == b"":
        kept.pop()
    assert len(shown) == min(most, len(kept))
    assert (excerpt.left_out == 0) == (len(total) <= size and len(kept) <= most)
