"""The words after `--`: what they become, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import SettingsError
from services.deployer.runtime.docker import create_request
from services.deployer.runtime.docker.arguments import Arguments, environment, parse

SECRET = "hunter2-is-secret"


@pytest.mark.parametrize(
    ("words", "config", "host"),
    [
        ([], {}, {}),
        (["-v", "/srv:/data:ro", "--volume=cache:/cache"], {}, {"Binds": ["/srv:/data:ro", "cache:/cache"]}),
        (["-v/var/cache"], {"Volumes": {"/var/cache": {}}}, {}),
        (["-l", "a=b", "--label", "c"], {"Labels": {"a": "b", "c": ""}}, {}),
        (["--network", "backend"], {}, {"NetworkMode": "backend"}),
        (["-m", "512m"], {}, {"Memory": 512 << 20}),
        (["-m1.5GiB"], {}, {"Memory": 3 << 29}),
        (["--memory=1000"], {}, {"Memory": 1000}),
        (["--cpus", "1.5"], {}, {"NanoCpus": 1_500_000_000}),
        (["--cpus", ".5"], {}, {"NanoCpus": 500_000_000}),
        (["--cpus", "2."], {}, {"NanoCpus": 2_000_000_000}),
        (["--restart", "on-failure:3"], {}, {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": 3}}),
        (["--restart=always"], {}, {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 0}}),
        (["-u", "1000:1000"], {"User": "1000:1000"}, {}),
        (["--entrypoint", "/bin/app"], {"Entrypoint": ["/bin/app"]}, {}),
        (["--entrypoint="], {"Entrypoint": [""]}, {}),
        (["--read-only"], {}, {"ReadonlyRootfs": True}),
        (["--read-only=false"], {}, {"ReadonlyRootfs": False}),
        (["--tmpfs", "/run:size=64m", "--tmpfs=/tmp"], {}, {"Tmpfs": {"/run": "size=64m", "/tmp": ""}}),
        (["--ulimit", "nofile=10:20"], {}, {"Ulimits": [{"Name": "nofile", "Soft": 10, "Hard": 20}]}),
        (["--ulimit=core=-1"], {}, {"Ulimits": [{"Name": "core", "Soft": -1, "Hard": -1}]}),
        (
            ["--log-driver=local", "--log-opt", "max-size=10m", "--log-opt=mode=non-blocking"],
            {},
            {"LogConfig": {"Type": "local", "Config": {"max-size": "10m", "mode": "non-blocking"}}},
        ),
        (
            ["--add-host", "db:10.0.0.5", "--add-host=me:host-gateway"],
            {},
            {"ExtraHosts": ["db:10.0.0.5", "me:host-gateway"]},
        ),
        (["--add-host=six:[::1]"], {}, {"ExtraHosts": ["six:::1"]}),
        (["--dns", "1.1.1.1"], {}, {"Dns": ["1.1.1.1"]}),
        (
            ["--mount", "type=bind,source=/a,target=/b,readonly"],
            {},
            {"Mounts": [{"Type": "bind", "Source": "/a", "Target": "/b", "ReadOnly": True}]},
        ),
        (["--mount=type=tmpfs,dst=/t"], {}, {"Mounts": [{"Type": "tmpfs", "Target": "/t"}]}),
        (
            ["--health-cmd", "wget -q localhost", "--health-interval=1m30s", "--health-timeout", "500ms"],
            {"Healthcheck": {"Test": ["CMD-SHELL", "wget -q localhost"], "Interval": 90 * 10**9, "Timeout": 5 * 10**8}},
            {},
        ),
        (
            ["--health-retries=4", "--health-start-period=2s"],
            {"Healthcheck": {"Retries": 4, "StartPeriod": 2 * 10**9}},
            {},
        ),
        (["--no-healthcheck"], {"Healthcheck": {"Test": ["NONE"]}}, {}),
    ],
)
def test_words_become_what_the_engine_wants(words: list[str], config: dict[str, Any], host: dict[str, Any]) -> None:
    assert parse(words) == Arguments(config=config, host=host)


@pytest.mark.parametrize(
    "words", [["-e", "A=1=2"], ["-eA=1=2"], ["-e=A=1=2"], ["--env", "A=1=2"], ["--env=A=1=2"]], ids=" ".join
)
def test_every_spelling_of_an_option_says_the_same(words: list[str]) -> None:
    assert parse(words) == Arguments(env=["A=1=2"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-d"], "-- -d: every container runs in the background"),
        (["--detach"], "-- --detach: every container"),
        (["--detach=true"], "-- --detach: every container"),
        (["-it", "sh"], "-- -i: a container in the background"),
        (["--tty"], "-- --tty: a container in the background"),
        (["-p", "80:80"], "-- -p: ports come from the option --port"),
        (["-p80:80"], "-- -p: ports come from"),
        (["--publish=80:80"], "-- --publish: ports come from"),
        (["-P"], "-- -P: ports come from"),
        (["--publish-all"], "-- --publish-all: ports come from"),
        (["--name", "x"], "-- --name: containers are named after"),
        (["--rm"], "-- --rm: Longshore removes"),
        (["--privileged"], "-- --privileged: not an option that Longshore passes on"),
        (["--network-alias=x"], "-- --network-alias: not an option"),
        (["-w", "/srv"], "-- -w: not an option"),
        (["-x"], "-- -x: not an option"),
        (["--"], "-- word 1 is not an option of `docker run`"),
        (["-"], "-- word 1 is not an option"),
        (["-e", "A=1", "nginx"], "-- word 3 is not an option of `docker run`: the image comes from --registry"),
        (["--env"], "-- --env: a value is missing"),
        (["-m"], "-- -m: a value is missing"),
        (["-m", "lots"], "-- --memory: use a number of bytes"),
        (["--cpus=0"], "-- --cpus: use a number of processors"),
        (["--cpus=."], "-- --cpus: use a number of processors"),
        (["--cpus=.0"], "-- --cpus: use a number of processors"),
        (["--network", "front", "--network=back"], "-- --network: given twice; name the one network of a replica"),
        (["--network=host"], "-- --network: a replica needs a network of its own"),
        (["--network=container:db"], "-- --network: a replica needs"),
        (["--restart=sometimes"], "-- --restart: use no, always"),
        (["--restart=always:3"], "-- --restart: use no, always"),
        (["-l", "longshore.app=x"], "-- --label: labels longshore.… are Longshore's own"),
        (["--label=longshore.release"], "-- --label: labels longshore."),
        (["-llongshore.x=1"], "-- --label: labels longshore."),
        (["-l=longshore.x=1"], "-- --label: labels longshore."),
        (["--label", "Longshore.x=1"], "-- --label: labels longshore."),
        (["-v", "data:/"], "-- --volume: use an absolute path in the container"),
        (["-v", "./data:/data"], "-- --volume: mount an absolute path of the host"),
        (["-v", "/a:/b:rx"], "-- --volume: behind the second colon may stand"),
        (["--mount=type=npipe,target=/x"], "-- --mount: use type=bind, volume or tmpfs"),
        (["--mount=type=bind,target=/x"], "-- --mount: target= is needed, and for type=bind an absolute source="),
        (["--ulimit=nofile=20:10"], "-- --ulimit: the soft limit is above the hard one"),
        (["--ulimit=files=1"], "-- --ulimit: use NAME=SOFT:HARD"),
        (["--dns=dns.example"], "-- --dns: use an IP address"),
        (["--add-host=db"], "-- --add-host: use NAME:ADDRESS"),
        (["--health-interval=5"], "-- --health-interval: use a duration with its unit"),
        (
            ["--no-healthcheck", "--health-cmd=true"],
            "-- --no-healthcheck: given with other --health options; omit",
        ),
        (["--read-only=yes"], "-- --read-only: use true or false"),
        (["--env", f"={SECRET}"], "-- --env: use NAME=VALUE"),
        ([f"-e=A B={SECRET}"], "-- --env: use NAME=VALUE"),
        (["-e", "A", f"{SECRET}"], "-- word 3 is not"),
        ([f"--password={SECRET}"], "-- --password: not an option"),
    ],
)
def test_what_is_unknown_wrong_or_breaks_the_management_is_refused_by_name(words: list[str], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        parse(words)
    assert message in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


NAMES = (
    "env",
    "env-file",
    "volume",
    "label",
    "memory",
    "restart",
    "mount",
    "ulimit",
    "add-host",
    "tmpfs",
    "user",
    "cpus",
)


def outcome(words: list[str]) -> Arguments | str:
    """What words become, or why they are refused."""
    try:
        return parse(words)
    except SettingsError as error:
        return str(error)


@given(st.sampled_from(NAMES), st.text(max_size=30))
def test_any_value_is_taken_or_refused_however_it_is_spelled(name: str, value: str) -> None:
    assert outcome([f"--{name}={value}"]) == outcome([f"--{name}", value])


@given(st.lists(st.text(max_size=12), max_size=6))
def test_whatever_the_words_are_they_are_taken_or_refused_as_such(words: list[str]) -> None:
    found = outcome(words)
    assert isinstance(found, Arguments) or found.startswith("-- ")


def read(file: str) -> str:
    return {
        "app.env": "\ufeff# comment\n\n  A=file\nB=two words \nC\nNOT_SET\n",
        "bad.env": f"A=1\nno name={SECRET}\n",
    }[file]


def test_variables_come_from_files_and_then_from_words_and_a_name_alone_passes_one_on() -> None:
    arguments = parse(["-e", "A=word", "--env-file", "app.env", "-e", "HOME", "-e", "MISSING"])
    found = dict(environment(arguments, {"C": "passed on", "HOME": "/root"}, read))
    assert found == {"A": "word", "B": "two words ", "C": "passed on", "HOME": "/root"}


def test_a_value_of_an_env_file_ends_with_its_line_and_at_no_other_character() -> None:
    values = [f"a{character}B=b" for character in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029\r"]
    text = "".join(f"V{n}={value}\n" for n, value in enumerate(values)) + "CRLF=c\r\nLAST=d"
    found = dict(environment(parse(["--env-file=any.env"]), {}, lambda _: text))
    assert found == {f"V{n}": value for n, value in enumerate(values)} | {"CRLF": "c", "LAST": "d"}


def test_an_env_file_is_read_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "app.env").write_bytes("A=one\rB=two\nC=\u2028\n".encode())
    found = create_request.environment(parse([f"--env-file={tmp_path / 'app.env'}"]))
    assert found == [("A", "one\rB=two"), ("C", "\u2028")]


def test_a_line_of_an_env_file_that_is_none_is_told_without_its_value() -> None:
    with pytest.raises(SettingsError, match=r"-- --env-file bad.env line 2: use NAME=VALUE") as refused:
        list(environment(parse(["--env-file=bad.env"]), {}, read))
    assert SECRET not in str(refused.value)
