"""Where credentials come from: variables, Docker's configuration, its helpers."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from services.common.errors import RegistryError
from services.deployer.registry import parse
from services.deployer.registry.oci import credentials, helper
from services.deployer.registry.oci.credentials import Credentials
from services.deployer.runtime.docker.images import login
from tests.deployer.registry.oci.configuring import HOST, configure, found, pair
from tests.deployer.registry.oci.hostile import Hostile, Request, reply, tags

pytestmark = pytest.mark.process


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def install(programs: Path, name: str, script: str) -> None:
    path = programs / f"docker-credential-{name}"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


async def test_without_any_source_there_are_none() -> None:
    assert await credentials.find(HOST, os.environ) == credentials.Search()


async def test_the_more_particular_source_comes_first(docker_config: Path) -> None:
    ours = {"LONGSHORE_REGISTRY_USERNAME": "ours", "LONGSHORE_REGISTRY_PASSWORD": "a"}
    dockers = {"DOCKER_USERNAME": "dockers", "DOCKER_PASSWORD": "b"}
    github = {"GITHUB_TOKEN": "c"}
    configure(docker_config, auths={"ghcr.io": pair("configured", "d"), HOST: pair("configured", "d")})
    names = [
        await found("ghcr.io", **ours, **github, **dockers),
        await found("ghcr.io", **github, **dockers),
        await found("ghcr.io", **github, GITHUB_ACTOR="me"),
        await found(HOST, **github, **dockers),
        await found("docker.io", **github, **dockers),
        await found("other.example", **github),
    ]
    assert [one.username if one else None for one in names] == ["ours", "token", "me", "configured", "dockers", None]


async def test_the_variables_of_docker_hub_go_to_no_other_registry() -> None:
    hub = {"DOCKER_USERNAME": "ship", "DOCKER_PASSWORD": "sesame"}
    search = await credentials.find("registry.example/team/app", hub)
    assert search.found is None
    assert search.problems == ["DOCKER_USERNAME and DOCKER_PASSWORD are for docker.io alone"]
    assert await found("docker.io/library/nginx", **hub)


async def test_half_a_pair_of_variables_is_told() -> None:
    search = await credentials.find("docker.io/a/b", {"DOCKER_USERNAME": "ship", "LONGSHORE_REGISTRY_PASSWORD": "x"})
    assert search.found is None
    assert search.problems == ["LONGSHORE_REGISTRY_USERNAME is not set", "DOCKER_PASSWORD is not set"]


async def test_an_identity_token_has_a_name_beside_it(docker_config: Path) -> None:
    configure(docker_config, auths={HOST: {**pair("bob", ""), "identitytoken": "refresh"}})
    one = await found()
    assert one
    assert login(one) == {"username": "bob", "password": "", "identitytoken": "refresh"}


async def test_a_helper_is_asked_for_the_host_on_its_standard_input(docker_config: Path, programs: Path) -> None:
    install(programs, "vault", 'test "$1" = get && printf \'{"Username": "ship", "Secret": "for-%s"}\' "$(cat)"')
    configure(docker_config, credHelpers={HOST: "vault"}, credsStore="absent", auths={HOST: {}})
    assert await found() == Credentials("docker-credential-vault", "ship", f"for-{HOST}")
    configure(docker_config, credsStore="vault")
    assert await found("docker.io") == Credentials("docker-credential-vault", "ship", "for-https://index.docker.io/v1/")


async def test_a_helper_that_knows_nothing_leaves_it_to_the_other_sources(docker_config: Path, programs: Path) -> None:
    install(programs, "vault", "echo credentials not found in native keychain; exit 1")
    configure(docker_config, credsStore="vault", auths={HOST: pair("ship", "sesame")})
    search = await credentials.find(HOST, os.environ)
    assert search.found
    assert search.problems == []


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo secret >&2; echo secret; exit 3", "docker-credential-vault failed with exit code 3"),
        ("echo secret", "docker-credential-vault answered something other than credentials"),
        ("sleep 60 & sleep 60", "docker-credential-vault gave no answer within 0.3 s"),
    ],
)
async def test_a_helper_that_fails_is_told_by_its_name(programs: Path, script: str, problem: str) -> None:
    install(programs, "vault", script)
    with pytest.raises(RegistryError) as error:
        await helper.ask("vault", HOST, os.environ, timeout=0.3 if "sleep" in script else 30)
    assert str(error.value) == problem


async def test_a_helper_that_reads_nothing_is_no_problem(programs: Path) -> None:
    install(programs, "vault", 'exec 0<&-; echo \'{"Username": "ship", "Secret": "sesame"}\'')
    assert await helper.ask("vault", HOST, os.environ) == helper.Secret("ship", "sesame")


async def test_a_helper_sees_the_environment_but_none_of_our_secrets(programs: Path) -> None:
    install(
        programs, "vault", 'printf \'{"Username": "%s", "Secret": "%s"}\' "$AWS_PROFILE" "$LONGSHORE_NATS_PASSWORD"'
    )
    seen = await helper.ask("vault", HOST, {**os.environ, "AWS_PROFILE": "ops", "LONGSHORE_NATS_PASSWORD": "secret"})
    assert seen == helper.Secret("ops", "")


async def test_secrets_are_in_no_printed_form() -> None:
    assert "sesame" not in repr(Credentials("here", "ship", "sesame", "sesame"))
    assert "sesame" not in repr(helper.Secret("ship", "sesame"))


async def test_what_is_broken_is_part_of_the_refusal(hostile: Hostile, docker_config: Path) -> None:
    configure(docker_config, credsStore="absent")
    hostile.answer = lambda request: reply(401, WWW_Authenticate="Basic")
    with pytest.raises(RegistryError, match=r"there are no credentials for it: .*; docker-credential-absent cannot be"):
        await parse(f"img://{hostile.host}/app").offered()


async def test_an_identity_token_is_of_no_use_where_a_name_and_a_password_are_wanted(
    hostile: Hostile, docker_config: Path
) -> None:
    configure(docker_config, auths={hostile.host: {"identitytoken": "refresh"}})
    hostile.answer = lambda request: reply(401, WWW_Authenticate="Basic")
    with pytest.raises(RegistryError, match=r"it asks for a name and a password, and .* has an identity token"):
        await parse(f"img://{hostile.host}/app").offered()


@pytest.mark.parametrize("where", ["helper", "configuration"])
async def test_an_identity_token_is_exchanged_for_a_token(
    hostile: Hostile, docker_config: Path, programs: Path, where: str
) -> None:
    def answer(request: Request) -> bytes:
        if request.path == "/token":
            return reply(200, '{"access_token": "fresh"}')
        if request.headers.get("authorization") == "Bearer fresh":
            return tags("1.0.0")
        return reply(401, WWW_Authenticate=f'Bearer realm="{hostile.url}/token",service="s"')

    hostile.answer = answer
    install(programs, "vault", 'echo \'{"Username": "<token>", "Secret": "refresh"}\'')
    kept = {"credsStore": "vault"} if where == "helper" else {"auths": {hostile.host: {"identitytoken": "refresh"}}}
    configure(docker_config, **kept)
    assert await parse(f"img://{hostile.host}/app").offered() == ["1.0.0"]
    (asked,) = [request for request in hostile.requests if request.method == "POST"]
    assert asked.form == {
        "grant_type": "refresh_token",
        "client_id": "longshore",
        "refresh_token": "refresh",
        "service": "s",
        "scope": "repository:app:pull",
    }
