"""The plugin that pytest loads wherever Longshore is installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from longshore.testing import TimeTravel


@pytest.fixture
def time_travel() -> Callable[[str | Path], TimeTravel]:
    """Return a function that opens a log file, as `longshore export` writes it."""
    # pytest loads this module in every project of the environment, so the fold is imported on first use only.
    from longshore.testing import TimeTravel

    return TimeTravel
