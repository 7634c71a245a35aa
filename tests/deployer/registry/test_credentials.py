"""Where credentials come from: variables, Docker's configuration, its helpers."""

from __future__ import annotations

import base64
import json
import os
import stat
from pathlib import Path

import pytest

from services.common.errors import RegistryError
from services.deployer.registry import parse
from services.deployer.registry.oci import credentials, helper
from services.deployer.registry.oci.credentials import Credentials
from tests.deployer.registry.hostile import Hostile, Request, reply, tags

HOST = "registry.example:5000"


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


def pair(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


async def found(host: str = HOST, **variables: str) -> Credentials | None:
    return (await credentials.find(host, {**os.environ, **variables})).found


def configure(path: Path, **configuration: object) -> None:
    write(path, json.dumps(configuration))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


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
        await found("other.example", **github, **dockers),
        await found("other.example", **github),
    ]
    assert [one.username if one else None for one in names] == ["ours", "token", "me", "configured", "dockers", None]


async def test_half_a_pair_of_variables_is_told() -> None:
    search = await credentials.find(HOST, {"DOCKER_USERNAME": "ship", "LONGSHORE_REGISTRY_PASSWORD": "x"})
    assert search.found is None
    assert search.problems == ["LONGSHORE_REGISTRY_USERNAME is not set", "DOCKER_PASSWORD is not set"]


@pytest.mark.parametrize(
    ("host", "key"),
    [
        (HOST, HOST),
        (HOST, f"https://{HOST}"),
        (HOST, f"https://{HOST}/v2/"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
    ],
)
async def test_dockers_configuration_names_hosts_in_several_ways(docker_config: Path, host: str, key: str) -> None:
    configure(docker_config, auths={"other.example": pair("no", "no"), key: pair("ship", "se:same")})
    one = await found(host)
    assert one == Credentials(str(docker_config), "ship", "se:same")
    assert await found("registry.example") is None


async def test_the_configuration_is_in_the_home_folder_without_a_variable(tmp_path: Path) -> None:
    configure(tmp_path / ".docker" / "config.json", auths={HOST: {"username": "ship", "password": "sesame"}})
    search = await credentials.find(HOST, {"HOME": str(tmp_path)})
    assert search.found
    assert (search.found.username, search.found.password) == ("ship", "sesame")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{", "cannot be read (not as Docker writes it)"),
        ('{"auths": []}', "cannot be read (not as Docker writes it)"),
        (json.dumps({"auths": {HOST: {"auth": "%%%"}}}), "holds an auth that is not base64 of NAME:PASSWORD"),
        (json.dumps({"credsStore": "../x"}), "is not the name of a program"),
        (
            json.dumps({"credsStore": "absent"}),
            "docker-credential-absent cannot be started (No such file or directory)",
        ),
    ],
)
async def test_a_broken_configuration_is_told_and_passed_over(docker_config: Path, text: str, problem: str) -> None:
    write(docker_config, text)
    search = await credentials.find(HOST, {**os.environ, "DOCKER_USERNAME": "ship", "DOCKER_PASSWORD": "sesame"})
    assert search.found
    (told,) = search.problems
    assert problem in told


async def test_a_configuration_that_cannot_be_read_is_told() -> None:
    (problem,) = (await credentials.find(HOST, {"DOCKER_CONFIG": "/proc/self/mem"})).problems
    assert problem == "/proc/self/mem/config.json cannot be read (Not a directory)"


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
        ("echo secret", "docker-credential-vault answered something that is no credentials"),
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
