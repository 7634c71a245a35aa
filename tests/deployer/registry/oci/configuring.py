"""Docker's configuration of a test, and what is found in it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from services.deployer.registry.oci import credentials
from services.deployer.registry.oci.credentials import Credentials

HOST = "registry.example:5000"


def pair(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


async def found(host: str = HOST, **variables: str) -> Credentials | None:
    return (await credentials.find(host, {**os.environ, **variables})).found


def configure(path: Path, **configuration: object) -> None:
    write(path, json.dumps(configuration))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
