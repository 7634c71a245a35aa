"""The package `longshore`: its version, its events, and its fixture for tests.

Covers: longshore, longshore.events, longshore.testing
"""

from __future__ import annotations

import longshore
from longshore import events, testing
from schemas.events import EVENT_TYPES
from services.common.version import VERSION


def test_the_version_is_that_of_the_services() -> None:
    assert longshore.__version__ == VERSION


def test_every_event_has_its_public_name() -> None:
    assert set(events.__all__) == {kind.__name__ for kind in EVENT_TYPES} | {"AnyEvent", "Event"}
    assert all(getattr(events, kind.__name__) is kind for kind in EVENT_TYPES)


def test_every_public_name_is_there() -> None:
    assert all(hasattr(module, name) for module in (longshore, events, testing) for name in module.__all__)
