"""`python -m tests.e2e.screenshot` makes the pictures in docs/images: the status page of a server with some history."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from services.demo import releases
from tests.e2e.browser import Browser
from tests.support.harness import Server, Traffic, wait_for

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LIGHT, PHONE = IMAGES / "status-page.png", IMAGES / "status-page-phone.png"
SAMPLES = 40


def main() -> None:
    """Roll out a release and a broken one under traffic, and take the pictures while connections go on."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory:
        server = Server(Path(directory), "--replicas", "3")
        releases.publish(server.registry, releases.FIRST)
        server.start()
        try:
            wait_for("the first release serves", lambda: server.serves(releases.FIRST))
            with Traffic(server.port, threads=2):
                _deploy(server)
                _take(f"http://127.0.0.1:{server.admin_port}/")
        finally:
            server.stop()
            server.end_replicas()


def _deploy(server: Server) -> None:
    releases.publish(server.registry, releases.SECOND)
    wait_for("the second release serves", lambda: server.serves(releases.SECOND), 120)
    releases.publish(server.registry, releases.BROKEN)
    wait_for("the broken one is in quarantine", lambda: server.status().get("quarantined"), 120)
    wait_for("the second release serves", lambda: server.serves(releases.SECOND), 120)


def _take(url: str) -> None:
    with Browser() as browser:
        browser.show(1180, 860, "light")
        browser.open(url)
        browser.wait_for(f"known.status?.proxies[0]?.traffic.history.length >= {SAMPLES}", 180)
        browser.screenshot(LIGHT)
        browser.show(390, 1300, "dark")
        browser.wait_for("document.documentElement.clientWidth == 390")
        browser.screenshot(PHONE)
    for image in (LIGHT, PHONE):
        print(f"{os.path.relpath(image)}: {image.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
