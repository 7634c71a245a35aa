"""Query parameters that several routes have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from litestar.params import QueryParameter

from services.metrics_gateway.views.events import KINDS, Wanted

if TYPE_CHECKING:
    Kind: TypeAlias = str
else:
    Kind = Literal[tuple(sorted(KINDS))]

NAME = r"^(?:[A-Za-z0-9][A-Za-z0-9-]{0,62})?$(?!\n)"
"""Empty or a name. Python's `$` also matches before a last newline; JavaScript, which reads this, has no `\\Z`."""

AppName: TypeAlias = Annotated[str, QueryParameter(pattern=NAME, description="Only this application; empty: all.")]

Kinds: TypeAlias = Annotated[
    tuple[Kind, ...],
    QueryParameter(
        description="Only events of these kinds. Without it: all but those of single connections and probes."
    ),
]


def wanted(app: str, kinds: Sequence[str]) -> Wanted:
    """Return the filter that a request asks for."""
    return Wanted(app, frozenset(kinds))
