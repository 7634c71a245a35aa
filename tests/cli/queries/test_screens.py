"""The screens of an operator at 80 columns, kept as text: `python -m tests.cli.queries.test_screens` writes them."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.cli.overview import AppView, ReplicaView
from services.cli.queries.history import narrow
from services.cli.queries.report import report
from services.cli.queries.screen import lines
from services.metrics_gateway.state.application import App, Deployment, Pin, Problem, Replica
from services.replay.deployments import Deployment as Past

FOLDER = Path(__file__).with_name("screens")
NOW = time.mktime((2026, 11, 27, 12, 0, 0, 0, 0, -1))
WIDTH = 80
PANIC = "exited with code 3 after 0.1 s: it could not connect to the database at postgres://db.example.org:5432/shop"


def replica(name: str, release: str, health: str = "healthy", routed: str = "active") -> ReplicaView:
    return ReplicaView(name, release, "127.0.0.1:20817", health, routed)


def quiet() -> list[str]:
    view = AppView(
        "web", "1.2.0", "1.1.0", "", False, [8080], {}, [replica(f"web-1_2_0-{n}-a7", "1.2.0") for n in (0, 1)]
    )
    replicas = {f"web-1_2_0-{n}-a7": Replica(f"web-1_2_0-{n}-a7", True, "1.2.0", started=NOW - 7300) for n in (0, 1)}
    done = Deployment("d", "1.2.0", outcome="succeeded", ended=NOW - 7290)
    return lines(report("web-1", view, App(desired=2, deployment=done, replicas=replicas)), NOW, WIDTH)


def troubled() -> list[str]:
    view = AppView(
        "shop",
        "1.2.0",
        "1.1.0",
        "1.2.0",
        True,
        [8080, 8443],
        {"1.3.0": f"check: {PANIC}"},
        [
            replica("shop-1_2_0-0-da7bc3", "1.2.0", "unhealthy: GET /health: 503 Service Unavailable"),
            replica(
                "shop-latest_sha256_0123456789abcdef0123456789abcdef-1-99", "latest@sha256:" + "0123456789abcdef" * 4
            ),
        ],
    )
    failed = Deployment(
        "d", "1.3.0", outcome="failed", failed_phase="check", reason=PANIC, ended=NOW - 260_000, by="registry"
    )
    state = App(
        desired=3,
        deployment=failed,
        pinned=Pin(NOW - 90, "1.2.0", "ann"),
        paused_since=NOW - 4000,
        quarantined_since={"1.3.0": NOW - 260_000},
        registry_error=Problem(NOW - 600, "no answer from https://registry.example.org/v2/shop/tags/list within 10 s"),
        streak=12,
        replicas={"shop-1_2_0-0-da7bc3": Replica("shop-1_2_0-0-da7bc3", True, "1.2.0", started=NOW - 200_000)},
    )
    return lines(report("web-1", view, state), NOW, WIDTH)


def deploying() -> list[str]:
    view = AppView(
        "web",
        "1.2.0",
        "1.1.0",
        "",
        False,
        [8080],
        {},
        [replica("web-1_2_0-1-a7", "1.2.0"), replica("web-1_3_0-0-b8", "1.3.0")],
    )
    state = App(
        desired=2,
        deployment=Deployment("d", "1.3.0", by="ann", started=NOW - 12, replicas=2),
        replicas={
            "web-1_2_0-1-a7": Replica("web-1_2_0-1-a7", True, "1.2.0", started=NOW - 900, phase="serving"),
            "web-1_3_0-0-b8": Replica("web-1_3_0-0-b8", True, "1.3.0", started=NOW - 11, phase="serving"),
            "web-1_3_0-1-c9": Replica("web-1_3_0-1-c9", True, "1.3.0", started=NOW - 2, phase="starting"),
        },
    )
    return lines(report("web-1", view, state), NOW, WIDTH)


PHASES = {"resolve": 0.1, "pull": 12.5, "start": 0.4, "check": 3.2, "route": 0.1, "drain": 30.0, "stop": 1.2}


def history() -> list[str]:
    digest = "sha256:" + "0123456789abcdef" * 4
    return narrow(
        [
            Past(
                "a", "web", "web-1", "1.1.0", "", "registry", NOW - 900, "succeeded", 4.2, digest=digest, phases=PHASES
            ),
            Past("b", "web", "web-2", "1.1.0", "1.0.0", "ann", NOW - 800, "rolled back", 31.0, "check", PANIC, digest),
            Past(
                *("d", "shop", "web-1", "2.0", "2.0", "ann", NOW - 600, "failed", 3.0, "check", "exited with code 3"),
                output="starting\nno such table: users",
                kind="options",
                changed=["env MODE", "memory"],
            ),
            Past("c", "shop", "web-1", "latest@" + digest, "2026.11.26-rc1", "registry", NOW - 5),
            Past("", "shop", "web-2", "2.1", "", "registry", NOW - 4, "waiting", reason="waits for web-1"),
        ],
        WIDTH,
    )


SCREENS: dict[str, Callable[[], list[str]]] = {
    "status-quiet": quiet,
    "status-troubled": troubled,
    "status-deploying": deploying,
    "history": history,
}


def _file(name: str) -> Path:
    return FOLDER / f"{name}.txt"


@pytest.mark.parametrize("name", SCREENS)
def test_a_screen_is_the_one_that_was_kept_and_fits_80_columns(name: str) -> None:
    shown = SCREENS[name]()
    assert "\n".join(shown) + "\n" == _file(name).read_text(), "run: python -m tests.cli.queries.test_screens"
    assert max(map(len, shown)) <= WIDTH


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for each, made in SCREENS.items():
        _file(each).write_text("\n".join(made()) + "\n")
