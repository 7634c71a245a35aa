"""The generated reference page."""

from __future__ import annotations

from pathlib import Path

from services.metrics_gateway.instruments import reference
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "metrics.md"


def test_the_committed_page_is_what_the_catalogue_gives() -> None:
    hint = "run: make docs"
    assert PAGE.read_text() == reference.markdown(), hint


def test_the_page_names_every_metric_by_all_its_names() -> None:
    page = reference.markdown()
    for instrument in INSTRUMENTS:
        for name in (instrument.name, instrument.prometheus, *instrument.aliases):
            assert f"`{name}`" in page
