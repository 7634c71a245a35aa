"""Requests that a person makes of a deployer, and its replies."""

from __future__ import annotations

from typing import TypeAlias

import msgspec


class Deploy(msgspec.Struct, tag="deploy", frozen=True):
    """Roll out a release now; empty: the newest that the registry offers.

    `force`: also if it is the current one, from what its name stands for now.
    """

    release: str = ""
    by: str = ""
    force: bool = False


class Rollback(msgspec.Struct, tag="rollback", frozen=True):
    """Roll out the release before the current one, or the one named, and stay there."""

    to: str = ""
    by: str = ""


class Pause(msgspec.Struct, tag="pause", frozen=True):
    """Deploy nothing new until resumed; what runs is still kept running."""

    by: str = ""


class Resume(msgspec.Struct, tag="resume", frozen=True):
    """Follow the registry again, from its newest release on."""

    by: str = ""


class Restart(msgspec.Struct, tag="restart", frozen=True):
    """Replace all replicas by new ones of the same release."""

    by: str = ""


class Scale(msgspec.Struct, tag="scale", frozen=True):
    """Keep this many replicas running, until the option `--replicas` changes."""

    replicas: int
    by: str = ""


class Stop(msgspec.Struct, tag="stop", frozen=True):
    """Drain and stop all replicas, until started again."""

    by: str = ""


class Start(msgspec.Struct, tag="start", frozen=True):
    """Run an application again that was stopped or removed."""

    by: str = ""


class Remove(msgspec.Struct, tag="remove", frozen=True):
    """Drain and stop all replicas, and remove the application from its host."""

    by: str = ""


class Retry(msgspec.Struct, tag="retry", frozen=True):
    """Lift the quarantine of a release; empty: of a change of options, else of the newest release in quarantine."""

    release: str = ""
    by: str = ""


class Drain(msgspec.Struct, tag="drain", frozen=True):
    """Take a replica out of the route, wait for its connections, and replace it."""

    replica: str
    by: str = ""


class Abort(msgspec.Struct, tag="abort", frozen=True):
    """End the deployment under way: undo it, and quarantine its release."""

    by: str = ""


Command: TypeAlias = (
    Deploy | Rollback | Pause | Resume | Retry | Drain | Abort | Restart | Scale | Stop | Start | Remove
)


class Reply(msgspec.Struct, frozen=True):
    """The answer to a command. `deployment` is set when one was started or aborted: its events say how it goes on.

    `replicas`: how many are to run from now on, -1 if the command does not change that.
    """

    ok: bool
    message: str
    deployment: str = ""
    replicas: int = -1
