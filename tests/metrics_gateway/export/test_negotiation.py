"""Which form of the metrics a client gets, by the rules of HTTP."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.metrics_gateway.export.negotiation import accepts_gzip, form
from services.metrics_gateway.export.prometheus import Exporter
from services.metrics_gateway.instruments.instrument import Measurement
from services.metrics_gateway.state.state import State

PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", "text"),
        ("*/*", "text"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text"),
        ("application/*", "text"),
        ("application/json", "text"),
        ("text/plain", "text"),
        (PROMETHEUS_3, "openmetrics"),
        ("application/openmetrics-text", "openmetrics"),
        ("APPLICATION/OpenMetrics-Text; Version=1.0.0", "openmetrics"),
        ("application/openmetrics-text;version=2.0.0", "openmetrics"),
        ("application/openmetrics-text;q=0, text/plain", "text"),
        ("text/plain, application/openmetrics-text;version=1.0.0;q=0", "text"),
        ("application/openmetrics-text;q=0.000, */*", "text"),
        ("application/openmetrics-text;q=0.3, text/plain;q=0.5", "text"),
        ("text/plain;q=0.5, application/openmetrics-text;q=0.5", "openmetrics"),
        ("application/openmetrics-text;q=0.5, */*;q=0.1", "openmetrics"),
        ("application/openmetrics-text;q=0.1, text/*;q=0.2", "text"),
        ("application/openmetrics-text;q=much, text/plain;q=0.1", "text"),
        ('text/plain;x="a,application/openmetrics-text"', "text"),
        ('text/plain;x="\\"";q=0.1,application/openmetrics-text;q=0.2', "openmetrics"),
    ],
)
def test_the_form_is_the_one_that_the_client_likes_better(accept: str, expected: str) -> None:
    assert form(accept) == expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", False),
        ("gzip", True),
        ("GZip;q=1.0", True),
        ("deflate, gzip;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0, *", False),
        ("*", True),
        ("*;q=0", False),
        ("identity", False),
        ("br, x-gzip", True),
        ("gzippy", False),
        ("gzip;q=2", False),
    ],
)
def test_gzip_is_sent_to_who_accepts_it(header: str, expected: bool) -> None:
    assert accepts_gzip(header) == expected


@given(st.text(alphabet='aq=;, "\\/*01.'), st.text())
def test_no_header_raises(accept: str, encoding: str) -> None:
    assert form(accept) in ("text", "openmetrics")
    accepts_gzip(encoding)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("application/openmetrics-text;version=2.0.0", OPENMETRICS),
        ("application/openmetrics-text;version=0.0.1", OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        ("text/plain;version=1.0.0;escaping=allow-utf-8", TEXT),
        ("", TEXT),
    ],
)
def test_the_answer_is_labelled_with_the_version_that_it_has(accept: str, content_type: str) -> None:
    answer = exporter().expose(accept, "gzip;q=0")
    assert answer.headers["content-type"] == content_type
    assert "content-encoding" not in answer.headers
    assert answer.body.endswith(b"# EOF\n") == (content_type == OPENMETRICS)


def test_the_resource_is_the_first_family() -> None:
    for accept in ("", "application/openmetrics-text"):
        assert exporter().expose(accept, "").body.startswith(b"# HELP target")


def exporter() -> Exporter:
    return Exporter(lambda: Measurement(State(), 1.0, "1.0", True, {}), {"service.name": "longshore"})
