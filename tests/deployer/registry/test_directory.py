"""A folder of releases as a registry."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from services.common.errors import RegistryError
from services.deployer.registry import parse
from services.deployer.registry.directory import Directory
from tests.support.releases import release

CRLF = "has Windows line ends (CRLF), so its interpreter is not found: save it with LF, as by dos2unix"
ABSENT = "names the interpreter {}, which is not here: install it, or correct the first line"


async def test_releases_are_the_folders_whose_name_is_a_version(registry: Path) -> None:
    for version in ("1.0.0", "v1.2.0", "1.10.0", "2.0.0-rc.1"):
        release(registry, version)
    (registry / "3.0.0").touch()
    (registry / "latest").symlink_to("1.0.0")
    assert await parse(f"dir://{registry}").offered() == ["1.10.0", "v1.2.0", "1.0.0"]
    assert (await parse(f"dir://{registry}?pre-release=true").offered())[0] == "2.0.0-rc.1"


async def test_a_path_may_hold_blanks(tmp_path: Path) -> None:
    release(tmp_path / "my app", "1.0.0")
    assert await parse(f"dir://{tmp_path}/my%20app").offered() == ["1.0.0"]


async def test_a_release_that_cannot_be_started_is_skipped_and_told_once(registry: Path) -> None:
    release(registry, "1.0.0")
    release(registry, "2.0.0").joinpath("run").chmod(0o644)
    release(registry, "3.0.0").joinpath("run").unlink()
    release(registry, "4.0.0", "#!/bin/sh\r\nexec sleep 100\r\n")
    release(registry, "5.0.0", "#!/no/such/interpreter -x\n")
    release(registry, "6.0.0", "#!/usr/bin/env no-such-interpreter\n")
    with structlog.testing.capture_logs() as logs:
        directory = Directory(registry)
        for _ in range(3):
            assert await directory.offered() == ["1.0.0"]
        told = sorted((line["release"], line["reason"]) for line in logs)
    assert told == [
        ("2.0.0", f"{registry}/2.0.0/run is not executable (chmod +x)"),
        ("3.0.0", f"there is no file {registry}/3.0.0/run"),
        ("4.0.0", f"{registry}/4.0.0/run {CRLF}"),
        ("5.0.0", f"{registry}/5.0.0/run {ABSENT.format('/no/such/interpreter')}"),
        ("6.0.0", f"{registry}/6.0.0/run {ABSENT.format('no-such-interpreter')}"),
    ]
    (registry / "2.0.0" / "run").chmod(0o755)
    assert await directory.offered() == ["2.0.0", "1.0.0"]


@pytest.fixture
def half_closed() -> Iterator[Path]:
    """A folder of 1.0.0, and of 2.0.0 that may not be read. Root may read everything: this process is another user."""
    with tempfile.TemporaryDirectory() as name:
        place, user = Path(name), os.geteuid()
        release(place, "1.0.0", "#!/bin/sh\n")
        closed = release(place, "2.0.0")
        closed.chmod(0)
        place.chmod(0o755)
        if user == 0:
            os.seteuid(65534)
        yield place
        os.seteuid(user)
        closed.chmod(0o755)


async def test_a_release_that_may_not_be_read_is_skipped_with_the_reason(half_closed: Path) -> None:
    with structlog.testing.capture_logs() as logs:
        assert await Directory(half_closed).offered() == ["1.0.0"]
    assert [line["reason"] for line in logs] == [f"{half_closed}/2.0.0 cannot be read: Permission denied"]
    with pytest.raises(RegistryError, match=r"cannot be started: .*/2.0.0 cannot be read: Permission denied"):
        await Directory(half_closed).resolve("2.0.0")


async def test_a_release_that_cannot_be_read_to_its_end_is_an_error(registry: Path) -> None:
    """Its deepest folders have a path that is too long for the system."""
    place = os.open(release(registry, "1.0.0"), os.O_RDONLY)
    for _ in range(20):
        os.mkdir("a" * 250, dir_fd=place)
        inner = os.open("a" * 250, os.O_RDONLY, dir_fd=place)
        os.close(place)
        place = inner
    os.close(place)
    with pytest.raises(RegistryError, match=r"cannot read release 1.0.0 of dir://.*: File name too long"):
        await parse(f"dir://{registry}").resolve("1.0.0")


@pytest.mark.parametrize(
    "first", ["#!/bin/sh", "#! /bin/sh -e", "#!/usr/bin/env sh", "#!/usr/bin/env -S sh -e", "#!./sh", "", "\x7fELF"]
)
async def test_a_first_line_that_works_is_no_reason_to_skip_a_release(registry: Path, first: str) -> None:
    release(registry, "1.0.0", f"{first}\necho line\r\n").joinpath("sh").symlink_to("/bin/sh")
    assert await Directory(registry).offered() == ["1.0.0"]


async def test_a_folder_that_goes_away_is_an_error_that_says_what_to_do(registry: Path) -> None:
    directory = parse(f"dir://{registry}")
    shutil.rmtree(registry)
    with pytest.raises(RegistryError, match=r"cannot read dir:///.*: No such file or directory; fix the folder"):
        await directory.offered()


async def test_a_digest_is_stable_and_changes_with_the_files(registry: Path) -> None:
    folder = release(registry, "1.0.0")
    directory = parse(f"dir://{registry}")
    first = await directory.resolve("1.0.0")
    assert first.location == str(folder)
    assert await directory.resolve("1.0.0") == first
    os.utime(folder / "run", ns=(0, 0))
    assert (await directory.resolve("1.0.0")).digest != first.digest


async def test_a_release_may_hold_files_whose_names_are_no_utf_8(registry: Path) -> None:
    folder = release(registry, "1.0.0")
    before = await parse(f"dir://{registry}").resolve("1.0.0")
    (folder / "caf\udce9").touch()
    assert (await parse(f"dir://{registry}").resolve("1.0.0")).digest != before.digest


@pytest.mark.parametrize("name", ["2.0.0", "../1.0.0", ""])
async def test_only_a_release_that_is_there_resolves(registry: Path, name: str) -> None:
    release(registry, "1.0.0")
    with pytest.raises(RegistryError, match="holds no release"):
        await parse(f"dir://{registry}").resolve(name)
