"""Other buckets for the histograms of a replay."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import pairwise

from services.common.errors import SettingsError
from services.metrics_gateway.instruments.catalogue import INSTRUMENTS
from services.metrics_gateway.state.state import HISTOGRAMS

Buckets = dict[str, tuple[float, ...]]


def parse(words: Iterable[str]) -> Buckets:
    """Return the buckets in METRIC=BOUNDS, … under any name of the metric. Raises SettingsError."""
    names = {
        name: one.name
        for one in INSTRUMENTS
        for name in (one.name, one.prometheus, *one.aliases)
        if one.name in HISTOGRAMS
    }
    found: Buckets = {}
    for word in words:
        metric, separator, bounds = word.partition("=")
        if not separator:
            raise SettingsError(f"--buckets {word!r}: write METRIC=BOUND,BOUND,… in seconds")
        if metric not in names:
            known = ", ".join(sorted(HISTOGRAMS))
            raise SettingsError(f"--buckets {metric}: no histogram has this name; there are {known}")
        found[names[metric]] = _bounds(metric, bounds)
    return found


def _bounds(metric: str, text: str) -> tuple[float, ...]:
    try:
        bounds = tuple(float(bound) for bound in text.split(","))
    except ValueError:
        raise SettingsError(f"--buckets {metric}={text}: each bound is a number of seconds, such as 0.005") from None
    if not all(map(math.isfinite, bounds)):
        raise SettingsError(
            f"--buckets {metric}={text}: each bound is a finite number; the last bucket is +Inf by itself"
        )
    if any(low >= high for low, high in pairwise(bounds)):
        raise SettingsError(f"--buckets {metric}={text}: put the bounds in rising order, each once")
    return bounds
