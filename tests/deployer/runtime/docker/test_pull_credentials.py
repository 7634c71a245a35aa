"""Which of Docker's credentials the engine is given for a pull."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from schemas.routing import Artifact
from services.common.errors import ReleaseError
from services.deployer.runtime.docker.runtime import DockerRuntime
from services.deployer.service import replicas
from tests.deployer.runtime.docker.site import DockerSite
from tests.support.docker_registry import PASSWORD, USERNAME, DockerRegistry


@pytest.mark.parametrize("key", ["{host}/team", "{host}/team/private", "http://{host}/v2/", "{host}/other"])
async def test_the_engine_pulls_with_the_entry_for_the_repository(
    site: DockerSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    (tmp_path / "locked").mkdir()
    locked = DockerRegistry(tmp_path / "locked", is_locked=True)
    locked.start()
    right, wrong = ({"auth": base64.b64encode(f"{USERNAME}:{word}".encode()).decode()} for word in (PASSWORD, "wrong"))
    entries = {
        f"{locked.host}/another": wrong,
        "absent.example": None,
        "empty.example": {"auth": None},
        "broken.example": {"auth": "%%%"},
        key.format(host=locked.host): right,
    }
    configuration = {"auths": entries, "credHelpers": None, "proxies": None, "HttpHeaders": None}
    (tmp_path / "config.json").write_text(json.dumps(configuration))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    try:
        digest = locked.push("team/private", "1.0.0")
        settings = site.settings(port=["8080:8080"])
        runtime = DockerRuntime(replicas(settings), settings)
        try:
            # The image that the registry has is none that could be unpacked: how far the pull comes is what counts.
            with pytest.raises(ReleaseError) as failed:
                await runtime.pull(Artifact(digest, f"{locked.host}/team/private@{digest}"), runtime.options())
        finally:
            runtime.close()
    finally:
        locked.stop()
    assert str(failed.value).startswith(f"cannot pull {locked.host}/team/private@")
    assert ("no basic auth credentials" in str(failed.value)) == key.endswith("/other")
    assert "unauthorized" not in str(failed.value)
