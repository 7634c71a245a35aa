"""The view of the demo: a live table on a terminal, else plain lines."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from services.demo.client import Traffic
from services.demo.story import DemoState

REFRESH = 0.25


async def show(console: Console, state: DemoState, traffic: Traffic) -> None:
    """Show the state and the traffic until cancelled."""
    if console.is_terminal:
        await _show_live(console, state, traffic)
    else:
        await _print_lines(console, state)


async def _show_live(console: Console, state: DemoState, traffic: Traffic) -> None:
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(_screen(state, traffic), refresh=True)
                await asyncio.sleep(REFRESH)
        finally:
            live.update(_screen(state, traffic), refresh=True)


async def _print_lines(console: Console, state: DemoState) -> None:
    shown = 0
    try:
        while True:
            shown = _print_news(console, state, shown)
            await asyncio.sleep(REFRESH)
    finally:
        _print_news(console, state, shown)


def _print_news(console: Console, state: DemoState, shown: int) -> int:
    for line in state.lines[shown:]:
        console.print(f"{_clock(line.time)} {line.text}", highlight=False, markup=False, soft_wrap=True)
    return len(state.lines)


def _screen(state: DemoState, traffic: Traffic) -> Group:
    return Group(_counts(state, traffic), _replicas(state), _lines(state))


def _counts(state: DemoState, traffic: Traffic) -> Table:
    table = Table(title="longshore demo", title_justify="left", expand=True)
    for heading in ("requests", "failed", "answered by", "events on the log"):
        table.add_column(heading)
    releases = ", ".join(f"{release}: {count}" for release, count in sorted(traffic.releases.items()))
    table.add_row(str(traffic.requests), str(len(traffic.failures)), releases, str(state.events))
    return table


def _replicas(state: DemoState) -> Table:
    table = Table(expand=True)
    for heading in ("replica", "release", "state"):
        table.add_column(heading)
    for replica, (release, phase) in sorted(state.replicas.items()):
        table.add_row(replica, release, phase)
    return table


def _lines(state: DemoState) -> Table:
    table = Table(expand=True)
    table.add_column("when", width=8)
    table.add_column("what happened")
    for line in state.lines[-8:]:
        table.add_row(_clock(line.time), line.text)
    return table


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
