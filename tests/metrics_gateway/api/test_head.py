"""HEAD, as load balancers and uptime monitors send it."""

from __future__ import annotations

import httpx
import pytest

from tests.support.gateway_process import Launch


async def test_head_answers_as_get_does_without_the_body(client: httpx.AsyncClient) -> None:
    described = (await client.get("/schema")).json()["paths"]
    for path in [*(path for path, methods in described.items() if "get" in methods), "/", "/schema", "/nowhere"]:
        query = "?follow=false" if path.endswith("stream") else ""
        got, head = await client.get(path + query), await client.head(path + query)
        assert head.status_code == got.status_code, path
        assert head.content == b""
        assert head.headers["content-type"] == got.headers["content-type"], path


@pytest.mark.parametrize("path", ["/api/stream", "/api/events/stream?start=1"])
async def test_head_of_a_stream_ends(client: httpx.AsyncClient, path: str) -> None:
    for _ in range(100):  # more than there may be streams
        head = await client.head(path)
        assert (head.status_code, head.content) == (200, b"")


async def test_methods_that_an_address_does_not_have_are_405_and_head_is_among_those_it_has(
    client: httpx.AsyncClient,
) -> None:
    assert (await client.head("/api/deploy")).status_code == 405
    refused = await client.post("/api/status")
    assert refused.status_code == 405
    assert {word.strip() for word in refused.headers["allow"].split(",")} == {"GET", "HEAD", "OPTIONS"}


async def test_head_needs_the_token_that_get_needs(launch: Launch) -> None:
    gateway = launch(metrics_token="secret")
    await gateway.until_ready()
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        assert (await client.head("/metrics")).status_code == 401
        head = await client.head("/metrics", headers={"authorization": "Bearer secret"})
        assert (head.status_code, head.content) == (200, b"")
        assert (await client.head("/api/status", headers={"host": "evil.example"})).status_code == 421
