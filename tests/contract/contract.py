"""The contract as data: what the reference documents promise."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec

_HERE = Path(__file__).parent


class Promise(msgspec.Struct, frozen=True):
    """A metric of a reference document."""

    name: str
    prometheus: str
    kind: str
    unit: str
    labels: list[str]
    meaning: str
    aliases: list[str] = []
    buckets: list[float] = []
    note: str = ""


class Query(msgspec.Struct, frozen=True):
    """A query that a reference document prints, and the activity after which it has an answer."""

    expr: str
    after: str


def promises(system: str) -> list[Promise]:
    """The metrics that `system` documents."""
    return msgspec.convert(tomllib.loads((_HERE / f"{system}.toml").read_text())["metric"], list[Promise])


def queries() -> list[Query]:
    """The queries that the documents print."""
    return msgspec.convert(tomllib.loads((_HERE / "queries.toml").read_text())["query"], list[Query])
