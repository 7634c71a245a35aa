"""What happens to hosts, and the alerts that fire then. An alert that a moment does not name must not fire."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from schemas import events as e
from services.metrics_gateway.instruments.processes import REMEMBERED
from tests.observability.recorded import MiB, Recording

Fired = dict[str, list[tuple[dict[str, str], str]]]
"""By alert, the labels and the summary of each."""

SHOP = {"app": "shop", "host": "web-1"}
PORT = {"app": "shop", "host": "web-1", "proxy_port": "8080"}


class Case(msgspec.Struct, frozen=True):
    """`play` makes the series; `moments`: what fires then, by the minute."""

    play: Callable[[], Recording]
    moments: dict[float, Fired]


def quiet() -> Recording:
    """All is well; in a quiet night one connection of fifty fails."""
    one = Recording("web-1", "web-2")
    _, proxy = one.application("shop", "web-1", 8080)
    one.application("blog", "web-2", 8081)
    one.minutes(10)
    one.connections(proxy, 8080, 49, 1)
    one.minutes(10)
    return one


def nothing_serves() -> Recording:
    one = Recording()
    _, proxy = one.application("shop", "web-1", 8080)
    one.minutes(2)
    one.say(proxy, e.BackendLeft(1.0, 8080, "shop-0"), e.BackendLeft(1.0, 8080, "shop-1"))
    one.minutes(3)
    one.say(proxy, e.BackendJoined(1.0, 8080, "shop-2", ":1"))
    one.minutes(2)
    return one


def stopped() -> Recording:
    """An operator stops an application. Its port stays open."""
    one = Recording()
    deployer, proxy = one.application("shop", "web-1", 8080)
    one.minutes(2)
    one.say(deployer, e.ScaleSet(1.0, 0))
    one.say(proxy, e.BackendLeft(1.0, 8080, "shop-0"), e.BackendLeft(1.0, 8080, "shop-1"))
    one.say(deployer, *(e.ReplicaRetired(1.0, "", f"shop-{n}", reason="stopped") for n in range(2)))
    one.minutes(4)
    return one


def connections_fail() -> Recording:
    one = Recording()
    _, proxy = one.application("shop", "web-1", 8080)
    one.minutes(5, lambda: one.connections(proxy, 8080, 98, 0))
    one.minutes(12, lambda: one.connections(proxy, 8080, 98, 2))
    return one


def backends_are_slow() -> Recording:
    one = Recording()
    _, proxy = one.application("shop", "web-1", 8080)
    one.minutes(5, lambda: one.connections(proxy, 8080, 20))

    def slow() -> None:
        one.connections(proxy, 8080, 18)
        one.connections(proxy, 8080, 2, latency=0.4)

    one.minutes(17, slow)
    return one


def replicas_die() -> Recording:
    """Shop's is not replaced; blog lacks one, too, but is being deployed."""
    one = Recording()
    shop, _ = one.application("shop", "web-1", 8080)
    blog, _ = one.application("blog", "web-1", 8081)
    one.minutes(2)
    one.say(shop, e.ReplicaExited(1.0, "shop-0", "1.0", 1))
    start = e.DeploymentStarted(
        1.0, "d2", "2.0", previous="1.0", by="registry", strategy="rolling", replicas=2, trace="0" * 32
    )
    one.say(blog, e.ReplicaExited(1.0, "blog-0", "1.0", 1), start, app="blog")
    one.minutes(8)
    return one


def deployments_fail() -> Recording:
    """Of shop; of blog, the registry cannot be read."""
    one = Recording()
    shop, _ = one.application("shop", "web-1", 8080)
    blog, _ = one.application("blog", "web-1", 8081)
    one.minutes(5)
    start = e.DeploymentStarted(
        1.0, "d2", "2.0", previous="1.0", by="registry", strategy="rolling", replicas=2, trace="0" * 32
    )
    one.say(shop, start, e.DeploymentFailed(1.0, "d2", "2.0", phase="check", reason="exited with 1", duration=3.0))
    for streak in range(1, 6):
        one.say(blog, e.RegistryFailed(1.0, "dir:///srv", "away", streak), app="blog")
    one.minutes(10)
    one.say(blog, e.RegistryRecovered(1.0, "dir:///srv", 5), app="blog")
    one.minutes(15)
    return one


