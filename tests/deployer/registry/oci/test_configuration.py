"""Docker's config.json in all its forms."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.deployer.registry.oci import credentials
from services.deployer.registry.oci.credentials import Credentials
from tests.deployer.registry.oci.configuring import HOST, configure, found, pair, write


@pytest.mark.parametrize(
    ("host", "key"),
    [
        (HOST, HOST),
        (HOST, f"https://{HOST}"),
        (HOST, f"https://{HOST}/v2/"),
        (HOST, f"http://{HOST}"),
        (HOST, f"{HOST}/v1/"),
        (HOST, f"{HOST}/"),
        (HOST, HOST.upper()),
        ("docker.io", "index.docker.io"),
        ("docker.io", "https://index.docker.io/v1/"),
        ("docker.io", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
    ],
)
async def test_dockers_configuration_names_hosts_in_several_ways(docker_config: Path, host: str, key: str) -> None:
    configure(docker_config, auths={"other.example": pair("no", "no"), key: pair("ship", "se:same")})
    one = await found(host)
    assert one == Credentials(f"{docker_config} for {key}", "ship", "se:same")
    assert await found("registry.example") is None


@pytest.mark.parametrize(
    ("name", "username"),
    [
        ("quay.example/org-a/app", "ann"),
        ("quay.example/org-b/app", "bob"),
        ("quay.example/org-b/app/part", "eve"),
        ("quay.example/org-b/application", "bob"),
        ("quay.example/org-bb/app", "all"),
        ("quay.example/empty/app", "all"),
        ("quay.example", "all"),
        ("other.example/org-a/app", None),
        ("docker.io/library/nginx", "nginx"),
        ("docker.io/team/app", "hub"),
    ],
)
async def test_the_entry_for_the_most_of_the_name_counts(docker_config: Path, name: str, username: str | None) -> None:
    entries = {
        "quay.example/org-a": "ann",
        "docker.io": "alias",
        "https://index.docker.io/v1/": "hub",
        "docker.io/library": "nginx",
        "https://quay.example/v1/": "old",
        "quay.example": "all",
        "quay.example/org-b": "bob",
        "quay.example/org-b/app/part": "eve",
    }
    configure(docker_config, auths={"quay.example/empty": {}} | {key: pair(one, "x") for key, one in entries.items()})
    one = await found(name)
    assert (one.username if one else None) == username


@pytest.mark.parametrize(
    "text",
    [
        '{"auths":{"HOST":{"auth":"Ym9iOnR3bw=="}},"credHelpers":null,"credsStore":null}',
        '{"auths":{"HOST":{"auth":"Ym9iOnR3bw==","password":null,"identitytoken":null}}}',
        '{"auths":{"HOST":{"auth":null,"username":"bob","password":"two"}}}',
        '{"auths":{"other.example":null,"HOST":{"auth":"Ym9iOnR3bw=="}}}',
        '{"auths":{"other.example":{"auth":5},"HOST":{"auth":"Ym9iOnR3bw=="}}}',
        '{"auths":{"HOST/team":null,"HOST":{"auth":"Ym9iOnR3bw=="}}}',
        '{"auths":{"HOST":{"auth":"Ym9i\\nOnR3\\r\\nbw==\\n"}}}',
        '{"auths":{"HOST":{"auth":"Ym9iOnR3bwA="}}}',
        '{"Auths":{"HOST":{"Username":"bob","PASSWORD":"two"}},"HttpHeaders":{"a":"b"}}',
        '{"credsStore":"absent","credHelpers":{"HOST":null},"auths":{"HOST":{"auth":"Ym9iOnR3bw=="}}}',
        '{"credsStore":"absent","credHelpers":{"HOST":""},"auths":{"HOST":{"auth":"Ym9iOnR3bw=="}}}',
        ' {"auths":{"HOST":{"auth":"Ym9iOnR3bw=="}}} and more',
    ],
)
async def test_the_configuration_is_read_as_docker_reads_it(docker_config: Path, text: str) -> None:
    write(docker_config, text.replace("HOST", HOST))
    search = await credentials.find(f"{HOST}/team/app", os.environ)
    assert search.found == Credentials(f"{docker_config} for {HOST}", "bob", "two")
    assert search.problems == []


@pytest.mark.parametrize("text", ["", "\n", "{}", '{"auths":null}', '{"auths":{}}', '{"auths":{"HOST":{}}}'])
async def test_a_configuration_may_hold_nothing(docker_config: Path, text: str) -> None:
    write(docker_config, text.replace("HOST", HOST))
    assert await credentials.find(HOST, os.environ) == credentials.Search()


async def test_an_entry_that_is_broken_is_reported_and_the_next_one_counts(docker_config: Path) -> None:
    configure(docker_config, auths={HOST: pair("bob", "two"), f"{HOST}/team": {"auth": "Ym9i"}})
    search = await credentials.find(f"{HOST}/team/app", os.environ)
    assert search.found == Credentials(f"{docker_config} for {HOST}", "bob", "two")
    assert search.problems == [f"{docker_config} holds an auth that is not base64 of NAME:PASSWORD, for {HOST}/team"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9) | st.just("Ym9iOnR3bw=="),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["auths", "credHelpers", "credsStore", HOST, f"{HOST}/team", "auth", "username"]), inner
            )
        ),
    )
)
async def test_no_configuration_is_too_strange_to_be_read(docker_config: Path, content: object) -> None:
    write(docker_config, json.dumps(content))
    await credentials.find(f"{HOST}/team/app", os.environ)


async def test_the_configuration_is_in_the_home_folder_without_a_variable(tmp_path: Path) -> None:
    configure(tmp_path / ".docker" / "config.json", auths={HOST: {"username": "ship", "password": "sesame"}})
    search = await credentials.find(HOST, {"HOME": str(tmp_path)})
    assert search.found
    assert (search.found.username, search.found.password) == ("ship", "sesame")


@pytest.mark.process
@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[" * 100_000, "cannot be read (not as Docker writes it)"),
        (json.dumps({"auths": {HOST: []}}), f"holds an entry that is not as Docker writes it, for {HOST}"),
        (json.dumps({"auths": {HOST: {"auth": 5}}}), f"holds an entry that is not as Docker writes it, for {HOST}"),
        (json.dumps({"auths": {HOST: {"auth": "Om8="}}}), "holds an auth that is not base64 of NAME:PASSWORD"),
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
    (told,) = (await credentials.find(HOST, os.environ)).problems
    assert problem in told


async def test_a_configuration_that_cannot_be_read_is_told() -> None:
    (problem,) = (await credentials.find(HOST, {"DOCKER_CONFIG": "/proc/self/mem"})).problems
    assert problem == "/proc/self/mem/config.json cannot be read (Not a directory)"
