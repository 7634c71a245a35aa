"""How the command line shows a setting: metadata of the fields of settings structs."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

import msgspec

Panel = Literal[
    "What to deliver",
    "Rollout",
    "Hooks and notices",
    "Containers",
    "Proxy",
    "Telemetry",
    "Bus and host",
    "Logging",
]
PANELS: tuple[Panel, ...] = get_args(Panel)
"""The groups of options, in the order in which `--help` shows them."""


class Option(msgspec.Struct, frozen=True):
    """Metadata of a field: `Annotated[float, Option("Seconds that …", "Proxy")]`.

    `short`: other names of the option. `variables`: its environment variables, of which the first that is set counts;
    None: LONGSHORE_ and the option's name. `shown_default`: the default in words; empty: its value.
    """

    help: str
    panel: Panel
    short: tuple[str, ...] = ()
    variables: tuple[str, ...] | None = None
    shown_default: str = ""


App = Annotated[
    str, Option("Name of the application, in events, metrics and container names.", "What to deliver", ("--name", "-n"))
]
DrainTime = Annotated[
    float,
    Option("Seconds that open connections of a retiring replica, or of a stopping proxy, may continue.", "Rollout"),
]