def counters_go_back() -> Recording:
    """A newer gateway folds the log again, of which the beginning has left: sums are lower, and not zero."""
    one = Recording()
    shop, proxy = one.application("shop", "web-1", 8080)
    for number in range(4):
        name = f"d{number}"
        start = e.DeploymentStarted(
            1.0, name, "2.0", previous="1.0", by="registry", strategy="rolling", replicas=2, trace="0" * 32
        )
        one.say(shop, start, e.DeploymentFailed(1.0, name, "2.0", phase="check", reason="exited with 1", duration=3.0))
        one.connections(proxy, 8080, 50, 50)
        if number == 1:
            one.minutes(1)
            beginning = one.log.state.position
            one.serve(shop, proxy, "shop", 8080)
    one.minutes(20)
    one.fold_again(beginning)
    one.minutes(10)
    return one


def replica_restarts() -> Recording:
    """The replica of slot 0 dies again and again, that of slot 1 once."""
    one = Recording()
    shop, _ = one.application("shop", "web-1", 8080)
    one.minutes(5)
    one.say(
        shop,
        e.ReplicaExited(1.0, "shop-1", "1.0", 1),
        e.ReplicaStarted(1.0, "", "new", release="1.0", address=":1", pid=7, slot=1, duration=0.1),
    )
    last = "shop-0"
    for number in range(6):
        name = f"again-{number}"
        started = e.ReplicaStarted(1.0, "", name, release="1.0", address=":1", pid=7, slot=0, duration=0.1)
        one.say(shop, e.ReplicaExited(1.0, last, "1.0", 1), started)
        one.minutes(1)
        last = name
    return one


def bus_is_slow() -> Recording:
    one = Recording()
    one.application("shop", "web-1", 8080)
    one.minutes(3)
    one.spooled = 32 * MiB
    one.minutes(8)
    one.spooled = 0
    one.minutes(1)
    return one


def bus_is_away() -> Recording:
    """Nobody can write, and what was told of the spools stays as it was: empty."""
    one = Recording("web-1", "web-2")
    one.application("shop", "web-1", 8080)
    one.minutes(5)
    one.is_bus_away = True
    one.minutes(20)
    one.is_bus_away = False
    one.minutes(2)
    return one


def gateway_does_not_catch_up() -> Recording:
    one = Recording()
    one.application("shop", "web-1", 8080)
    one.minutes(2)
    one.pending = 20_000
    one.minutes(8)
    return one


def host_is_cut_off() -> Recording:
    """Of two hosts on a bus one falls silent, with its services and its gateway still running."""
    one = Recording("web-1")
    one.application("blog", "web-1", 8081)
    deployer, proxy = one.application("shop", "web-2", 8080)
    one.minutes(5)
    one.end(deployer, proxy)
    one.minutes(20)
    return one


def host_is_gone_for_good() -> Recording:
    one = Recording("web-1")
    one.application("blog", "web-1", 8081)
    deployer, proxy = one.application("shop", "web-2", 8080)
    one.minutes(5)
    one.end(deployer, proxy)
    one.minutes(5)
    one.unseen(REMEMBERED)
    one.minutes(10)
    return one


def application_is_removed() -> Recording:
    one = Recording()
    one.application("blog", "web-1", 8081)
    deployer, proxy = one.application("shop", "web-1", 8080)
    one.minutes(5)
    one.say(proxy, e.ListenerClosed(1.0, 8080), e.BackendLeft(1.0, 8080, "shop-0"))
    one.say(proxy, e.ServiceStopped(1.0, "stopped"), app="_")
    one.say(deployer, e.ServiceStopped(1.0, "stopped"), app="_")
    one.end(deployer, proxy)
    remover = one.start("deployer", "web-1", "", "removal")
    one.say(remover, e.ApplicationRemoved(1.0, "its configuration"))
    one.end(remover)
    one.minutes(30)
    return one


def service_dies() -> Recording:
    """And is back after some minutes."""
    one = Recording()
    one.application("shop", "web-1", 8080)
    health = one.start("health", "web-1", "health")
    one.minutes(3)
    one.end(health)
    one.minutes(5)
    one.start("health", "web-1", "health", "second life")
    one.minutes(3)
    return one


def gateway_dies() -> Recording:
    """One of two, each with a bus of its own: the other knows nothing of it."""
    one = Recording("web-1", "web-2")
    one.application("shop", "web-1", 8080)
    one.minutes(5)
    one.dead = {"web-2"}
    one.minutes(20)
    return one


