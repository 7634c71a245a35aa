"""The application: its routes and their common settings."""

from __future__ import annotations

from litestar import Litestar
from litestar.datastructures import State
from litestar.di import Provide
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from services.common.version import VERSION
from services.metrics_gateway.api import commands, metrics_routes, page, problem, queries, stream_routes
from services.metrics_gateway.api.access import guard
from services.metrics_gateway.api.dependencies import Gateway

MOST_BODY = 64 << 10
"""Bytes of a request body. A command has a few hundred."""


def create(gateway: Gateway) -> Litestar:
    """Return the application of a gateway."""
    app = Litestar(
        [*page.HANDLERS, *queries.HANDLERS, *stream_routes.HANDLERS, *commands.HANDLERS, *metrics_routes.HANDLERS],
        state=State({"gateway": gateway}),
        dependencies={"gateway": Provide(lambda: gateway, sync_to_thread=False)},
        guards=[guard],
        opt={"access": "read"},
        exception_handlers={HTTPException: problem.answer, Exception: problem.unexpected},
        response_headers=problem.HEADERS,
        request_max_body_size=MOST_BODY,
        openapi_config=_description(),
        logging_config=None,
    )
    _forbid_unknown_fields(app)
    return app


def _description() -> OpenAPIConfig:
    """Return the OpenAPI settings: /schema as JSON only, as the usual viewers load scripts from other sites."""
    scheme = SecurityScheme(type="http", scheme="bearer", description="The token in the admin token file.")
    return OpenAPIConfig(
        title="Longshore admin API",
        version=VERSION,
        path="/schema",
        render_plugins=[JsonRenderPlugin(path=["/", "/openapi.json"])],
        components=Components(security_schemes={"admin": scheme}),
        use_handler_docstrings=True,
        operation_id_creator=lambda handler, _method, _path: handler.handler_name,
    )


def _forbid_unknown_fields(app: Litestar) -> None:
    """Declare in the schema that commands refuse unknown fields."""
    schemas = app.openapi_schema.components.schemas or {}
    for request in commands.REQUESTS:
        schemas[request.__name__].additional_properties = False
