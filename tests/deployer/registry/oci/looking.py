"""Looks at a registry of a test, and what comes of them."""

from __future__ import annotations

import pytest

from services.common.errors import RegistryError
from services.deployer.registry import Registry, parse
from tests.deployer.registry.oci.hostile import Hostile

NAME, SECRET = "ship", "open-sesame"


def images(server: Hostile, place: str = "team/app") -> Registry:
    return parse(f"img://{server.host}/{place}")


async def failure(source: Registry) -> RegistryError:
    """The error of a look, which is one line without secrets."""
    with pytest.raises(RegistryError) as error:
        await source.offered()
    assert "\n" not in str(error.value)
    assert SECRET not in repr(error.value)
    return error.value