def all_gateways_die() -> Recording:
    one = Recording("web-1")
    one.application("shop", "web-1", 8080)
    one.minutes(5)
    one.dead = {"web-1"}
    one.minutes(10)
    return one


def silent(service: str, host: str, **more: str) -> tuple[dict[str, str], str]:
    labels = {"service": service, "host": host, **more}
    return labels, f"{service} on {host} has not published for a minute"


def gone(host: str) -> Fired:
    labels = {"job": "longshore", "instance": f"{host}:17539"}
    return {"LongshoreGatewayMissing": [(labels, f"No metrics come from the gateway {host}:17539")]}


def log_stopped(host: str, duration: str) -> tuple[dict[str, str], str]:
    labels = {"job": "longshore", "instance": f"{host}:17539"}
    return labels, f"Nothing reached the event log for {duration}, says {host}:17539"


CUT_OFF: Fired = {"LongshoreUnitSilent": [silent("deployer", "web-2", unit="deployer:shop"), silent("proxy", "web-2")]}
CASES = [
    Case(quiet, {5: {}, 12: {}, 18: {}}),
    Case(
        nothing_serves,
        {2.25: {}, 4: {"LongshoreNoBackend": [(PORT, "Nothing serves shop on port 8080 of web-1")]}, 6: {}},
    ),
    Case(stopped, {1: {}, 5: {}}),
    Case(
        connections_fail,
        {5: {}, 16: {"LongshoreErrorRatio": [(PORT, "2% of the connections to shop on web-1 fail")]}},
    ),
    Case(
        backends_are_slow,
        {
            5: {},
            21: {
                "LongshoreConnectLatency": [
                    (PORT, "One connection in a hundred to shop on web-1 takes over 475ms to reach a backend")
                ]
            },
        },
    ),
    Case(
        replicas_die,
        {
            6: {},
            9: {"LongshoreReplicasMissing": [(SHOP, "shop on web-1 runs 1 replicas, fewer than it should")]},
        },
    ),
    Case(
        deployments_fail,
        {
            4: {},
            8: {
                "LongshoreDeploymentFailing": [
                    (SHOP, "Deployments of shop on web-1 fail"),
                    (SHOP | {"app": "blog"}, "Deployments of blog on web-1 fail"),
                ]
            },
            29: {},
        },
    ),
    Case(
        replica_restarts,
        {
            5: {},
            10.5: {
                "LongshoreRestartLoop": [
                    (SHOP | {"replica": "0"}, "A replica of shop on web-1 restarted 6 times in 15 minutes")
                ]
            },
        },
    ),
    Case(
        bus_is_slow,
        {
            3: {},
            10: {
                "LongshoreSpoolFilling": [
                    ({"service": one, "host": "web-1"}, f"32MiB of events of {one} on web-1 wait for the bus")
                    for one in ("gateway", "deployer", "proxy")
                ]
            },
            11.75: {},
        },
    ),
    Case(
        bus_is_away,
        {
            5: {},
            10: {"LongshoreLogStopped": [log_stopped("web-1", "5m 15s"), log_stopped("web-2", "5m 15s")]},
            26: {},
        },
    ),
    Case(
        gateway_does_not_catch_up,
        {
            2: {},
            9: {
                "LongshoreGatewayBehind": [
                    (
                        {"job": "longshore", "instance": "web-1:17539"},
                        "The numbers of web-1:17539 are behind the event log",
                    )
                ]
            },
        },
    ),
    Case(host_is_cut_off, {5: {}, 10: CUT_OFF, 24: CUT_OFF}),
    Case(host_is_gone_for_good, {9: CUT_OFF, 19: {}}),
    Case(counters_go_back, {20: {}, 21.5: {}, 23: {}, 27: {}}),
    Case(application_is_removed, {4: {}, 8: {}, 34: {}}),
    Case(service_dies, {3: {}, 7.5: {"LongshoreUnitSilent": [silent("health", "web-1")]}, 10: {}}),
    Case(gateway_dies, {5: {}, 9: gone("web-2"), 24: gone("web-2")}),
    Case(
        all_gateways_die,
        {5: {}, 9: gone("web-1") | {"LongshoreScrapeMissing": [({}, "No metrics come from Longshore")]}},
    ),
]
