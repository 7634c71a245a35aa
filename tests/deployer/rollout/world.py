"""A simulated host for the rollout: time, a proxy that follows, replicas that pass, fail, die or never get ready."""

from __future__ import annotations

import math
from typing import Literal

from services.deployer.rollout.actions import Action, Fail, Pull, RollbackDone, Start, Stop, Succeed
from services.deployer.rollout.plan import Facts, Limits, plan
from services.deployer.rollout.replica import Replica, change

LIMITS = Limits(settle=1, ready=10, route=10, drain=10, unroute=2, unhealthy=10, stop=20)


class World:
    """`bad`: releases whose replicas never become healthy. `proxy`: whether it follows at once."""

    def __init__(self, desired: int, strategy: Literal["rolling", "blue-green"] = "rolling") -> None:
        self.now = 1000.0
        self.desired = desired
        self.strategy = strategy
        self.target = "old"
        self.previous = ""
        self.deploying = False
        self.upcoming = ""
        self.undoing = ""
        self.failure: tuple[str, str] | None = None
        self.replicas: list[Replica] = []
        self.bad: set[str] = set()
        self.proxy = True
        self.log: list[Action] = []
        self.fewest = math.inf
        self.most = 0
        self._count = 0

    @classmethod
    def serving(cls, desired: int, strategy: Literal["rolling", "blue-green"] = "rolling") -> World:
        """A world in which the release "old" runs and takes traffic."""
        world = cls(desired, strategy)
        world.run()
        assert world.served("old") == desired
        world.forget_history()
        return world

    def forget_history(self) -> None:
        self.log.clear()
        self.fewest, self.most = math.inf, 0

    def deploy(self, release: str) -> None:
        self.upcoming = release

    def served(self, release: str = "") -> int:
        return sum(replica.serves and (not release or replica.release == release) for replica in self.replicas)

    def die(self, replica: Replica) -> None:
        """The replica's process ends by itself, or as it was told to."""
        self.replicas.remove(replica)
        if self.deploying and replica.release == self.target and not replica.leaving:
            self.failure = ("check", f"{replica.id} exited")

    def settle(self) -> float:
        """Do what the rollout asks until it asks for nothing; when it wants to look again."""
        for _ in range(200):
            step = plan(self.facts)
            assert step.actions or step.wake > self.now
            for action in step.actions:
                self._apply(action)
            self.fewest = min(self.fewest, self.served())
            self.most = max(self.most, len(self.replicas))
            if not step.actions:
                return step.wake
        raise AssertionError(f"does not settle: {self.log[-10:]}")

    def run(self, seconds: float = 600.0) -> None:
        """Let time pass in a fair world: the proxy follows, what can be healthy is, connections end."""
        until = self.now + seconds
        while self.now < until:
            self.behave()
            wake = self.settle()
            idle = wake == math.inf and not self._unsettled()
            self.now = min(wake, until, self.now + 1) if not idle else until

    def behave(self) -> None:
        for replica in list(self.replicas):
            if replica.stopping_since is not None:
                self.die(replica)
            replica.running = True
            replica.followed = self.proxy
            replica.connections = 0
            self.health(replica, replica.release not in self.bad)

    def health(self, replica: Replica, healthy: bool) -> None:
        replica.healthy = healthy
        if healthy:
            replica.unhealthy_since = None
        elif replica.ready and replica.unhealthy_since is None:
            replica.unhealthy_since = self.now

    @property
    def facts(self) -> Facts:
        return Facts(
            now=self.now,
            target=self.target,
            desired=self.desired,
            replicas=self.replicas,
            limits=LIMITS,
            strategy=self.strategy,
            deploying=self.deploying,
            is_pull_due=bool(self.upcoming),
            undoing=self.undoing,
            failure=self.failure,
        )

    def _unsettled(self) -> bool:
        return any(replica.stopping_since or not replica.followed for replica in self.replicas)

    def _apply(self, action: Action) -> None:
        self.log.append(action)
        match action:
            case Pull():
                self.previous, self.target, self.upcoming = self.target, self.upcoming, ""
                self.deploying = True
            case Start(slot=slot):
                self._count += 1
                identity = f"{self.target}-{slot}-{self._count}"
                self.replicas.append(Replica(id=identity, release=self.target, slot=slot, since=self.now))
            case Fail():
                self.undoing, self.target = self.target, self.previous
                self.deploying, self.failure = False, None
            case Succeed():
                self.deploying = False
            case RollbackDone():
                self.undoing = ""
            case _:
                self._change(action)

    def _change(self, action: Action) -> None:
        replica = next(each for each in self.replicas if each.id == action.id)  # type: ignore[union-attr] # those left
        before, served = replica.serves, self.served()
        change(replica, action, self.now)
        if before and not replica.serves:
            assert self.served() >= min(self.desired if self.target else 0, served), f"{action} costs capacity"
        if isinstance(action, Stop):
            assert replica.leaving
            assert replica.route in ("none", "unrouted")
