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
def locked(path: str) -> Iterator[int]:
    """Hold an exclusive flock on `path` (made if missing): homes may be shared between hosts.

    Gives the file descriptor, for processes that must hold the lock even if this one ends.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with Path(path).open("a", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield f.fileno()


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
