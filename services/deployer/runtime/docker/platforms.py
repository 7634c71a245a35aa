"""The platforms of engines and images. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_ALIASES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
    "i686": "386",
}
"""Names of the kernel and of distributions that some builders write, with those of the image specification."""

_FOREIGN = {("amd64", "386"), ("arm64", "arm")}
"""Pairs of an engine's and an image's architecture that fit although they differ."""


def mismatch(engine: Mapping[str, Any], image: Mapping[str, Any]) -> str:
    """Return why an engine cannot run an image, empty if it can. An image without a platform has the engine's."""
    ours = engine["Os"], _architecture(engine["Arch"])
    its = (image.get("Os") or ours[0]).lower(), _architecture(image.get("Architecture") or ours[1])
    if ours == its or (ours[0] == its[0] and (ours[1], its[1]) in _FOREIGN):
        return ""
    return f"is for {'/'.join(its)}, and this engine runs {'/'.join(ours)}"


def _architecture(name: str) -> str:
    return _ALIASES.get(name.lower(), name.lower())
