"""The progress of a command: one live line on a terminal, else a line for each change; all events with --verbose."""

from __future__ import annotations

import sys

from schemas.events import (
    DeploymentFailed,
    DeploymentRolledBack,
    DeploymentStarted,
    DeploymentSucceeded,
    Event,
    ImagePulled,
    ReplicaReady,
    ReplicaStarted,
)

BACK_TO_START = "\r\x1b[K"
"""Moves to the start of the terminal's line and clears it."""


class DeploymentProgress:
    """The progress of one deployment, from its events in their order."""

    def __init__(self) -> None:
        self.text = ""
        self.failure: DeploymentFailed | None = None
        self.is_over = False
        self._replicas = 0
        self._ready: set[str] = set()

    def add(self, event: Event) -> None:
        """Add the next event."""
        match event:
            case DeploymentStarted():
                self._replicas = event.replicas
                what = "" if event.kind == "release" else f" ({event.kind})"
                self._head = f"release {event.release}{what}"
                self.text = f"{self._head}: begins"
            case ImagePulled():
                self.text = self._line("pulled", event.release)
            case ReplicaStarted():
                self.text = self._line(self._counted(), event.release)
            case ReplicaReady():
                self._ready.add(event.replica)
                self.text = self._line(self._counted())
            case DeploymentFailed():
                self.failure = event
                self.text = self._line(f"failed ({event.phase}: {event.reason}), is rolled back", event.release)
            case DeploymentSucceeded():
                self.is_over = True
                self.text = self._line(f"{self._counted()}, done in {event.duration:.0f} s", event.release)
            case DeploymentRolledBack():
                self.is_over = True
                self.text = self._line(f"rolled back to {event.to or 'nothing'}", event.release)

    _head = ""

    def _line(self, text: str, release: str = "") -> str:
        return f"{self._head or f'release {release}'}: {text}"

    def _counted(self) -> str:
        return f"{len(self._ready)}/{self._replicas} ready"


class Line:
    """The line of progress on stderr. On a terminal a new text replaces the one before."""

    def __init__(self, is_silent: bool = False) -> None:
        """`is_silent`: show nothing, because the caller prints events."""
        self._is_live = sys.stderr.isatty()
        self._is_silent = is_silent
        self._shown = ""

    def show(self, text: str) -> None:
        """Show a text unless it is shown already."""
        if not text or text == self._shown or self._is_silent:
            return
        self._shown = text
        print(f"{BACK_TO_START}{text}" if self._is_live else text, end="" if self._is_live else "\n", file=sys.stderr)
        sys.stderr.flush()

    def end(self) -> None:
        """Keep the last text on the screen."""
        if self._is_live and self._shown:
            print(file=sys.stderr, flush=True)
