"""The state of a stopped Longshore: one file to go on from on another host, or another folder on this one."""

from __future__ import annotations

import contextlib
import errno
import gzip
import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePath

import msgspec

from services.common.errors import LongshoreError, SettingsError
from services.common.process.state_lock import SERVICES, lock
from services.common.version import VERSION as PROGRAM
from services.deployer.runtime.options_file import FILE as OPTIONS

VERSION = 1
"""The version of the file's form."""

MANIFEST = "longshore-state.json"
LEFT_OUT = (PurePath("replicas"), PurePath("proxy"), PurePath("bus/nats.log"))
"""Parts of the state that are of this host's processes: running replicas, a cache of routes, a log of the bus.

Of `replicas`, the options of each application are kept: they are nowhere else.
"""

LOCKS = ("supervisor", "bus")

MOST = 64 << 20
"""Bytes that one read may ask for. The list of contents of 500,000 files fits; a file made to fill the memory fails."""


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
        names = sorted(_names(root))
        digests = {str(name): _digest(root / name) for name in names}
        manifest = Manifest(VERSION, PROGRAM, host, time.time(), digests)
        with _replacing(file) as unfinished, tarfile.open(fileobj=unfinished, mode="w:gz") as archive:
            head = msgspec.json.encode(manifest)
            member = tarfile.TarInfo(MANIFEST)
            member.size, member.mode = len(head), 0o600
            archive.addfile(member, io.BytesIO(head))
            for name in names:
                if not _add(archive, root / name, name, digests[str(name)]):
                    raise ArchiveError(f"{root / name}: changed while it was saved; stop what writes it, and try again")
    return manifest


def restore(file: Path, state_dir: str) -> Manifest:
    """Make a state directory of a file, at once or not at all. Raises LongshoreError when one is there already.

    An empty folder is filled, not replaced: it may be a mount point, or in a folder that this user cannot write.
    """
    root = Path(state_dir)
    if root.is_symlink() and not root.exists():
        raise ArchiveError(
            f"--state-dir {state_dir}: links to a folder that does not exist; create it, or name another"
        )
    if any(one.exists() and not one.is_dir() for one in (root, *root.parents)):
        raise ArchiveError(f"--state-dir {state_dir}: is a file, or in one; choose a folder that does not exist yet")
    try:
        is_there = root.is_dir()
        if is_there and any(path.name != "lost+found" for path in root.iterdir()):  # which each new ext4 has
            raise ArchiveError(f"--state-dir {state_dir}: is not empty; choose a folder that does not exist yet")
        root.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root if is_there else root.parent))
    except OSError as error:
        raise ArchiveError(f"--state-dir {state_dir}: {error.strerror}; choose a folder that you can write") from None
    try:
        manifest = _unpack(file, unfinished)
        if is_there:
            _move_up(unfinished)
        else:
            unfinished.replace(root)
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


def _move_up(folder: Path) -> None:
    """Move the contents of a folder into its parent: the instance last, because it makes a folder a state."""
    for path in sorted(folder.iterdir(), key=lambda one: one.name == "instance"):
        path.rename(folder.parent / path.name)
    folder.rmdir()


@contextlib.contextmanager
def _stopped(root: Path) -> Iterator[None]:
    """Hold the locks of all services, so that none writes meanwhile."""
    deployers = [f"replicas/{one.parent.name}/deployer" for one in root.glob("replicas/*/deployer.lock")]
    with contextlib.ExitStack() as held:
        for name in (*LOCKS, *sorted(deployers)):
            held.enter_context(lock(str(root), name))
        try:
            held.enter_context(lock(str(root), SERVICES))
        except SettingsError:
            raise SettingsError(
                f"--state-dir {root}: in use by a service that was started alone, such as `longshore proxy`, `health` "
                "or `gateway`; stop it"
            ) from None
        yield


def _names(root: Path) -> Iterator[PurePath]:
    """Yield the files to save, relative to the folder. Raises ArchiveError for a link, which a backup cannot hold."""
    for folder, folders, files in os.walk(root, onerror=_refuse):
        for path in (Path(folder, one) for one in (*folders, *files)):
            name = path.relative_to(root)
            if _is_left_out(name):
                continue
            if path.is_symlink():
                raise ArchiveError(f"{path}: is a link, which a backup cannot hold; put what it links to in its place")
            if path.is_file():
                yield name


def _is_left_out(name: PurePath) -> bool:
    is_options = len(name.parts) == 3 and name.match(f"replicas/*/{OPTIONS}")
    is_part = any(name.is_relative_to(part) for part in LEFT_OUT)
    return name.suffix == ".lock" or (is_part and not is_options)


def _refuse(error: OSError) -> None:
    """Fail for a folder that cannot be read, which `os.walk` would omit."""
    raise error


def _add(archive: tarfile.TarFile, path: Path, name: PurePath, digest: str) -> bool:
    """Add a file to the archive. Return whether it is still the one of this digest."""
    try:
        archive.add(path, str(name), recursive=False)
        return _digest(path) == digest
    except OSError as error:
        if not error.errno or error.errno == errno.ENOENT:  # tarfile has none for a file that became shorter
            return False
        raise


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


class _Bounded(gzip.GzipFile):
    """A compressed file that refuses a read so large that only a file made to fill the memory can ask for it."""

    def read(self, size: int | None = -1) -> bytes:
        if size is None or not 0 <= size <= MOST:
            raise tarfile.ReadError(f"one part of it asks for more than {MOST >> 20} MiB of memory")
        return super().read(size)


def _unpack(file: Path, folder: Path) -> Manifest:
    with file.open("rb") as opened:
        try:
            with tarfile.open(fileobj=_Bounded(fileobj=opened), mode="r:") as archive:
                manifest = _manifest(file, archive)
                found = {one.name: _extract(archive, one, folder) for one in archive if one.name in manifest.files}
        except (tarfile.TarError, zlib.error, EOFError, ValueError, OverflowError, RecursionError, OSError) as error:
            if isinstance(error, OSError) and error.errno:
                raise
            raise ArchiveError(f"{file}: damaged, or no state of Longshore: {error}; use another copy") from None
    for name, digest in manifest.files.items():
        if found.get(name) != digest:
            raise ArchiveError(f"{file}: {name} in it is missing or damaged; use another copy")
    return manifest


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> str:
    """Write a regular file that its owner alone can use, and return its digest; empty for other members.

    Not `TarFile.extract`: Pythons before 3.11.4 have no filter against members that leave the folder.
    """
    content = archive.extractfile(member) if member.isreg() and not member.issparse() else None
    name = PurePath(member.name)
    if content is None or name.is_absolute() or ".." in name.parts:
        return ""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with content, path.open("wb") as opened:
        shutil.copyfileobj(content, opened)
    path.chmod(0o600 | member.mode & 0o700)
    os.utime(path, (member.mtime, member.mtime))
    return _digest(path)


def _manifest(file: Path, archive: tarfile.TarFile) -> Manifest:
    member = archive.next()
    content = archive.extractfile(member) if member and member.name == MANIFEST and member.isreg() else None
    if content is None:
        raise ArchiveError(f"{file}: no state of Longshore; name a file that `longshore state backup` wrote")
    try:
        manifest = msgspec.json.decode(content.read(), type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
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
