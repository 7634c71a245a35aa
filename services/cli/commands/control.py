"""The verbs that change something: commands to a deployer, and the wait for their end."""

from __future__ import annotations

import asyncio
import sys
from typing import Annotated

import typer

from schemas import subjects
from schemas.commands import (
    Abort,
    Command,
    Deploy,
    Drain,
    Pause,
    Remove,
    Reply,
    Restart,
    Resume,
    Retry,
    Rollback,
    Scale,
    Start,
    Stop,
)
from schemas.routing import Decisions
from services.cli import output
from services.cli.commands.progress import DeploymentProgress, Line
from services.cli.event_lines import as_line
from services.cli.overview import AppView, overview
from services.cli.verbs import Json, me, registered, verb
from services.client.client import Client
from services.common.config.settings import check_positive
from services.common.errors import LongshoreError, SettingsError
from services.replay.deployments import History

Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the end; exit with 1 if it fails.")]
Timeout = Annotated[float, typer.Option("--timeout", help="Most seconds to wait.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print each event instead of one line of progress.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

LOOK_INTERVAL = 0.3
"""Seconds between two looks at the replicas: a person sees each change, and four buckets are read each time."""


class Waiting:
    """The options of a command that waits."""

    def __init__(self, wait: bool = True, timeout: float = 600.0, as_json: bool = False, verbose: bool = False) -> None:
        if wait:
            check_positive("--timeout", timeout)
        self.wait = wait
        self.timeout = timeout
        self.as_json = as_json
        self.verbose = verbose


@verb
async def deploy(
    client: Client,
    release: Annotated[str, typer.Argument(help="Release; the default is the newest in the registry.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Deploy the current release too, from what its tag stands for now.")
    ] = False,
    wait: Wait = True,
    timeout: Timeout = 600.0,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Roll out a release now."""
    await _send(client, Deploy(release, me(), force), Waiting(wait, timeout, as_json, verbose))


@verb
async def rollback(
    client: Client,
    to: Annotated[str, typer.Argument(help="Release; the default is the one before the current one.")] = "",
    wait: Wait = True,
    timeout: Timeout = 600.0,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Return to an earlier release and stay there until `resume`."""
    await _send(client, Rollback(to, me()), Waiting(wait, timeout, as_json, verbose))


@verb
async def restart(
    client: Client, wait: Wait = True, timeout: Timeout = 600.0, verbose: Verbose = False, as_json: Json = False
) -> None:
    """Replace all replicas by new ones of the same release, without a gap."""
    await _send(client, Restart(me()), Waiting(wait, timeout, as_json, verbose))


@verb
async def scale(
    client: Client,
    replicas: Annotated[int, typer.Argument(help="Number of replicas; 0 runs none.", show_default=False)],
    wait: Wait = True,
    timeout: Timeout = 600.0,
    as_json: Json = False,
) -> None:
    """Set the number of replicas, until the option --replicas changes."""
    if replicas < 0:
        raise SettingsError(f"REPLICAS {replicas}: use 0 or more")
    await _send(client, Scale(replicas, me()), Waiting(wait, timeout, as_json))


@verb
async def stop(client: Client, wait: Wait = True, timeout: Timeout = 600.0, as_json: Json = False) -> None:
    """Drain and stop all replicas, until `start`."""
    await _send(client, Stop(me()), Waiting(wait, timeout, as_json))


@verb
async def start(client: Client, wait: Wait = True, timeout: Timeout = 600.0, as_json: Json = False) -> None:
    """Start a stopped or removed application again."""
    await _send(client, Start(me()), Waiting(wait, timeout, as_json))


@verb
async def remove(
    client: Client, yes: Yes = False, wait: Wait = True, timeout: Timeout = 600.0, as_json: Json = False
) -> None:
    """Drain and stop all replicas, and remove the application from its host, until `start`."""
    app = await client.app()
    if not yes:
        if not sys.stdin.isatty():
            raise LongshoreError(f"the removal of {app} is not confirmed: add --yes")
        if not typer.confirm(f"Stop all replicas of {app} on {client.target.host}, and remove it?", err=True):
            raise LongshoreError("nothing is removed")
    await _send(client, Remove(me()), Waiting(wait, timeout, as_json))


@verb
async def pause(client: Client, as_json: Json = False) -> None:
    """Deploy no new release until `resume`; the present one keeps running."""
    await _send(client, Pause(me()), Waiting(False, as_json=as_json))


@verb
async def resume(
    client: Client, wait: Wait = True, timeout: Timeout = 600.0, verbose: Verbose = False, as_json: Json = False
) -> None:
    """Follow the registry again."""
    await _send(client, Resume(me()), Waiting(wait, timeout, as_json, verbose))


@verb
async def retry(
    client: Client,
    release: Annotated[
        str, typer.Argument(help="Release; the default is a failed change of options, else the newest in quarantine.")
    ] = "",
    wait: Wait = True,
    timeout: Timeout = 600.0,
    verbose: Verbose = False,
    as_json: Json = False,
) -> None:
    """Lift the quarantine of a release or of a change of options, and deploy it again."""
    await _send(client, Retry(release, me()), Waiting(wait, timeout, as_json, verbose))


@verb
async def drain(
    client: Client,
    replica: Annotated[str, typer.Argument(help="The replica's id, as `longshore status` shows it.")],
    wait: Wait = True,
    timeout: Timeout = 600.0,
    as_json: Json = False,
) -> None:
    """Take a replica out of traffic, wait for its connections, and replace it."""
    await _send(client, Drain(replica, me()), Waiting(wait, timeout, as_json))


@verb
async def abort(
    client: Client, wait: Wait = True, timeout: Timeout = 600.0, verbose: Verbose = False, as_json: Json = False
) -> None:
    """Abort the deployment in progress: roll it back, and quarantine its release."""
    await _send(client, Abort(me()), Waiting(wait, timeout, as_json, verbose))


async def _send(client: Client, command: Command, waiting: Waiting) -> None:
    """Send a command, and wait for its end. Raises LongshoreError if it is refused, fails, or takes too long."""
    app = await client.app()  # before the command: after a removal there may be none
    start = await client.last_sequence() + 1
    reply = await client.send(command)
    is_settled_later = reply.replicas >= 0 or isinstance(command, Drain)
    if not waiting.wait or not (reply.deployment or is_settled_later):
        output.print_json([reply]) if waiting.as_json else typer.echo(reply.message)
        return
    output.progress(reply.message)
    try:
        async with asyncio.timeout(waiting.timeout):
            if reply.deployment:
                await _until_ended(client, app, command, reply, start, waiting)
            else:
                await _until_settled(client, app, command, reply)
                if waiting.as_json:
                    output.print_json([reply])
    except TimeoutError:
        raise LongshoreError(
            f"not finished after {waiting.timeout:g} s; Longshore continues: see `longshore status`"
        ) from None


async def _until_ended(client: Client, app: str, command: Command, reply: Reply, start: int, waiting: Waiting) -> None:
    """Show the progress of a deployment until its end."""
    history, progress, line = History(), DeploymentProgress(), Line(is_silent=waiting.verbose)
    try:
        async for recorded in client.events(start, "deployer", app):
            if getattr(recorded.event, "deployment", "") != reply.deployment or recorded.host != client.target.host:
                continue
            history.add(recorded)
            progress.add(recorded.event)
            line.show(progress.text)
            if waiting.verbose:
                output.progress(as_line(recorded))
            if progress.is_over:
                break
    finally:
        line.end()
    if waiting.as_json:
        output.print_json(history.deployments or [reply])  # an aborted deployment began earlier
    failure = progress.failure
    if failure and not isinstance(command, Abort):
        raise LongshoreError(f"{failure.release} was rolled back: {failure.phase}: {failure.reason}")


async def _until_settled(client: Client, app: str, command: Command, reply: Reply) -> None:
    """Show how many replicas serve, until those serve that should."""
    line = Line()
    try:
        while True:
            if await _is_settled(client, app, command, reply.replicas, line):
                return
            await asyncio.sleep(LOOK_INTERVAL)
    finally:
        line.end()


async def _is_settled(client: Client, app: str, command: Command, wanted: int, line: Line) -> bool:
    if isinstance(command, Remove):
        decisions = await client.values(subjects.DECISIONS, Decisions)
        if decisions[subjects.decisions_key(client.target.host, app)].removed:
            line.show("removed")
            return True
    view = next((one for one in await overview(client) if one.app == app), None)
    if view is None:
        return False
    count = len(serving(view))
    if isinstance(command, Drain):
        is_gone = all(one.id != command.replica for one in view.replicas)
        line.show(f"{command.replica} {'is replaced' if is_gone else 'drains'}")
        return is_gone
    line.show(f"{count}/{wanted} replicas serve" if wanted else f"{len(view.replicas)} replicas are left")
    return not isinstance(command, Remove) and count == wanted == len(view.replicas)


def serving(view: AppView) -> list[str]:
    """Return the replicas that are healthy and take traffic."""
    return [one.id for one in view.replicas if one.routed == "active" and one.health == "healthy"]


app = registered(__name__)
