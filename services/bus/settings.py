"""Settings of the embedded bus."""

from __future__ import annotations

from typing import Annotated

from services.common.config.option import Option
from services.common.config.settings import Settings


class BusSettings(Settings, frozen=True, kw_only=True):
    """`nats_server`: the program to run; empty: the program on PATH if it is new enough, else the bundled one."""

    nats_server: Annotated[
        str,
        Option(
            "Program to run as the embedded bus: nats-server.",
            "Bus and host",
            shown_default="the one on PATH, else the bundled one",
        ),
    ] = ""
