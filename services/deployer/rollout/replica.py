"""One replica as the rollout sees it, and how the rollout's actions change it. Times are of one monotonic clock."""

from __future__ import annotations

from typing import Literal

import msgspec

from services.deployer.rollout.actions import (
    Action,
    Activate,
    Drain,
    MarkReady,
    Retire,
    Signal,
    Stop,
    Unretire,
    Unroute,
)

Routing = Literal["none", "active", "draining", "unrouted"]


class Replica(msgspec.Struct, kw_only=True):
    """A replica that was started and has not ended.

    `revision`: the deployment that it belongs to; its release, if an earlier version started it.
    `since`: when it was started or adopted, inf while its release is brought here. `running`: its start is done.
    `ready`: it once passed its checks. `healthy`: it passes them now; `problem` is why not, `unhealthy_since` since
    when. `route`: its place in the route as last decided, `route_since` when that changed, `followed` whether the
    proxy follows it. `connections`: how many it still has while it drains. `must_replace`: to be replaced, whatever it
    does. `leaving`: why it retires, empty if it stays. `stopping_since`: when it was asked to stop. `drain_signal`: the
    signal on which it closes its connections by itself and ends, empty if there is none; `signalled`: it got that.
    """

    id: str
    release: str
    revision: str = ""
    slot: int
    since: float
    running: bool = False
    ready: bool = False
    healthy: bool = False
    problem: str = ""
    unhealthy_since: float | None = None
    route: Routing = "none"
    route_since: float = 0.0
    followed: bool = False
    connections: int = 0
    must_replace: bool = False
    leaving: str = ""
    stopping_since: float | None = None
    drain_signal: str = ""
    signalled: bool = False

    def __post_init__(self) -> None:
        self.revision = self.revision or self.release

    @property
    def serves(self) -> bool:
        """It takes new connections."""
        return self.route == "active" and self.followed and self.healthy and not self.leaving


def change(replica: Replica, action: Action, now: float) -> None:
    """Apply an action to the state of its replica."""
    match action:
        case MarkReady():
            replica.ready = True
        case Activate():
            _route(replica, "active", now)
        case Drain():
            _route(replica, "draining", now)
        case Signal():
            replica.signalled = True
        case Unroute():
            _route(replica, "unrouted", now)
        case Retire(reason=reason):
            replica.leaving = reason
        case Unretire():
            replica.leaving = ""
        case Stop():
            replica.stopping_since = now


def _route(replica: Replica, place: Routing, now: float) -> None:
    replica.route = place
    replica.route_since = now
    replica.followed = False
