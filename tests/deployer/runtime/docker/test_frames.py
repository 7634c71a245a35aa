"""The formats in which an engine sends the output of a container."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployer.runtime.docker.output.frames import Demultiplexer, Lines, Part, Stamped
from services.deployer.runtime.entry import LONGEST_LINE

STAMPS = [f"2026-11-27T14:00:00.{number:09d}Z ".encode() for number in range(1, 20)]
SECOND = 1_795_788_000 * 10**9


def frame(source: int, data: bytes) -> bytes:
    return bytes([source, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


def messages(text: bytes, size: int) -> list[bytes]:
    """The messages in which an engine sends a line, each with a time."""
    parts = [text[at : at + size] for at in range(0, len(text), size)] or [b""]
    return [STAMPS[number] + part for number, part in enumerate(parts[:-1])] + [STAMPS[-1] + parts[-1] + b"\n"]


def lines(data: bytes, sizes: list[int]) -> list[Stamped]:
    """The lines in bytes that come in chunks of these sizes, which repeat."""
    parts, found, at = Demultiplexer(False), Lines(), 0
    result: list[Stamped] = []
    while at < len(data):
        size = sizes[at % len(sizes)]
        for part in parts.feed(data[at : at + size]):
            result += found.feed(part)
        at += size
    return result + list(found.end())


LONG = bytes(range(97, 123)) * 4000
"""About 100 KiB."""
CHUNKS = st.lists(st.integers(100, 40_000), min_size=1, max_size=5)


@settings(deadline=None, max_examples=30)
@given(CHUNKS, st.sampled_from([8191, LONGEST_LINE]))
def test_a_long_line_has_no_time_within_and_comes_in_pieces(sizes: list[int], message: int) -> None:
    data = b"".join(frame(1, one) for one in (*messages(LONG, message), *messages(b"next", message)))
    *pieces, last = lines(data, sizes)
    assert b"".join(one.text for one in pieces) == LONG
    assert max(len(one.text) for one in pieces) == LONGEST_LINE
    assert {one.nanoseconds for one in pieces} == {SECOND + 1}
    assert last.text == b"next"


def test_a_line_that_never_ends_is_not_kept() -> None:
    found = Lines()
    texts = [one.text for _ in range(20) for one in found.feed(Part(2, STAMPS[0] + b"x" * 8192))]
    assert len(texts) >= 9
    assert set(texts) == {b"x" * LONGEST_LINE}


def test_both_streams_have_lines_of_their_own_and_an_engine_may_have_no_times() -> None:
    found = Lines()
    parts = [Part(1, STAMPS[0] + b"o"), Part(2, STAMPS[1] + b"e\n"), Part(1, STAMPS[2] + b"ut\r\n")]
    assert [one for part in parts for one in found.feed(part)] == [
        Stamped(SECOND + 2, b"e", True),
        Stamped(SECOND + 1, b"out", False),
    ]
    old = Lines()
    parts = [Part(1, b"one "), Part(1, b"2026-11-27 is a day\nno")]
    assert [one for part in parts for one in old.feed(part)] == [Stamped(0, b"one 2026-11-27 is a day", False)]
    assert list(old.end()) == [Stamped(0, b"no", False)]
