"""Addresses of backends, as people read them."""

from __future__ import annotations

import pytest

from schemas.routing import authority


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", "127.0.0.1:8080"), ("web.example", "web.example:8080"), ("::1", "[::1]:8080")],
)
def test_an_ipv6_address_stands_in_brackets_before_its_port(host: str, expected: str) -> None:
    assert authority(host, 8080) == expected
