"""The docker SDK without its own reading of logins in Docker's configuration."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import docker


def connect(url: str, timeout: float, security: Mapping[str, Any]) -> docker.APIClient:
    """Return a client of the engine at an address.

    The SDK reads the logins of config.json whenever it connects, and fails where Docker does not: at a null, or at an
    entry of another host that is broken. A pull is given its login by us, so the SDK gets none. What else is in the
    file, proxies for containers above all, it still reads.
    """
    import docker
    import docker.auth
    import docker.utils.config

    if docker.auth.load_config is not _no_logins:
        original = docker.utils.config.load_general_config
        docker.auth.load_config = _no_logins
        docker.utils.config.load_general_config = lambda *arguments: _present(original(*arguments))
    return docker.APIClient(url, version="auto", timeout=timeout, **security)


def _no_logins(*_: object, **__: object) -> Any:
    import docker.auth

    return docker.auth.AuthConfig({})


def _present(found: object) -> dict[str, Any]:
    """Return the objects of a configuration without their nulls, which are as absent for Docker."""
    if not isinstance(found, Mapping):
        return {}
    objects = {name: value for name, value in found.items() if isinstance(value, Mapping)}
    return {name: {key: one for key, one in value.items() if one is not None} for name, value in objects.items()}
