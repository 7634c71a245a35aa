"""The reference page of the events says what the code says."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas import reference
from schemas.events import EVENT_TYPES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "events.md"


def test_the_page_in_the_repository_is_the_one_that_the_events_give() -> None:
    assert PAGE.read_text() == reference.markdown(), "run `make docs` and commit the page"


def test_every_event_is_on_the_page_once() -> None:
    lines = reference.markdown().splitlines()
    assert sorted(line[4:] for line in lines if line.startswith("### ")) == sorted(k.__name__ for k in EVENT_TYPES)


def test_an_event_without_a_section_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(reference.SECTIONS, "health", range(60, 61))
    with pytest.raises(ValueError, match="no section has the tag of HealthChanged"):
        reference.markdown()
