"""Subjects of events, with the host behind them and, as in older logs, without."""

from __future__ import annotations

import pytest

from schemas import subjects


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("longshore.events.proxy.web", True),
        ("longshore.events.proxy.web.web-1_example", True),
        ("longshore.events.proxy.web.web-2", False),
        ("longshore.events.deployer.web", False),
        ("longshore.events.deployer.web.web-1_example", False),
        ("longshore.events.proxy.blog.web-1_example", False),
        ("longshore.events.proxy.web.web-1_example.x", False),
        ("longshore.events.proxy", False),
        ("", False),
    ],
)
def test_an_envelope_fits_the_subject_that_its_sender_may_publish_on(subject: str, expected: bool) -> None:
    assert subjects.fits(subject, "proxy", "web-1.example", "web") is expected


def test_what_a_host_publishes_is_found_by_the_filters_and_fits() -> None:
    subject = subjects.from_host(subjects.events("proxy", "web"), "web-1.example")
    assert subject == "longshore.events.proxy.web.web-1_example"
    assert subjects.fits(subject, "proxy", "web-1.example", "web")
    assert subjects.filters("longshore.events.proxy.web") == [
        "longshore.events.proxy.web",
        "longshore.events.proxy.web.*",
    ]
    assert subjects.filters(subjects.ALL_EVENTS) == [subjects.ALL_EVENTS]
