"""The file of a state: what it holds, and what is refused."""

from __future__ import annotations

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

import msgspec
import pytest
from typer.testing import CliRunner

from services.cli.app import app
from services.common.errors import LongshoreError
from services.common.process.state_lock import SERVICES, lock, used
from services.common.version import VERSION
from services.supervisor import archive
from tests.support.harness import LONGSHORE, clean_environment
from tests.support.ports import free_port, until_listening

KEPT = {
    "instance": "id",
    "admin-token": "secret",
    "bus/jetstream/1.blk": "log",
    "bus/admin.json": "{}",
    "spool/d": "s",
    "replicas/web/options.json": "the options that run",
    "replicas/proxy/options.json": "those of an application of this name",
}
LEFT_OUT = (
    "replicas/web/web-1/replica.json",
    "replicas/web/web-1/options.json",
    "proxy/8080.routes",
    "bus/nats.log",
    "bus.lock",
    "supervisor.lock",
)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    for name in (*KEPT, *LEFT_OUT):
        path = tmp_path / "state" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(KEPT.get(name, ""))
    return tmp_path / "state"


def test_a_restored_state_is_the_one_that_was_saved_without_what_runs(state: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "a.state", tmp_path / "new" / "state"
    saved = archive.backup(str(state), file, "web-1")
    assert file.stat().st_mode & 0o777 == 0o600
    assert archive.restore(file, str(new)) == saved
    assert saved.host == "web-1"
    found = {str(path.relative_to(new)): path.read_text() for path in new.rglob("*") if path.is_file()}
    assert found == KEPT
    assert new.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("name", ["supervisor", "bus", "replicas/web/deployer"])
def test_nothing_is_saved_or_moved_while_a_service_runs(state: Path, tmp_path: Path, name: str) -> None:
    (state / f"{name}.lock").touch()
    with lock(str(state), name):
        with pytest.raises(LongshoreError, match=f"in use by process {os.getpid()}"):
            archive.backup(str(state), tmp_path / "a.state", "web-1")
        with pytest.raises(LongshoreError, match="in use by process"):
            archive.move(str(state), str(tmp_path / "new"))
    assert not (tmp_path / "a.state").exists()
    assert not state.is_symlink()


def test_nothing_is_saved_while_a_service_runs_that_was_started_alone(state: Path, tmp_path: Path) -> None:
    with (
        used(str(state)),
        used(str(state)),
        pytest.raises(LongshoreError, match="in use by a service that was started"),
    ):
        archive.backup(str(state), tmp_path / "a.state", "web-1")
    archive.backup(str(state), tmp_path / "a.state", "web-1")


def test_a_proxy_that_was_started_alone_uses_the_state(state: Path, tmp_path: Path) -> None:
    port, file = free_port(), tmp_path / "a.state"
    words = ["--listen", f"web={port}", "--nats-url", f"nats://127.0.0.1:{free_port()}", "--state-dir", str(state)]
    log = tmp_path / "log"
    with (
        log.open("wb") as opened,
        subprocess.Popen([LONGSHORE, "proxy", *words], env=clean_environment(), stderr=opened) as proxy,
    ):
        try:
            until_listening(port, proxy, log)
            with pytest.raises(LongshoreError, match="started alone, such as `longshore proxy`"):
                archive.backup(str(state), file, "web-1")
        finally:
            proxy.terminate()
    archive.backup(str(state), file, "web-1")


def test_no_service_starts_while_the_state_is_saved(state: Path) -> None:
    with (
        lock(str(state), SERVICES),
        pytest.raises(LongshoreError, match="is being saved or moved; start again when that is done"),
        used(str(state)),
    ):
        pass


def test_a_service_needs_no_lock_in_a_folder_that_it_cannot_write(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with used(str(tmp_path / "file" / "state")):
        pass


def _changes(path: Path, content: str | None) -> None:
    path.write_text(content) if content is not None else path.unlink()


@pytest.mark.parametrize("content", ["longer than before", "", None])
def test_a_file_that_changes_while_it_is_saved_fails_the_backup(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    read, changed = archive._digest, state / "instance"

    def digest(path: Path) -> str:
        found = read(path)
        if path.name == "d":  # the last file: all digests are known, and none is saved
            _changes(changed, content)
        return found

    monkeypatch.setattr(archive, "_digest", digest)
    with pytest.raises(LongshoreError, match="instance: changed while it was saved; stop what writes it"):
        archive.backup(str(state), tmp_path / "a.state", "web-1")
    assert not (tmp_path / "a.state").exists()


@pytest.mark.parametrize("name", ["admin-token", "bus", "replicas/web/options.json"])
def test_a_link_is_refused_because_a_backup_would_omit_it(state: Path, tmp_path: Path, name: str) -> None:
    (state / name).rename(tmp_path / "elsewhere")
    (state / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(LongshoreError, match=f"{name}: is a link, which a backup cannot hold"):
        archive.backup(str(state), tmp_path / "a.state", "web-1")


def test_a_link_among_the_replicas_is_left_out_as_they_are(state: Path, tmp_path: Path) -> None:
    (state / "replicas" / "web" / "web-1" / "current").symlink_to("/nowhere")
    archive.backup(str(state), tmp_path / "a.state", "web-1")


def test_an_empty_folder_is_filled_and_stays_the_same_folder(state: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "a.state", tmp_path / "mounted"
    archive.backup(str(state), file, "web-1")
    (new / "lost+found").mkdir(parents=True)
    before = new.stat().st_ino
    with pytest.raises(LongshoreError):
        archive.restore(_rewritten(file, {"instance": b"xx"}), str(new))
    assert [path.name for path in new.iterdir()] == ["lost+found"]
    archive.restore(file, str(new))
    assert new.stat().st_ino == before
    assert sorted(path.name for path in new.iterdir()) == [
        "admin-token",
        "bus",
        "instance",
        "lost+found",
        "replicas",
        "spool",
    ]


def test_a_folder_that_cannot_be_the_state_is_refused_in_one_line(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.state"
    archive.backup(str(state), file, "web-1")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder, says in (
        ("a.state", "a.state: is a file, or in one; choose"),
        ("a.state/in", "in: is a file, or in one; choose"),
        ("link", "link: links to a folder that does not exist"),
    ):
        with pytest.raises(LongshoreError, match=says):
            archive.restore(file, str(tmp_path / folder))


def test_a_backup_that_fails_leaves_the_earlier_file(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.state"
    archive.backup(str(state), file, "web-1")
    before = file.read_bytes()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "add", full)
    with pytest.raises(OSError, match="No space left"):
        archive.backup(str(state), file, "web-1")
    assert file.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.state", "state"]


def _rewritten(file: Path, change: dict[str, bytes], name: str = "b.state") -> Path:
    """A copy of a file with other contents of some members, of the right length in its headers."""
    other = file.with_name(name)
    with tarfile.open(file) as old, tarfile.open(other, "w:gz") as new:
        for member in old:
            content = old.extractfile(member)
            data = change.get(member.name, content.read() if content else b"")
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))
    return other


def test_damage_is_one_line_and_makes_no_state(state: Path, tmp_path: Path) -> None:
    file, new = tmp_path / "a.state", tmp_path / "new"
    manifest = archive.backup(str(state), file, "web-1")
    later = msgspec.json.encode(msgspec.structs.replace(manifest, version=2))
    cut = tmp_path / "cut.state"
    cut.write_bytes(file.read_bytes()[:300])
    text = tmp_path / "text.state"
    text.write_text("hello")
    for broken, says in (
        (_rewritten(file, {"instance": b"xx"}, "1"), "instance in it is missing or damaged; use another copy"),
        (
            _rewritten(file, {archive.MANIFEST: later}, "2"),
            f"version 2 of longshore {VERSION}, and",
        ),
        (_rewritten(file, {archive.MANIFEST: b"{"}, "3"), "its list of contents is damaged"),
        (cut, "cut.state: damaged"),
        (text, "text.state: damaged, or no state of Longshore"),
    ):
        with pytest.raises(LongshoreError) as caught:
            archive.restore(broken, str(new))
        assert says in str(caught.value)
        assert not new.exists()
        assert not list(tmp_path.glob(".new.*"))


def _made(file: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(file, "w:gz", format=tarfile.GNU_FORMAT) as made:
        for member, data in members:
            member.size = len(data)
            made.addfile(member, io.BytesIO(data))
    return file


def _named(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type = kind
    return member


def _manifest(*names: str) -> bytes:
    return msgspec.json.encode(archive.Manifest(archive.VERSION, VERSION, "web-1", 1.0, dict.fromkeys(names, "0" * 64)))


def test_hostile_files_are_refused_in_one_line(state: Path, tmp_path: Path) -> None:
    good = tmp_path / "good.state"
    archive.backup(str(state), good, "web-1")
    content = good.read_bytes()
    flipped = tmp_path / "flipped"
    flipped.write_bytes(content[:40] + bytes(255 - one for one in content[40:80]) + content[80:])
    head = (_named(archive.MANIFEST), _manifest("\x00", "instance"))
    late = _named("instance")
    late.mtime = 2**62
    for file in (
        flipped,
        _made(tmp_path / "1", (_named(archive.MANIFEST), b'{"version": 1, "program": "\xff"}')),
        _made(tmp_path / "2", head, (late, b"x")),
        _made(tmp_path / "3", (_named("pax", tarfile.XHDTYPE), b"13 mtime=nan\n"), head, (_named("instance"), b"x")),
        _made(tmp_path / "4", *[(_named("pax", tarfile.XHDTYPE), b"7 a=bc\n")] * 2000, head),
        _made(tmp_path / "5", (_named(archive.MANIFEST), bytes(archive.MOST + 1))),
        _made(tmp_path / "6", (_named("long", tarfile.GNUTYPE_LONGNAME), bytes(archive.MOST + 1)), head),
    ):
        with pytest.raises(LongshoreError, match="damaged"):
            archive.restore(file, str(tmp_path / "new"))
        assert not list(tmp_path.glob("*new*"))


def test_a_file_cannot_write_outside_its_folder(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.state"
    manifest = archive.backup(str(state), file, "web-1")
    evil = msgspec.json.encode(msgspec.structs.replace(manifest, files={"../evil": "0" * 64}))
    other = _rewritten(file, {archive.MANIFEST: evil})
    with pytest.raises(LongshoreError, match="missing or damaged"):
        archive.restore(other, str(tmp_path / "new"))
    assert not (tmp_path / "evil").exists()


def test_only_a_state_is_saved_and_nothing_is_overwritten(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "a.state"
    with pytest.raises(LongshoreError, match="no state of Longshore"):
        archive.backup(str(tmp_path / "none"), file, "web-1")
    archive.backup(str(state), file, "web-1")
    with pytest.raises(LongshoreError, match="is not empty"):
        archive.restore(file, str(state))
    for to, says in ((state / "in", "is inside"), (tmp_path / "a.state", "exists already")):
        with pytest.raises(LongshoreError, match=says):
            archive.move(str(state), str(to))


def test_a_moved_state_is_found_in_both_places(state: Path, tmp_path: Path) -> None:
    archive.move(str(state), str(tmp_path / "new"))
    assert (tmp_path / "new" / "instance").read_text() == "id"
    assert (state / "instance").read_text() == "id"
    with pytest.raises(LongshoreError, match="no state of Longshore"):
        archive.move(str(state), str(tmp_path / "third"))


def test_the_commands_of_the_page_work_as_they_are_printed(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[2] / "docs" / "operating.md").read_text()
    commands = re.findall(r"^longshore state (.+)$", page, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["backup", "restore", "move"]
    monkeypatch.chdir(tmp_path)
    for command in commands:
        words = command.replace("/var/lib/longshore", str(state)).replace("/srv", str(tmp_path)).split()
        done = CliRunner().invoke(app, ["state", *words])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "longshore" / "instance").read_text() == "id"
    assert (tmp_path / "longshore-2" / "instance").read_text() == "id"
