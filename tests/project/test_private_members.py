"""Each private member of a library that Longshore uses: a version without it fails here, with the name of its user.

The packages have upper bounds in pyproject.toml for the same reason.
"""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.aio.transport import TcpTransport
from nats.js.client import JetStreamContext
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
BOUNDED = ("nats-py", "typer", "opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-grpc")
METHODS = (  # overridden or called by services.common.bus.nats_client
    "_attempt_reconnect",
    "_connect_command",
    "_connect_to_server",
    "_flush_pending",
    "_process_err",
    "_process_op_err",
)
ATTRIBUTES = (  # read or set there
    "_current_server",
    "_error_cb",
    "_flush_queue",
    "_pending",
    "_pending_data_size",
    "_public_nkey",
    "_server_pool",
    "_transport",
)


@pytest.mark.parametrize("name", METHODS)
def test_the_nats_client_has_the_method(name: str) -> None:
    assert inspect.isfunction(getattr(Client, name))


@pytest.mark.parametrize("name", ATTRIBUTES)
async def test_the_nats_client_has_the_attribute(name: str) -> None:
    assert hasattr(Client(), name)


def test_the_nats_transport_has_its_writers() -> None:
    transport = TcpTransport()  # type: ignore[no-untyped-call]  # the library has no types
    assert hasattr(transport, "_io_writer")
    assert hasattr(transport, "_bare_io_writer")


async def test_a_nats_subscription_has_its_queue() -> None:
    """`services.common.jetstream.consumer` takes what has arrived already."""
    queue = Subscription(Client(), future=asyncio.get_running_loop().create_future())._pending_queue
    assert isinstance(queue, asyncio.Queue)


async def test_the_jetstream_context_has_the_futures_of_its_messages() -> None:
    """`services.common.delivery.outbox` cancels those of messages that were never sent."""
    futures: object = JetStreamContext(Client())._publish_async_futures
    assert isinstance(futures, dict)


def test_typer_brings_the_errors_of_click() -> None:
    """`services.cli.main` prints them in one line."""
    errors = import_module("typer._click.exceptions")
    assert issubclass(errors.NoArgsIsHelpError, errors.ClickException)


def test_the_exporter_of_metrics_has_its_temporality() -> None:
    """`services.metrics_gateway.export.metrics_pusher` makes the deltas itself."""
    exporter = import_module("opentelemetry.exporter.otlp.proto.grpc.metric_exporter").OTLPMetricExporter(insecure=True)
    try:
        assert isinstance(exporter._preferred_temporality, dict)
    finally:
        exporter.shutdown()


@pytest.mark.parametrize("name", BOUNDED)
def test_a_package_whose_private_members_are_used_has_an_upper_bound(name: str) -> None:
    lines = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    (requirement,) = [one for one in map(Requirement, lines) if one.name == name]
    assert any(specifier.operator == "<" for specifier in requirement.specifier)
