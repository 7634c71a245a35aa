"""Standard input, as it is passed on."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from services.cli import terminal
from services.common.errors import BusError


@pytest.fixture
def standard_input() -> Iterator[int]:
    """Descriptor that writes to standard input."""
    kept = os.dup(0)
    read, write = os.pipe()
    os.dup2(read, 0)
    os.close(read)
    yield write
    os.dup2(kept, 0)
    os.close(kept)


async def test_standard_input_is_passed_on_with_its_end(standard_input: int) -> None:
    found: list[bytes] = []

    async def write(data: bytes) -> None:
        found.append(data)

    os.write(standard_input, b"words")
    os.close(standard_input)
    await terminal.feed(write)
    assert found == [b"words", b""]


async def test_input_that_cannot_be_passed_on_fails_with_the_reason(standard_input: int) -> None:
    async def write(_: bytes) -> None:
        raise BusError("the deployer is gone")

    feeding = terminal.feed(write)
    os.write(standard_input, b"words")
    with pytest.raises(BusError, match="the deployer is gone"):
        await feeding
    os.close(standard_input)
