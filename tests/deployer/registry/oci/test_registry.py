"""Images in a real registry."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.common.errors import RegistryError
from services.deployer import registry
from tests.support.docker_registry import INDEX, PASSWORD, USERNAME, DockerRegistry


def images(server: DockerRegistry, place: str) -> registry.Registry:
    return registry.parse(f"img://{server.host}/{place}")


def write(path: Path, text: str) -> None:
    path.write_text(text)


def push(server: DockerRegistry, *tags: str) -> dict[str, str]:
    return {tag: server.push("team/app", tag, tag) for tag in tags}


async def test_the_highest_stable_version_is_first_and_other_tags_are_no_releases(
    docker_registry: DockerRegistry,
) -> None:
    push(docker_registry, "v1.0.0", "v1.0.1", "v1.10.0", "v1.9.0", "2.0.0", "v2.1.0-rc.1", "latest", "1.0", "main")
    offered = await images(docker_registry, "team/app").offered()
    assert offered == ["2.0.0", "v1.10.0", "v1.9.0", "v1.0.1", "v1.0.0"]
    before = await images(docker_registry, "team/app?pre-release=true").offered()
    assert before[:2] == ["v2.1.0-rc.1", "2.0.0"]
    bounded = await images(docker_registry, "team/app?constraint=>=1.0.1,<1.10").offered()
    assert bounded == ["v1.9.0", "v1.0.1"]


async def test_calendar_versions_are_offered_in_the_order_of_their_dates(docker_registry: DockerRegistry) -> None:
    push(docker_registry, "2024.02.0", "2024.11.3", "2023.12.40", "2024.13.0", "v1.2.3", "2024.11.3-rc.1")
    source = images(docker_registry, "team/app?calver=YYYY.0M.MICRO")
    assert await source.offered() == ["2024.11.3", "2024.02.0", "2023.12.40"]
    assert source.is_newer("2024.11.3", "2024.02.0")
    assert not source.is_newer("2023.12.40", "2024.02.0")


async def test_a_release_is_resolved_to_the_digest_that_is_then_pulled(docker_registry: DockerRegistry) -> None:
    digests = push(docker_registry, "1.0.0", "1.1.0")
    artifact = await images(docker_registry, "team/app").resolve("1.1.0")
    assert artifact.digest == digests["1.1.0"]
    assert artifact.location == f"{docker_registry.host}/team/app@{digests['1.1.0']}"


async def test_an_index_of_several_platforms_is_resolved_to_its_own_digest(docker_registry: DockerRegistry) -> None:
    digest = docker_registry.push("team/app", "1.0.0", "index", media=INDEX)
    assert (await images(docker_registry, "team/app").resolve("1.0.0")).digest == digest


async def test_a_tag_that_is_pushed_again_is_another_release(docker_registry: DockerRegistry) -> None:
    source = images(docker_registry, "team/app:latest")
    first = docker_registry.push("team/app", "latest", "one")
    (old,) = await source.offered()
    assert old == f"latest@{first[:19]}"
    assert await source.offered() == [old]
    second = docker_registry.push("team/app", "latest", "two")
    (new,) = await source.offered()
    assert new == f"latest@{second[:19]}"
    assert source.is_newer(new, old)
    assert not source.is_newer(new, new)
    assert (await source.resolve(new)).digest == second


async def test_what_a_tag_has_left_is_resolved_by_its_whole_digest_only(docker_registry: DockerRegistry) -> None:
    source = images(docker_registry, "team/app:latest")
    first = docker_registry.push("team/app", "latest", "one")
    (old,) = await source.offered()
    docker_registry.push("team/app", "latest", "two")
    with pytest.raises(RegistryError, match=r"latest is latest@sha256:\w{12} now, not latest@sha256:\w{12}; .*whole"):
        await source.resolve(old)
    assert (await source.resolve(f"latest@{first}")).digest == first


@pytest.mark.parametrize("place", ["team/app:latest", "team/app"])
async def test_a_release_that_was_deployed_before_is_the_image_that_it_was(
    docker_registry: DockerRegistry, place: str
) -> None:
    tag = "latest" if "latest" in place else "1.0.0"
    source = images(docker_registry, place)
    docker_registry.push("team/app", tag, "one")
    (release,) = await source.offered()
    before = await source.resolve(release)
    docker_registry.push("team/app", tag, "two")
    assert await source.resolve(release, before) == before
    docker_registry.delete("team/app", before.digest)
    with pytest.raises(RegistryError, match=rf"there is no image {before.digest} \(404\)"):
        await source.resolve(release, before)


@pytest.mark.parametrize(("place", "method"), [("team/app:latest", "HEAD"), ("team/app", "GET")])
async def test_looking_again_and_again_gets_no_manifest(
    docker_registry: DockerRegistry, place: str, method: str
) -> None:
    push(docker_registry, "latest", "1.0.0")
    before = len(docker_registry.requests)
    source = images(docker_registry, place)
    for _ in range(3):
        await source.offered()
    asked = docker_registry.requests[before:]
    assert len(asked) == 3
    assert all(line.startswith(f"{method} /v2/team/app/") for line in asked)
    assert not any(line.startswith("GET /v2/team/app/manifests") for line in asked)


async def test_a_repository_that_is_not_there_is_told(docker_registry: DockerRegistry) -> None:
    with pytest.raises(RegistryError, match=r"127\.0\.0\.1:\d+/none: no such repository \(404\); fix --registry"):
        await images(docker_registry, "none").offered()
    with pytest.raises(RegistryError, match=r"there is no image latest \(404\)"):
        await images(docker_registry, "none:latest").offered()


async def test_a_tag_that_vanishes_between_the_look_and_the_deployment_is_told(docker_registry: DockerRegistry) -> None:
    digests = push(docker_registry, "1.0.0", "1.1.0")
    source = images(docker_registry, "team/app")
    assert (await source.offered())[0] == "1.1.0"
    docker_registry.delete("team/app", digests["1.1.0"])
    with pytest.raises(RegistryError, match=r"team/app: there is no image 1\.1\.0 \(404\)"):
        await source.resolve("1.1.0")


async def test_tags_of_which_none_is_a_version_are_told_with_what_is_there(docker_registry: DockerRegistry) -> None:
    push(docker_registry, "latest", "main", "dev")
    with pytest.raises(RegistryError, match="none of the tags is a semantic version that is wanted: dev, latest, main"):
        await images(docker_registry, "team/app").offered()


async def test_a_name_that_is_no_tag_never_reaches_the_registry(docker_registry: DockerRegistry) -> None:
    with pytest.raises(RegistryError, match="is not a tag"):
        await images(docker_registry, "team/app").resolve("../../_catalog")


async def test_a_locked_registry_opens_to_variables(
    locked_registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = locked_registry.push("team/app", "1.0.0")
    monkeypatch.setenv("LONGSHORE_REGISTRY_USERNAME", USERNAME)
    monkeypatch.setenv("LONGSHORE_REGISTRY_PASSWORD", PASSWORD)
    source = images(locked_registry, "team/app")
    assert await source.offered() == ["1.0.0"]
    assert (await source.resolve("1.0.0")).digest == digest


async def test_a_locked_registry_opens_to_what_docker_login_left(
    locked_registry: DockerRegistry, docker_config: Path
) -> None:
    locked_registry.push("team/app", "1.0.0")
    pair = base64.b64encode(f"{USERNAME}:{PASSWORD}".encode()).decode()
    write(docker_config, json.dumps({"auths": {locked_registry.host: {"auth": pair}}}))
    assert await images(locked_registry, "team/app").offered() == ["1.0.0"]


async def test_a_locked_registry_says_which_credentials_it_wants(locked_registry: DockerRegistry) -> None:
    with pytest.raises(RegistryError) as error:
        await images(locked_registry, "team/app").offered()
    assert str(error.value) == (
        f"{locked_registry.host}/team/app: access denied (401); there are no credentials for it: set "
        f"LONGSHORE_REGISTRY_USERNAME and LONGSHORE_REGISTRY_PASSWORD, or use `docker login {locked_registry.host}`"
    )


async def test_wrong_credentials_are_told_by_their_source_and_not_by_themselves(
    locked_registry: DockerRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LONGSHORE_REGISTRY_USERNAME", USERNAME)
    monkeypatch.setenv("LONGSHORE_REGISTRY_PASSWORD", "wrong-secret")
    with pytest.raises(RegistryError, match="tried the credentials of LONGSHORE_REGISTRY_USERNAME and") as error:
        await images(locked_registry, "team/app").offered()
    assert "wrong-secret" not in repr(error.value)


def test_a_deployer_of_folders_loads_no_http_library(tmp_path: Path) -> None:
    program = (
        "import sys, services.deployer.service; from services.deployer import registry; "
        f"registry.parse('dir://{tmp_path}'); sys.exit('httpx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
