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
import shutil
import tempfile
from pathlib import Path
from typing import Any, Iterator


class HostError(Exception):
    """A fault on the host that a person can mend; its text is the whole message.

    `log` is the file on the host that holds the whole story, None where there is none.
    """

    def __init__(self, text: str, log: str | None = None) -> None:
        super().__init__(text)
        self.log = log


def sha256_of(path: str) -> str:
    """Return the sha256 (hex) of a file, in constant memory. Raises OSError."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as f:
        for block in iter(lambda: f.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """Hold an exclusive flock on `path` (made if missing): homes may be shared between hosts."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def write_files(folder: str, files: list[dict[str, Any]], check: bool) -> bool:
    """Make `folder` hold exactly the given files ({"path", "content": base64}); return True if it
    changed.

    The folder is named by its content, so an existing complete one is never written again; what an
    interrupted removal left of one is replaced.
    """
    final = Path(folder)
    if (final / ".complete").exists():
        return False
    if check:
        return True
    final.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".partial-", dir=final.parent))
    try:
        for entry in files:
            target = staging / entry["path"]
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(base64.b64decode(entry["content"]))
        (staging / ".complete").touch()
        staging.chmod(0o755)
        _put(staging, final)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return True


def _put(staging: Path, final: Path) -> None:
    """Rename `staging` to `final`, unless another host of a shared home was faster."""
    with locked(str(final.parent / ".lock")):
        if (final / ".complete").exists():
            return
        shutil.rmtree(final, ignore_errors=True)
        staging.rename(final)


def artifact_path(home: str, sha256: str) -> str:
    """Return where the artifact of this digest lives."""
    return str(Path(home, "artifacts", "sha256", sha256[:2], sha256))


def missing_artifacts(home: str, digests: list[str]) -> list[str]:
    """Return those of `digests` that the host does not hold."""
    return [d for d in digests if not Path(artifact_path(home, d)).is_file()]


def publish_artifact(home: str, sha256: str, part: str) -> None:
    """Verify a transferred part file and move it to its place.

    Raises HostError (and removes the part) when its content is not what its name says.
    """
    actual = sha256_of(part)
    if actual != sha256:
        Path(part).unlink()
        raise HostError(
            f"a transferred artifact is damaged: sha256 {actual}, expected {sha256};"
            " run the command again."
        )
    target = Path(artifact_path(home, sha256))
    target.parent.mkdir(parents=True, exist_ok=True)
    Path(part).chmod(0o444)
    Path(part).rename(target)


def path_digest(path: str, known: dict[str, Any]) -> dict[str, Any]:
    """Return {"size", "mtime", "sha256"} of a file or folder of files that stays in its place.

    `known` is an earlier record: the digest is taken from it while size and mtime are the same.
    Raises HostError when the path cannot be read.
    """
    try:
        stat = Path(path).stat()
        if not Path(path).is_dir():
            record: dict[str, Any] = {"size": stat.st_size, "mtime": int(stat.st_mtime)}
            if {k: known.get(k) for k in record} == record:
                return known
            return dict(record, sha256=sha256_of(path))
        tree = hashlib.sha256()
        for full in sorted(Path(path).iterdir()):
            if full.is_file():
                tree.update(os.fsencode(full.name) + f"\0{sha256_of(str(full))}\n".encode())
        return {"size": stat.st_size, "mtime": int(stat.st_mtime), "sha256": tree.hexdigest()}
    except OSError as e:
        raise HostError(f"{path} cannot be read on this host: {e.strerror}.") from None
