"""The state of a stopped Longshore: one file to go on from on another host, or another folder on this one."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from services.common.errors import LongshoreError
from services.common.process.state_lock import lock
from services.common.version import VERSION as PROGRAM

VERSION = 1
"""The version of the file's form."""

MANIFEST = "longshore-state.json"
LEFT_OUT = ("replicas", "proxy", "nats.log")
"""Parts of the state that are of this host's processes: running replicas, a cache of routes, a log of the bus."""

LOCKS = ("supervisor", "bus")


class ArchiveError(LongshoreError):
    """A state that cannot be saved, restored or moved now."""


class Manifest(msgspec.Struct, frozen=True):
    """The first member of a file: what it holds. `files` maps each path to its SHA-256; `created` is unix seconds."""

    version: int
    program: str
    host: str
    created: float
    files: dict[str, str]


def backup(state_dir: str, file: Path, host: str) -> Manifest:
    """Write the state into a file of mode 0600, at once or not at all. Raises LongshoreError while a service runs."""
    root = Path(state_dir)
    if not (root / "instance").is_file():
        raise ArchiveError(f"--state-dir {state_dir}: no state of Longshore; name the folder that it runs with")
    with _stopped(root):
        names = list(_names(root))
        digests = {str(name): _digest(root / name) for name in names}
        manifest = Manifest(VERSION, PROGRAM, host, time.time(), digests)
        with _replacing(file) as unfinished, tarfile.open(fileobj=unfinished, mode="w:gz") as archive:
            head = msgspec.json.encode(manifest)
            member = tarfile.TarInfo(MANIFEST)
            member.size, member.mode = len(head), 0o600
            archive.addfile(member, io.BytesIO(head))
            for name in names:
                archive.add(root / name, str(name), recursive=False)
    return manifest


def restore(file: Path, state_dir: str) -> Manifest:
    """Make a state directory of a file, at once or not at all. Raises LongshoreError when one is there already."""
    root = Path(state_dir)
    if root.exists() and any(root.iterdir()):
        raise ArchiveError(f"--state-dir {state_dir}: is not empty; choose a folder that does not exist yet")
    root.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        manifest = _unpack(file, unfinished)
        unfinished.replace(root)  # also over an empty folder
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    return manifest


def move(state_dir: str, to: str) -> None:
    """Move the state to another folder of the same file system, with its running replicas.

    A link stays in the old place: the shims of running replicas still write there. Raises LongshoreError while a
    service runs, and when the new folder exists.
    """
    root, new = Path(state_dir).absolute(), Path(to).absolute()
    if root.is_symlink() or not (root / "instance").is_file():
        raise ArchiveError(f"--state-dir {state_dir}: no state of Longshore; name the folder that it runs with")
    if new.exists():
        raise ArchiveError(f"{to}: exists already; name a folder that does not exist yet")
    if new.is_relative_to(root):
        raise ArchiveError(f"{to}: is inside the folder to move; name another one")
    new.parent.mkdir(parents=True, exist_ok=True)
    with _stopped(root):
        try:
            root.rename(new)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            raise ArchiveError(
                f"{to}: is on another file system, where the locks of running replicas cannot follow; "
                "use `longshore state backup` and `longshore state restore`"
            ) from None
        root.symlink_to(new)


@contextlib.contextmanager
def _stopped(root: Path) -> Iterator[None]:
    """Hold the locks of all services, so that none writes meanwhile."""
    deployers = [f"replicas/{one.parent.name}/deployer" for one in root.glob("replicas/*/deployer.lock")]
    with contextlib.ExitStack() as held:
        for name in (*LOCKS, *sorted(deployers)):
            held.enter_context(lock(str(root), name))
        yield


def _names(root: Path) -> Iterator[Path]:
    """Yield the regular files to save, relative to the folder, in a stable order."""
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root)
        is_left_out = name.parts[0] in LEFT_OUT or name.name in LEFT_OUT or name.suffix == ".lock"
        if path.is_file() and not path.is_symlink() and not is_left_out:
            yield name


@contextlib.contextmanager
def _replacing(file: Path) -> Iterator[io.BufferedWriter]:
    """Yield a temporary file beside `file`, which takes its place when the block has ended without an error."""
    descriptor, unfinished = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)  # of mode 0600
    try:
        with os.fdopen(descriptor, "wb") as opened:
            yield opened
            opened.flush()
            os.fsync(opened.fileno())
        Path(unfinished).replace(file)
    finally:
        Path(unfinished).unlink(missing_ok=True)


def _unpack(file: Path, folder: Path) -> Manifest:
    try:
        with tarfile.open(file, "r:gz") as archive:
            manifest = _manifest(file, archive)
            for member in archive:
                if member.name in manifest.files and member.isreg():
                    archive.extract(member, folder, filter="data")
    except (tarfile.TarError, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ArchiveError(f"{file}: damaged, or no state of Longshore: {error}; use another copy") from None
    for name, digest in manifest.files.items():
        path = folder / name
        if not path.is_file() or _digest(path) != digest:
            raise ArchiveError(f"{file}: {name} in it is missing or damaged; use another copy")
    return manifest


def _manifest(file: Path, archive: tarfile.TarFile) -> Manifest:
    member = archive.next()
    content = archive.extractfile(member) if member and member.name == MANIFEST and member.isreg() else None
    if content is None:
        raise ArchiveError(f"{file}: no state of Longshore; name a file that `longshore state backup` wrote")
    try:
        manifest = msgspec.json.decode(content.read(), type=Manifest)
    except msgspec.MsgspecError as error:
        raise ArchiveError(f"{file}: its list of contents is damaged ({error}); use another copy") from None
    if manifest.version != VERSION:
        raise ArchiveError(
            f"{file}: version {manifest.version} of longshore {manifest.program}, and this program reads version "
            f"{VERSION}; restore it with that program"
        )
    return manifest


def _digest(path: Path) -> str:
    with path.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
