"""The plan of a rollout: a pure function from the facts to the next actions.

It does not know how a deployment began; everything follows from the replicas that are there and the revision that
should run: a release, as one deployment started it. So an interrupted deployment simply resumes, undoing one means to
roll out the revision before, and replacing a dead replica is the same as starting a new one. Times are seconds of one
monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

import msgspec

from services.deployer.rollout.actions import (
    Action,
    Activate,
    Drain,
    Fail,
    MarkReady,
    Pull,
    Retire,
    RollbackDone,
    Signal,
    Start,
    Stop,
    Succeed,
    Unretire,
    Unroute,
)
from services.deployer.rollout.replica import Replica


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The time limits, in seconds. `settle`: how long a new replica must last before it is ready."""

    settle: float = 0.0
    ready: float = 30.0
    route: float = 30.0
    drain: float = 30.0
    unroute: float = 3.0
    unhealthy: float = 30.0
    stop: float = 30.0


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one moment.

    `target`: the revision that should run (empty: none). `deploying`: its deployment is under way. `is_pull_due`: the
    release of another one must first be brought to this host, which becomes the target after that. `undoing`: the
    revision that failed and is being undone, at the latest until `undo_until`. `failure`: phase and reason of a failure
    that the replicas do not show. `held`: slots that wait before their next start, because they keep crashing, and
    until when; a deployment does not wait for them.
    """

    now: float
    target: str
    desired: int
    replicas: list[Replica]
    limits: Limits = Limits()
    strategy: Literal["rolling", "blue-green"] = "rolling"
    deploying: bool = False
    is_pull_due: bool = False
    undoing: str = ""
    undo_until: float = math.inf
    failure: tuple[str, str] | None = None
    held: dict[int, float] = {}


class Plan(msgspec.Struct, frozen=True):
    """The actions to apply now, and when to plan again even if nothing happens (inf: never).

    Actions change the facts: if there are any, apply them and plan again.
    """

    actions: list[Action]
    wake: float


def plan(facts: Facts) -> Plan:
    """Return the next actions."""
    if facts.is_pull_due:
        return Plan([Pull()], facts.now)
    situation = _Situation(facts)
    if failure := situation.failure():
        return Plan([failure], facts.now)
    if unretirements := situation.unretirements():
        return Plan(unretirements, facts.now)
    actions: list[Action] = [*situation.routing(), *situation.shutdown_steps()]
    actions += situation.retirements() or situation.starts()
    return Plan(actions or situation.ending(), situation.wake)


def phase(facts: Facts) -> str:
    """Return the phase that a rollout is in: "start", "check", "route" or "drain"."""
    situation = _Situation(facts)
    for replica in situation.pending:
        return "start" if not replica.running else "route" if replica.ready else "check"
    return "drain" if situation.obsolete or situation.retiring else "start"


class _Situation:
    """The facts, sorted: replicas that stay are good (they are what should run) or obsolete; the others retire."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.wake = math.inf
        self.staying = [replica for replica in facts.replicas if not replica.leaving]
        self.good = [replica for replica in self.staying if self._is_good(replica)]
        self.obsolete = [replica for replica in self.staying if not self._is_good(replica)]
        self.retiring = [replica for replica in facts.replicas if replica.leaving]
        self.desired = facts.desired if facts.target else 0
        self.pending = [replica for replica in self.good if not replica.serves]
        self._usable = sum(replica.ready and replica.healthy for replica in self.good)

    def failure(self) -> Fail | None:
        """Return what ends the deployment, if something does."""
        facts, limits = self.facts, self.facts.limits
        if not facts.deploying:
            return None
        if facts.failure:
            return Fail(*facts.failure)
        for replica in self.good:
            if not replica.ready and self._due(replica.since + limits.ready):
                reason = f"{replica.id} was not ready within {limits.ready:g} s{_why_not(replica)}"
                return Fail("check", reason, replica.id)
            if replica.ready and self._unhealthy_too_long(replica):
                reason = f"{replica.id} was unhealthy for {limits.unhealthy:g} s{_why_not(replica)}"
                return Fail("check", reason, replica.id)
            if replica.route == "active" and not replica.followed and self._due(replica.route_since + limits.route):
                reason = f"the proxy did not follow the route to {replica.id} within {limits.route:g} s"
                return Fail("route", reason)
        return None

    def routing(self) -> Iterator[Action]:
        """Yield the actions that make replicas ready, and start or stop their new connections."""
        for replica in self.staying:
            if not replica.ready:
                if replica.running and replica.healthy and self._due(replica.since + self.facts.limits.settle):
                    yield MarkReady(replica.id)
            elif not replica.healthy:
                if replica.route == "active":
                    yield Drain(replica.id)
            elif replica.route == "draining" or (replica.route == "none" and self._may_join(replica)):
                yield Activate(replica.id)

    def unretirements(self) -> list[Action]:
        """Keep retiring replicas that are needed, as far as they can still be kept."""
        usable = [
            replica
            for replica in self.retiring
            if self._is_good(replica)
            and replica.healthy
            and replica.route in ("active", "draining")
            and not replica.signalled
        ]
        return [Unretire(replica.id) for replica in usable[: max(self.desired - len(self.good), 0)]]

    def shutdown_steps(self) -> Iterator[Action]:
        """Yield the next step of each retiring replica."""
        for replica in self.retiring:
            if replica.stopping_since is None:
                yield from self._shutdown_step(replica)

    def retirements(self) -> list[Action]:
        """Retire replicas that are no longer wanted, as far as enough others serve."""
        if never_ready := list(self._never_ready()):
            return self._retire(never_ready)
        if len(self.good) > self.desired:
            return self._retire(_least_useful(self.good, len(self.good) - self.desired))
        if self.pending:
            return []
        return self._retire(_least_useful(self.obsolete, len(self.staying) - self.desired))

    def starts(self) -> list[Action]:
        """Start missing replicas, as far as there is room: one more than desired in a rolling deployment."""
        allowed = self.desired - len(self.good)
        if not (self.facts.deploying and self.facts.strategy == "blue-green"):
            allowed = min(allowed, self.desired - len(self.staying) + (not self.retiring))
            if self.facts.deploying and len(self.pending) == len(self.good):
                allowed = min(allowed, 1 - len(self.pending))  # until one has proved the release
        held = {} if self.facts.deploying else self.facts.held
        slots = [slot for slot in self._free_slots() if self._due(held.get(slot, 0.0))]
        return [Start(slot) for slot in slots[: max(allowed, 0)]]

    def ending(self) -> list[Action]:
        """End the deployment, or the undoing of one, if it is complete."""
        facts = self.facts
        left = [replica for replica in facts.replicas if not self._is_lost(replica)]
        if facts.undoing:
            is_undone = not any(replica.revision == facts.undoing for replica in left)
            return [RollbackDone()] if is_undone or self._due(facts.undo_until) else []
        is_done = len(self.good) == len(left) == self.desired and not self.pending
        return [Succeed()] if facts.deploying and is_done else []

    def _is_good(self, replica: Replica) -> bool:
        is_target = replica.revision == self.facts.target and not replica.must_replace
        return is_target and (self.facts.deploying or not self._unhealthy_too_long(replica))

    def _unhealthy_too_long(self, replica: Replica) -> bool:
        since = replica.unhealthy_since
        return since is not None and self._due(since + self.facts.limits.unhealthy)

    def _is_lost(self, replica: Replica) -> bool:
        """Return True if the replica was killed and the system does not let go of it: nothing more can be done."""
        since = replica.stopping_since
        return since is not None and self._due(since + self.facts.limits.stop)

    def _retire(self, replicas: list[Replica]) -> list[Action]:
        return [Retire(replica.id, self._why(replica)) for replica in replicas]

    def _never_ready(self) -> Iterator[Replica]:
        """Yield the replicas that never served and never will."""
        for replica in self.staying:
            is_overdue = not replica.ready and self._due(replica.since + self.facts.limits.ready)
            is_undone = replica.revision == self.facts.undoing and not replica.serves
            if (is_overdue and not self.facts.deploying) or is_undone:
                yield replica

    def _may_join(self, replica: Replica) -> bool:
        """Return True if the replica may take traffic: one by one, or in a blue-green deployment all at once."""
        if not self._is_good(replica):
            return False
        if not self.facts.deploying or self.facts.strategy == "rolling":
            return True
        return self._usable >= self.desired

    def _shutdown_step(self, replica: Replica) -> Iterator[Action]:
        limits, since = self.facts.limits, replica.route_since
        if replica.route == "active":
            yield Drain(replica.id)
        elif replica.route == "draining":
            if (replica.followed and not replica.connections) or self._due(since + limits.drain):
                yield Unroute(replica.id)
            elif replica.followed and replica.drain_signal and not replica.signalled:
                yield Signal(replica.id)
        elif replica.route == "none" or replica.followed or self._due(since + limits.unroute):
            yield Stop(replica.id)

    def _why(self, replica: Replica) -> str:
        if replica.revision == self.facts.undoing:
            return "rolled back"
        if not self.facts.target:
            return "stopped"
        return "scaled down" if len(self.good) > self.desired and replica in self.good else "replaced"

    def _free_slots(self) -> Iterator[int]:
        starting = [each for each in self.retiring if not each.running and each.revision == self.facts.target]
        taken = {replica.slot for replica in (*self.good, *starting)}
        return (slot for slot in range(self.desired) if slot not in taken)

    def _due(self, moment: float) -> bool:
        """Return True if a moment has come; if not, plan again at that moment."""
        if moment <= self.facts.now:
            return True
        self.wake = min(self.wake, moment)
        return False


def _why_not(replica: Replica) -> str:
    return f": {replica.problem}" if replica.problem else ""


def _least_useful(replicas: list[Replica], count: int) -> list[Replica]:
    """Return the first `count` replicas to retire: those that serve no connections come first."""
    return sorted(replicas, key=lambda replica: (replica.serves, -replica.slot))[: max(count, 0)]
