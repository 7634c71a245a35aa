"""A folder of release folders: `<folder>/<version>/run`, an executable file, is a release."""

from __future__ import annotations

import asyncio
import hashlib
import os
from pathlib import Path

from schemas.routing import Artifact
from services.common import log
from services.common.errors import RegistryError, SettingsError
from services.deployer.registry import versions
from services.deployer.registry.program import first_line_flaw

RUN = "run"


class Directory:
    """The registry `dir://<path>`. It offers pre-releases only on request."""

    def __init__(self, path: Path, pre_releases: bool = False) -> None:
        self.path = path
        self.url = f"dir://{path}" + ("?pre-release=true" if pre_releases else "")
        self._pre_releases = pre_releases
        self._warned: set[str] = set()
        self._log = log.get("deployer")

    @classmethod
    def open(cls, path: str, pre_releases: bool) -> Directory:
        """Return the registry at a folder. Raises SettingsError if the folder does not exist."""
        folder = Path(path)
        try:
            problem = "" if folder.is_dir() else "is not a folder" if folder.exists() else "does not exist"
        except OSError as error:  # a name that is too long, a folder before it that we may not enter
            raise SettingsError(f"--registry dir://{path}: cannot be read ({error.strerror}); fix the path") from None
        if problem:
            raise SettingsError(f"--registry dir://{path}: {path} {problem}; create it, or fix the path")
        return cls(folder, pre_releases)

    async def offered(self) -> list[str]:
        """Return the releases that can be started, newest first. Each other one is logged once."""
        return await asyncio.to_thread(self._offered)

    async def resolve(self, release: str, known: Artifact | None = None) -> Artifact:
        """Return the release's folder, and a digest of the names, sizes and times of its files."""
        return await asyncio.to_thread(self._resolve, release)

    def is_newer(self, release: str, than: str) -> bool:
        """Return True if a release has a higher version than another."""
        return versions.is_newer(release, than)

    def _offered(self) -> list[str]:
        names = versions.newest_first(self._folders(), self._pre_releases)
        problems = {name: problem for name in names if (problem := _problem(self.path / name))}
        for name in problems.keys() - self._warned:
            self._log.warning("release skipped", release=name, registry=self.url, reason=problems[name])
        self._warned = set(problems)
        return [name for name in names if name not in problems]

    def _folders(self) -> list[str]:
        try:
            with os.scandir(self.path) as entries:
                return [entry.name for entry in entries if entry.is_dir()]
        except OSError as error:
            raise RegistryError(f"cannot read {self.url}: {error.strerror}; fix the folder or --registry") from None

    def _resolve(self, release: str) -> Artifact:
        folder = self.path / release
        if release not in self._folders():
            raise RegistryError(f"{self.url} holds no release {release}")
        if problem := _problem(folder):
            raise RegistryError(f"release {release} of {self.url} cannot be started: {problem}")
        try:
            return Artifact(_digest(folder), str(folder))
        except OSError as error:  # such as a folder that is deleted meanwhile
            raise RegistryError(f"cannot read release {release} of {self.url}: {error.strerror}; fix it") from None


def flaw(folder: Path) -> str:
    """Return why a release folder cannot be started, empty if it can."""
    run = folder / RUN
    if not run.is_file():
        return f"there is no file {run}"
    if not os.access(run, os.X_OK):
        return f"{run} is not executable (chmod +x)"
    return first_line_flaw(run)


def _problem(folder: Path) -> str:
    """Return why a release cannot be started; that may only be a folder that we may not read."""
    try:
        return flaw(folder)
    except OSError as error:
        return f"{folder} cannot be read: {error.strerror}"


def _digest(folder: Path) -> str:
    total = hashlib.sha256()
    for name in sorted(folder.rglob("*")):
        try:
            status = name.lstat()
        except OSError:
            continue
        path = os.fsencode(name.relative_to(folder))
        total.update(path + f"\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return f"sha256:{total.hexdigest()}"
