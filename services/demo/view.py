"""The demo on a terminal: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import asyncio
import time

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from services.demo.client import Traffic
from services.demo.story import Story

REFRESH = 0.25


async def show(console: Console, story: Story, traffic: Traffic) -> None:
    """Show the story and the traffic until cancelled."""
    if console.is_terminal:
        await _show_live(console, story, traffic)
    else:
        await _print_lines(console, story)


async def _show_live(console: Console, story: Story, traffic: Traffic) -> None:
    with Live(console=console, auto_refresh=False) as live:
        try:
            while True:
                live.update(_screen(story, traffic), refresh=True)
                await asyncio.sleep(REFRESH)
        finally:
            live.update(_screen(story, traffic), refresh=True)


async def _print_lines(console: Console, story: Story) -> None:
    shown = 0
    try:
        while True:
            shown = _print_news(console, story, shown)
            await asyncio.sleep(REFRESH)
    finally:
        _print_news(console, story, shown)


def _print_news(console: Console, story: Story, shown: int) -> int:
    for told in story.lines[shown:]:
        console.print(f"{_clock(told.time)} {told.text}", highlight=False, markup=False, soft_wrap=True)
    return len(story.lines)


def _screen(story: Story, traffic: Traffic) -> Group:
    return Group(_counts(story, traffic), _replicas(story), _lines(story))


def _counts(story: Story, traffic: Traffic) -> Table:
    table = Table(title="longshore demo", title_justify="left", expand=True)
    for heading in ("requests", "failed", "answered by", "events on the log"):
        table.add_column(heading)
    releases = ", ".join(f"{release}: {count}" for release, count in sorted(traffic.releases.items()))
    table.add_row(str(traffic.requests), str(len(traffic.failures)), releases, str(story.events))
    return table


def _replicas(story: Story) -> Table:
    table = Table(expand=True)
    for heading in ("replica", "release", "state"):
        table.add_column(heading)
    for replica, (release, state) in sorted(story.replicas.items()):
        table.add_row(replica, release, state)
    return table


def _lines(story: Story) -> Table:
    table = Table(expand=True)
    table.add_column("when", width=8)
    table.add_column("what happened")
    for told in story.lines[-8:]:
        table.add_row(_clock(told.time), told.text)
    return table


def _clock(seconds: float) -> str:
    return time.strftime("%H:%M:%S", time.localtime(seconds))
