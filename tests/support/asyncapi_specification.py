"""The official JSON schema of AsyncAPI 3.0.0, from the npm package that publishes it."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import pytest

from services.common.files import replace_atomically

PACKAGE = "@asyncapi/specs@6.11.1"
MEMBER = "package/schemas/3.0.0.json"
SHA512 = "A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ=="
"""Digest of the archive, as npm's lock files have it: a mirror that serves something else makes the tests fail."""

CACHE = Path(tempfile.gettempdir()) / f"longshore-tests-{os.getuid()}" / "asyncapi-specs-6.11.1.tgz"


def load() -> dict[str, Any]:
    """Return the schema. Where npm cannot fetch it the test is skipped, but never in CI."""
    if not CACHE.exists():
        archive, problem = _fetched()
        if problem:
            assert not os.environ.get("CI"), problem
            pytest.skip(problem)
        replace_atomically(CACHE, archive)
    found = base64.b64encode(hashlib.sha512(CACHE.read_bytes()).digest()).decode()
    assert found == SHA512, f"{CACHE} is not {PACKAGE}: remove it"
    with tarfile.open(CACHE) as content:
        member = content.extractfile(MEMBER)
        assert member is not None
        schema: dict[str, Any] = json.load(member)
    return schema


def _fetched() -> tuple[bytes, str]:
    """Return the archive, or why there is none."""
    npm = shutil.which("npm")
    if npm is None:
        return b"", f"npm is missing, which fetches {PACKAGE}"
    with tempfile.TemporaryDirectory() as folder:
        # Unasked, npm tries for minutes where no registry answers.
        patience = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000"]
        command = [npm, "pack", "--loglevel=error", *patience, PACKAGE]
        ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if ended.returncode:
            return b"", f"npm does not fetch {PACKAGE}: {ended.stderr.strip().partition(chr(10))[0]}"
        return next(Path(folder).glob("*.tgz")).read_bytes(), ""
