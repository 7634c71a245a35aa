"""The reference page of the metrics, generated from the catalogue."""

from __future__ import annotations

from services.metrics_gateway.instruments.catalogue import SECTIONS
from services.metrics_gateway.instruments.instrument import Instrument, Section

_HEAD = """\
# Metrics reference

<!-- Generated from the catalogue by `make docs`: do not edit. -->

What these metrics mean together, and how to get them, is in [Telemetry](../telemetry.md). A kind is OpenTelemetry's;
on `/metrics` an up-down counter is a gauge. A histogram has the series `_bucket`, `_count` and `_sum`.
"""


def markdown() -> str:
    """Return the whole page."""
    return "\n".join([_HEAD, *map(_section, SECTIONS)])


def _section(section: Section) -> str:
    return "\n".join([f"## {section.title}\n", *map(_instrument, section.instruments)])


def _instrument(instrument: Instrument) -> str:
    lines = [
        f"### `{instrument.name}`\n",
        f"{instrument.description}.\n",
        f"- On `/metrics`: {_names(instrument)}",
        f"- Kind: {instrument.kind}",
        f"- Unit: {f'`{instrument.unit}`' if instrument.unit else 'none'}",
        f"- Labels: {_code(instrument.labels) or 'none'}",
    ]
    if instrument.buckets:
        lines.append(f"- Bucket bounds, in seconds: {', '.join(f'{bound:g}' for bound in instrument.buckets)}")
    return "\n".join(lines) + "\n"


def _names(instrument: Instrument) -> str:
    return " and ".join(f"`{name}`" for name in (instrument.prometheus, *instrument.aliases))


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
