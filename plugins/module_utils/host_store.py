# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What benchfleet keeps on a host: source files and artifacts by content, each published
atomically."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import os
import tempfile
from typing import Any, Iterator


class HostError(Exception):
    """A fault on the host that a person can mend; its text is the whole message."""


def sha256_of(path: str) -> str:
    """Return the sha256 (hex) of a file, in constant memory. Raises OSError."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold an exclusive flock on `path` (made if missing): homes may be shared between hosts."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "a", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def write_files(folder: str, files: list[dict[str, Any]], check: bool) -> bool:
    """Make `folder` hold exactly the given files ({"path", "content": base64}); return True if it
    changed.

    The folder is named by its content, so an existing complete one is never written again.
    """
    if os.path.exists(os.path.join(folder, ".complete")):
        return False
    if check:
        return True
    parent = os.path.dirname(folder)
    os.makedirs(parent, exist_ok=True)
    staging = tempfile.mkdtemp(prefix=".partial-", dir=parent)
    for entry in files:
        target = os.path.join(staging, entry["path"])
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb") as f:
            f.write(base64.b64decode(entry["content"]))
    with open(os.path.join(staging, ".complete"), "w", encoding="utf-8"):
        pass
    os.chmod(staging, 0o755)
    try:
        os.rename(staging, folder)
    except OSError:
        if not os.path.exists(os.path.join(folder, ".complete")):
            raise
    return True


def artifact_path(home: str, sha256: str) -> str:
    """Return where the artifact of this digest lives."""
    return os.path.join(home, "artifacts", "sha256", sha256[:2], sha256)


def missing_artifacts(home: str, digests: list[str]) -> list[str]:
    """Return those of `digests` that the host does not hold."""
    return [d for d in digests if not os.path.isfile(artifact_path(home, d))]


def publish_artifact(home: str, sha256: str, part: str) -> None:
    """Verify a transferred part file and move it to its place.

    Raises HostError (and removes the part) when its content is not what its name says.
    """
    actual = sha256_of(part)
    if actual != sha256:
        os.unlink(part)
        raise HostError(
            f"a transferred artifact is damaged: sha256 {actual}, expected {sha256}; run the command again."
        )
    target = artifact_path(home, sha256)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    os.chmod(part, 0o444)
    os.rename(part, target)


def path_digest(path: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return {"size", "mtime", "sha256"} of a file or folder of files that stays in its place.

    `known` is an earlier record: the digest is taken from it while size and mtime are the same.
    Raises HostError when the path cannot be read.
    """
    try:
        stat = os.stat(path)
        if not os.path.isdir(path):
            record: dict[str, Any] = {"size": stat.st_size, "mtime": int(stat.st_mtime)}
            if {k: known.get(k) for k in record} == record:
                return known
            return dict(record, sha256=sha256_of(path))
        tree = hashlib.sha256()
        for name in sorted(os.listdir(path)):
            full = os.path.join(path, name)
            if os.path.isfile(full):
                tree.update(f"{name}\0{sha256_of(full)}\n".encode())
        return {"size": stat.st_size, "mtime": int(stat.st_mtime), "sha256": tree.hexdigest()}
    except OSError as e:
        raise HostError(f"{path} cannot be read on this host: {e.strerror}.") from None
