"""The status page in a real browser, in front of a real server."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from services.demo import releases
from tests.e2e.browser import Browser
from tests.e2e.screenshot import LIGHT, PHONE
from tests.support.harness import Server, Traffic, wait_for

WIDTHS = (320, 390, 768, 1180)
FITS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


def opened(browser: Browser, server: Server) -> str:
    """Open the page of a server; its address."""
    url = f"http://127.0.0.1:{server.admin_port}/"
    browser.open(url)
    browser.wait_for("document.querySelector('#link').textContent == 'Live'")
    return url


def shows(text: str, selector: str = "#apps") -> str:
    return f"document.querySelector('{selector}').innerText.includes('{text}')"


def test_the_page_shows_a_deployment_as_it_happens(server: Callable[..., Server], browser: Browser) -> None:
    one = server("--replicas", "2")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    browser.show(1180, 900, "light")
    url = opened(browser, one)
    browser.wait_for(shows(releases.FIRST))
    assert browser.value("document.title") == f"web {releases.FIRST} · Longshore"
    browser.wait_for("document.querySelectorAll('table[aria-label=Replicas] tbody tr').length == 2")
    browser.wait_for(shows(f":{one.port}"))
    browser.wait_for("document.querySelector('#services').textContent.includes('gateway saves snapshots')")
    browser.value("window.untouched = true")
    with Traffic(one.port):
        browser.wait_for("known.status.proxies[0].traffic.connections_per_second > 0")
        browser.wait_for("document.querySelector('.spark polyline') !== null")
        releases.publish(one.registry, releases.SECOND)
        browser.wait_for(f"document.title.includes('{releases.SECOND}')")
        browser.wait_for(shows(f"{releases.SECOND} after {releases.FIRST}", "#deployments"))
        browser.wait_for("document.querySelector('#events [data-kind=DeploymentSucceeded]') !== null")
        browser.wait_for("document.querySelector('#news').textContent.includes('1.1.0')")
    assert browser.value("window.untouched"), "the page was loaded again"
    assert browser.problems == []
    assert {address.split("?")[0] for address in browser.asked} == {url, f"{url}api/stream"}
    check_widths_and_schemes(browser)


def check_widths_and_schemes(browser: Browser) -> None:
    """Nothing is wider than the window, and the colours follow the scheme with enough contrast."""
    grounds = set()
    for scheme in ("light", "dark"):
        for width in WIDTHS:
            browser.show(width, 800, scheme)
            browser.wait_for(f"document.documentElement.clientWidth == {width}")
            assert browser.value(FITS), f"{width} px"
        grounds.add(browser.value("getComputedStyle(document.body).backgroundColor"))
        for name in ("ink", "soft", "accent", "good", "warn", "bad"):
            for ground in ("ground", "surface"):
                contrast = browser.value(f"({CONTRAST})('--{name}', '--{ground}')")
                assert contrast >= 4.5, f"{scheme}: {name} on {ground} has a contrast of {contrast:.1f}"
    assert len(grounds) == 2
    headings = browser.value("[...document.querySelectorAll('h1, h2, h3')].map(one => +one.tagName[1])")
    assert headings.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(headings))


FORBIDDEN = """new Promise((done) => {
  document.body.insertAdjacentHTML('beforeend', '<img id=foreign src=x onerror=window.evil=1>');
  document.querySelector('#foreign').addEventListener('error', () => done());
})"""

CONTRAST = """(one, other) => {
  const light = (name) => {
    const probe = document.body.appendChild(document.createElement('i'));
    probe.style.color = `var(${name})`;
    const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
      .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    probe.remove();
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}"""


def test_a_lost_connection_is_told_and_mends_itself(server: Callable[..., Server], browser: Browser) -> None:
    one = server()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    opened(browser, one)
    os.kill(one.children()["gateway"], signal.SIGKILL)
    browser.wait_for("document.querySelector('#link').textContent.startsWith('Connection lost')")
    assert browser.value(shows(releases.FIRST)), "what was known stays"
    browser.wait_for("document.querySelector('#link').textContent == 'Live'")


def test_text_from_the_log_is_never_markup(server: Callable[..., Server], browser: Browser) -> None:
    one = server()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    opened(browser, one)
    evil = "<img src=x onerror=window.evil=1>"
    shown, is_text = browser.value(
        f"known.status.apps[0].release = known.status.apps[0].name = '{evil}'; draw('status');"
        "[document.querySelector('#apps').innerText, document.querySelector('#apps img') === null]"
    )
    assert evil in shown
    assert is_text
    browser.value(FORBIDDEN)
    assert browser.value("window.evil === undefined"), "the policy forbids handlers that are not the page's own"
    assert any("Content Security Policy" in problem for problem in browser.problems)


def test_where_reading_needs_a_token_the_page_asks_for_it(server: Callable[..., Server], browser: Browser) -> None:
    one = server("--admin-address", "0.0.0.0")
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    browser.open(f"http://127.0.0.1:{one.admin_port}/")
    browser.wait_for("!document.querySelector('#ask').hidden")
    answer = "document.querySelector('#token').value = '{}'; document.querySelector('#ask').requestSubmit()"
    browser.value(answer.format("wrong"))
    browser.wait_for(shows("was refused", "#ask"))
    browser.value(answer.format((Path(one.state) / "admin-token").read_text().strip()))
    browser.wait_for(shows(releases.FIRST))
    assert browser.value("document.querySelector('#ask').hidden && document.cookie == ''")


def test_before_anything_is_delivered_the_page_says_how_to_begin(
    server: Callable[..., Server], browser: Browser
) -> None:
    one = server()
    wait_for("the first release serves", lambda: one.serves(releases.FIRST))
    opened(browser, one)
    apps, events = browser.value(
        "known.status.apps = []; known.events.events = []; draw('status'); draw('events');"
        "['#apps', '#events'].map((one) => document.querySelector(one).innerText)"
    )
    assert "longshore server --registry" in apps
    assert "Nothing has happened yet" in events


@pytest.mark.parametrize("image", [LIGHT, PHONE])
def test_the_documents_have_a_picture_of_it(image: Path) -> None:
    assert image.read_bytes().startswith(b"\x89PNG")
    assert image.stat().st_size < 250_000
    assert image.name in (image.parents[1] / "admin-api.md").read_text()
