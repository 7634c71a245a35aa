"""The rollout, as a pure function, in a simulated world."""

from __future__ import annotations

import math
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployer.rollout.actions import (
    Activate,
    Drain,
    Fail,
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
from services.deployer.rollout.plan import Facts, Plan, phase, plan
from services.deployer.rollout.replica import Replica, change
from tests.deployer.rollout.world import LIMITS, World

Strategy = Literal["rolling", "blue-green"]
both = pytest.mark.parametrize("strategy", ["rolling", "blue-green"])


def ended(world: World) -> list[str]:
    return [type(action).__name__ for action in world.log if isinstance(action, Succeed | Fail | RollbackDone)]


def test_missing_replicas_of_what_should_run_are_started_at_once() -> None:
    world = World(3)
    world.settle()
    assert world.log == [Start(0), Start(1), Start(2)]


@both
@pytest.mark.parametrize("desired", [1, 2, 5])
def test_a_deployment_replaces_every_replica_and_never_serves_with_fewer(strategy: Strategy, desired: int) -> None:
    world = World.serving(desired, strategy)
    world.deploy("new")
    world.run()
    assert world.served("new") == desired == len(world.replicas)
    assert world.fewest == desired
    assert ended(world) == ["Succeed"]


def test_rolling_needs_one_spare_slot_and_blue_green_twice_the_room() -> None:
    for strategy, most in (("rolling", 4), ("blue-green", 6)):
        world = World.serving(3, strategy)  # type: ignore[arg-type] # the literals above
        world.deploy("new")
        world.run()
        assert world.most == most


def test_blue_green_moves_all_traffic_in_one_step() -> None:
    world = World.serving(3, "blue-green")
    world.deploy("new")
    world.run()
    moved = [type(action) for action in world.log if isinstance(action, Activate | Retire)]
    assert moved == [Activate] * 3 + [Retire] * 3


def test_blue_green_waits_for_the_slowest_replica() -> None:
    world = World.serving(3, "blue-green")
    world.deploy("new")
    for _ in range(5):
        world.behave()
        for replica in world.replicas:
            if replica.release == "new" and replica.slot == 2:
                world.health(replica, False)
        world.settle()
        world.now += 1
    assert sum(replica.ready for replica in world.replicas if replica.release == "new") == 2
    assert not any(isinstance(action, Activate) for action in world.log)
    world.run()
    assert world.served("new") == 3


def test_a_first_deployment_starts_one_replica_and_the_others_when_that_one_serves() -> None:
    world = World(3)
    world.target = ""
    world.deploy("new")
    world.settle()
    assert [action for action in world.log if isinstance(action, Start)] == [Start(0)]
    world.run()
    starts = [n for n, action in enumerate(world.log) if isinstance(action, Start)]
    assert starts[2] - starts[1] == 1
    assert world.served("new") == 3


@both
def test_a_release_that_never_becomes_ready_leaves_the_old_one_serving(strategy: Strategy) -> None:
    world = World.serving(3, strategy)
    world.bad.add("new")
    world.deploy("new")
    world.run()
    assert ended(world) == ["Fail", "RollbackDone"]
    assert world.fewest == 3
    assert world.served("old") == 3 == len(world.replicas)
    assert not any(isinstance(action, Retire) and action.id.startswith("old") for action in world.log)


def test_a_first_release_that_never_becomes_ready_leaves_nothing() -> None:
    world = World(2)
    world.target = ""
    world.bad.add("new")
    world.deploy("new")
    world.run()
    assert ended(world) == ["Fail", "RollbackDone"]
    assert world.replicas == []


@both
def test_a_failure_late_in_a_deployment_brings_the_old_release_back_at_full_strength(strategy: Strategy) -> None:
    world = World.serving(3, strategy)
    world.deploy("new")
    while world.served("new") < 2:
        world.behave()
        world.settle()
        world.now += 1
    world.failure = ("check", "a replica exited")
    world.run()
    assert ended(world) == ["Fail", "RollbackDone"]
    assert world.served("old") == 3 == len(world.replicas)
    assert world.fewest == 3


def test_old_replicas_that_still_drain_are_kept_when_their_deployment_fails() -> None:
    world = World.serving(3, "blue-green")
    world.deploy("new")
    while not any(isinstance(action, Drain) for action in world.log):
        world.behave()
        world.settle()
        world.now += 1
    survivors = [replica.id for replica in world.replicas if replica.release == "old"]
    world.failure = ("drain", "a replica exited")
    world.run()
    assert [action.id for action in world.log if isinstance(action, Unretire)] == survivors
    assert sorted(replica.id for replica in world.replicas) == sorted(survivors)


def test_a_replica_is_drained_before_it_is_cut_and_cut_before_it_is_stopped() -> None:
    world = World.serving(1)
    world.deploy("new")
    world.run()
    old = [type(action) for action in world.log if getattr(action, "id", "").startswith("old")]
    assert old == [Retire, Drain, Unroute, Stop]


def test_failed_replicas_go_at_once_even_while_an_old_one_is_unwell() -> None:
    world = World.serving(2)
    world.bad.add("new")
    world.deploy("new")
    world.behave()
    world.settle()
    world.health(world.replicas[0], False)
    world.failure = ("start", "no such file")
    world.settle()
    (failed,) = [replica for replica in world.replicas if replica.release == "new"]
    assert failed.leaving == "rolled back"


def test_undoing_is_given_up_when_the_old_release_does_not_come_back() -> None:
    serving = Replica(id="a", release="new", slot=0, since=0, running=True, ready=True, healthy=True, followed=True)
    serving.route = "active"
    held = {0: 500.0}
    facts = Facts(now=100.0, target="old", desired=1, replicas=[serving], undoing="new", undo_until=200.0, held=held)
    assert plan(facts).actions == []
    assert plan(facts).wake == 200.0
    assert plan(msgspec.structs.replace(facts, now=200.0)).actions == [RollbackDone()]


def test_a_replica_that_is_still_being_started_is_stopped_at_once_when_it_is_not_wanted_any_more() -> None:
    starting = Replica(id="a", release="new", slot=0, since=0, leaving="rolled back")
    facts = Facts(now=1.0, target="", desired=1, replicas=[starting])
    assert plan(facts).actions == [Stop("a")]


def test_a_slot_waits_for_the_end_of_a_start_that_was_given_up() -> None:
    stuck = Replica(id="a", release="old", slot=0, since=0, leaving="replaced", stopping_since=30)
    facts = Facts(now=31.0, target="old", desired=2, replicas=[stuck], limits=LIMITS)
    assert plan(facts).actions == [Start(1)]
    stuck.running = True
    assert plan(facts).actions == [Start(0), Start(1)]


def test_a_replica_whose_release_is_still_being_brought_here_is_not_late() -> None:
    fetching = Replica(id="a", release="new", slot=0, since=math.inf)
    for deploying in (True, False):
        facts = Facts(now=1e6, target="new", desired=1, replicas=[fetching], deploying=deploying)
        assert plan(facts) == Plan([], math.inf)


@pytest.mark.parametrize(
    ("replica", "waits_for"),
    [
        (Replica(id="a", release="new", slot=0, since=0), "start"),
        (Replica(id="a", release="new", slot=0, since=0, running=True), "check"),
        (Replica(id="a", release="new", slot=0, since=0, running=True, ready=True, route="active"), "route"),
        (Replica(id="a", release="old", slot=0, since=0, running=True, route="draining", leaving="replaced"), "drain"),
        (
            Replica(
                id="a",
                release="new",
                slot=0,
                since=0,
                running=True,
                ready=True,
                healthy=True,
                route="active",
                followed=True,
            ),
            "start",
        ),
    ],
    ids=["start", "check", "route", "drain", "nothing"],
)
def test_the_phase_of_a_deployment_is_what_it_waits_for(replica: Replica, waits_for: str) -> None:
    assert phase(Facts(now=1.0, target="new", desired=1, replicas=[replica], deploying=True)) == waits_for


def test_a_successor_that_never_becomes_ready_is_tried_again() -> None:
    facts = Facts(
        now=10.0, target="old", desired=1, replicas=[Replica(id="a", release="old", slot=0, since=0)], limits=LIMITS
    )
    assert plan(facts).actions == [Retire("a", "replaced")]


def test_scaling_down_takes_the_replica_that_does_not_serve() -> None:
    world = World.serving(2)
    world.health(world.replicas[0], False)
    world.desired = 1
    world.settle()
    assert Retire(world.replicas[0].id, "scaled down") in world.log
    assert world.served() == 1


def draining(**state: object) -> Facts:
    replica = Replica(
        id="a", release="old", slot=0, since=0, running=True, leaving="replaced", route="draining", route_since=100.0
    )
    for name, value in state.items():
        setattr(replica, name, value)
    return Facts(now=105.0, target="", desired=0, replicas=[replica], limits=LIMITS)


def test_draining_lasts_until_the_last_connection_ends_or_the_time_is_over() -> None:
    assert plan(draining(followed=True, connections=2)).actions == []
    assert plan(draining(followed=True, connections=2)).wake == 110.0
    assert plan(draining(followed=False)).actions == []
    assert plan(draining(followed=True)).actions == [Unroute("a")]
    assert plan(draining(followed=True, connections=2, route_since=95.0)).actions == [Unroute("a")]


def test_a_cut_replica_is_stopped_when_the_proxy_knows_or_soon_after() -> None:
    assert plan(draining(route="unrouted", route_since=104.0)).actions == []
    assert plan(draining(route="unrouted", route_since=104.0)).wake == 106.0
    assert plan(draining(route="unrouted", route_since=104.0, followed=True)).actions == [Stop("a")]
    assert plan(draining(route="unrouted", route_since=103.0)).actions == [Stop("a")]


def test_a_proxy_that_does_not_follow_fails_the_deployment() -> None:
    world = World.serving(1)
    world.deploy("new")
    while not any(isinstance(action, Activate) for action in world.log):
        world.behave()
        world.settle()
        world.now += 1
    for _ in range(15):
        world.behave()
        for replica in world.replicas:
            replica.followed = replica.release == "old"
        world.settle()
        world.now += 1
    (failure,) = [action for action in world.log if isinstance(action, Fail)]
    assert failure.phase == "route"
    world.run()
    assert world.served("old") == 1


def test_an_unhealthy_replica_gets_no_new_connections_until_it_is_healthy_again() -> None:
    world = World.serving(2)
    sick = world.replicas[0]
    world.health(sick, False)
    world.settle()
    assert world.log == [Drain(sick.id)]
    world.now += 5
    world.health(sick, True)
    world.settle()
    assert world.log == [Drain(sick.id), Activate(sick.id)]


def test_a_replica_that_stays_unhealthy_is_replaced_and_goes_only_then() -> None:
    world = World.serving(2)
    sick = world.replicas[0]
    world.health(sick, False)
    world.settle()
    world.now += 10
    world.settle()
    assert world.log[1:] == [Start(0)]
    for _ in range(10):
        for replica in world.replicas:
            if replica is not sick:
                replica.running = replica.healthy = replica.followed = True
            elif replica.route == "unrouted":
                replica.followed = True
        world.now += 1
        world.settle()
    assert sick.leaving == "replaced"
    assert world.served() == 2


def test_a_condemned_replica_serves_until_its_successor_does() -> None:
    world = World.serving(1)
    world.replicas[0].must_replace = True
    world.run()
    assert world.fewest == 1
    assert [replica.must_replace for replica in world.replicas] == [False]
    assert world.served("old") == 1


def test_dead_replicas_are_replaced_at_once_all_of_them() -> None:
    world = World.serving(3)
    for replica in world.replicas[:2]:
        world.die(replica)
    world.settle()
    assert world.log == [Start(0), Start(1)]


def test_a_slot_that_keeps_crashing_waits_and_the_others_do_not() -> None:
    facts = Facts(now=100.0, target="old", desired=2, replicas=[], limits=LIMITS, held={0: 108.0})
    assert plan(facts).actions == [Start(1)]
    assert plan(facts).wake == 108.0


def test_a_deployment_does_not_wait_for_slots_in_which_the_release_before_kept_crashing() -> None:
    facts = Facts(now=100.0, target="new", desired=1, replicas=[], deploying=True, held={0: 160.0})
    assert plan(facts).actions == [Start(0)]


def test_fewer_desired_replicas_scale_down_and_more_scale_up() -> None:
    world = World.serving(3)
    world.desired = 1
    world.run()
    assert world.served() == 1 == len(world.replicas)
    assert {action.reason for action in world.log if isinstance(action, Retire)} == {"scaled down"}
    world.desired = 4
    world.run()
    assert world.served() == 4


def test_a_pull_that_is_due_comes_first_and_meanwhile_what_runs_is_kept_running() -> None:
    facts = Facts(now=0.0, target="old", desired=1, replicas=[], is_pull_due=True)
    assert plan(facts).actions == [Pull()]
    assert plan(msgspec.structs.replace(facts, is_pull_due=False)).actions == [Start(0)]


def test_a_replica_that_does_not_die_of_sigkill_does_not_hold_up_the_deployment() -> None:
    world = World.serving(1)
    world.deploy("new")
    immortal = world.replicas[0]
    world.die = lambda replica: None if replica is immortal else World.die(world, replica)  # type: ignore[method-assign]
    world.run()
    assert ended(world) == ["Succeed"]


@st.composite
def worlds(draw: st.DrawFn) -> World:
    strategy = draw(st.sampled_from(["rolling", "blue-green"]))
    world = World.serving(draw(st.integers(1, 4)), strategy)  # type: ignore[arg-type] # drawn from the literals
    if draw(st.booleans()):
        world.bad.add("new")
    world.deploy("new")
    return world


ENVIRONMENT = st.sampled_from(["behave", "behave", "pass", "long", "sick", "die", "ignore", "busy"])


@settings(max_examples=300, deadline=None)
@given(worlds(), st.lists(st.tuples(ENVIRONMENT, st.integers(0, 7)), max_size=60))
def test_whatever_happens_no_step_costs_capacity_and_all_ends_well(world: World, story: list[tuple[str, int]]) -> None:
    """World asserts at each step that what the rollout takes from the route was to spare."""
    for event, number in story:
        happen(world, event, number)
        world.settle()
        assert sum(not replica.leaving for replica in world.replicas) <= world.desired * 2 + 1
    world.run()
    assert ended(world) in (["Succeed"], ["Fail", "RollbackDone"])
    winner = "new" if "Succeed" in ended(world) else "old"
    assert world.served(winner) == world.desired == len(world.replicas)
    assert world.fewest >= 0
    assert not ("new" in world.bad and winner == "new")


def happen(world: World, event: str, number: int) -> None:
    replica = world.replicas[number % len(world.replicas)] if world.replicas else None
    match event, replica:
        case "behave", _:
            world.behave()
        case "pass", _:
            world.now += 1
        case "long", _:
            world.now += 4 + number
        case "sick", Replica():
            world.health(replica, False)
        case "die", Replica():
            world.die(replica)
        case "ignore", Replica():
            replica.followed = replica.route == "active" and replica.followed
        case "busy", Replica():
            replica.connections = 3


@settings(max_examples=200, deadline=None)
@given(worlds(), st.lists(st.sampled_from(["behave", "pass", "long", "busy"]), max_size=60), st.integers(0, 7))
def test_while_the_old_replicas_are_well_a_deployment_never_serves_with_fewer(
    world: World, story: list[str], number: int
) -> None:
    for event in story:
        happen(world, event, number)
        world.settle()
    world.run()
    assert world.fewest == world.desired


def test_the_drain_signal_is_sent_once_when_no_new_connections_come() -> None:
    old = Replica(id="old", release="old", slot=0, since=0, running=True, route="draining", leaving="replaced")
    old.drain_signal, old.connections = "SIGTERM", 1
    facts = Facts(now=1.0, target="", desired=1, replicas=[old], limits=LIMITS)
    assert plan(facts).actions == []
    old.followed = True
    assert plan(facts).actions == [Signal("old")]
    change(old, Signal("old"), 1.0)
    assert plan(facts) == Plan([], LIMITS.drain)
    assert plan(msgspec.structs.replace(facts, now=LIMITS.drain)).actions == [Unroute("old")]
    old.connections = 0
    assert plan(facts).actions == [Unroute("old")]


@pytest.mark.parametrize("signalled", [True, False])
def test_a_replica_that_got_its_drain_signal_is_not_kept(signalled: bool) -> None:
    old = Replica(id="a", release="old", slot=0, since=0, running=True, ready=True, healthy=True, leaving="replaced")
    old.route, old.followed, old.connections, old.drain_signal, old.signalled = (
        "draining",
        True,
        1,
        "SIGTERM",
        signalled,
    )
    facts = Facts(now=1.0, target="old", desired=1, replicas=[old], limits=LIMITS)
    assert plan(facts).actions == ([Start(0)] if signalled else [Unretire("a")])


def test_a_replica_that_may_come_back_gets_no_drain_signal() -> None:
    ill = Replica(id="a", release="old", slot=0, since=0, running=True, ready=True, unhealthy_since=0.5)
    ill.route, ill.followed, ill.connections, ill.drain_signal = "draining", True, 1, "SIGTERM"
    facts = Facts(now=1.0, target="old", desired=1, replicas=[ill], limits=LIMITS)
    assert plan(facts).actions == []
