"""The Prometheus text format and OpenMetrics 1.0, for metrics whose names need no escaping.

prometheus_client writes the same bytes, as a test verifies. For 10,000 series this takes a quarter to half of its time;
the fold waits for it during a scrape.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from prometheus_client.metrics_core import Metric
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

_KNOWN = 1 << 16  # numbers and labels that are remembered: more than a scrape of 10,000 series has
_TEXT_KINDS = {"info": "gauge", "unknown": "untyped"}
_TEXT_SUFFIXES = {"counter": "_total", "info": "_info"}
_SPECIAL = str.maketrans({"\\": r"\\", "\n": r"\n", '"': r"\""})

_known_number = lru_cache(_KNOWN)(floatToGoString)


def text(metrics: Iterable[Metric]) -> bytes:
    """Return text format 0.0.4, for versions of Prometheus before OpenMetrics."""
    lines: list[str] = []
    for metric in metrics:
        name = metric.name + _TEXT_SUFFIXES.get(metric.type, "")
        help_text = metric.documentation.replace("\\", r"\\").replace("\n", r"\n")
        lines.append(f"# HELP {name} {help_text}\n# TYPE {name} {_TEXT_KINDS.get(metric.type, metric.type)}\n")
        lines += [f"{_series(sample)} {_number(sample.value)}\n" for sample in metric.samples]
    return "".join(lines).encode()


def openmetrics(metrics: Iterable[Metric]) -> bytes:
    """Return OpenMetrics 1.0, with exemplars."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(openmetrics_head(metric))
        lines += [
            f"{_series(one)} {_number(one.value)}{_time(one)}{_exemplar(one.exemplar)}\n" for one in metric.samples
        ]
    lines.append("# EOF\n")
    return "".join(lines).encode()


def openmetrics_head(metric: Metric) -> str:
    """Return the lines that come before the samples of a metric in OpenMetrics."""
    return f"# HELP {metric.name} {_escaped(metric.documentation)}\n# TYPE {metric.name} {metric.type}\n"


def sample_line(sample: Sample, time: float) -> str:
    """Return a sample at `time` (unix seconds), to the millisecond, as a line of OpenMetrics."""
    # The number is not remembered: a long replay would fill the cache with its own.
    number = floatToGoString(sample.value)  # type: ignore[no-untyped-call]
    return f"{_series(sample)} {number} {time:.3f}\n"


def _number(value: float) -> str:
    return str(_known_number(value or repr(value)))  # 0.0 and -0.0 are equal, and written differently


def _series(sample: Sample) -> str:
    labels = ",".join([f'{name}="{_escaped(value)}"' for name, value in sorted(sample.labels.items())])
    return f"{sample.name}{{{labels}}}" if labels else sample.name


@lru_cache(_KNOWN)
def _escaped(value: str) -> str:
    return value.translate(_SPECIAL)


def _time(sample: Sample) -> str:
    return "" if sample.timestamp is None else f" {sample.timestamp}"


def _exemplar(exemplar: Exemplar | None) -> str:
    if exemplar is None:
        return ""
    labels = ",".join([f'{name}="{_escaped(value)}"' for name, value in sorted(exemplar.labels.items())])
    time = "" if exemplar.timestamp is None else f" {exemplar.timestamp}"
    return f" # {{{labels}}} {_number(exemplar.value)}{time}"
