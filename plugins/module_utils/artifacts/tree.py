# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Trees: files by relative path, named together by one digest. No links, no way out of the tree."""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import stat
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping

from .base import ArtifactError

# path -> {"sha256": hex, "bytes": int, "mode": "0444" | "0555"}
Files = Dict[str, Dict[str, Any]]
PLAIN, EXECUTABLE = "0444", "0555"
_LINK_STEPS = 40  # as many as the kernel follows
_MOST_FILES = 5_000_000


def entry(sha256: str, count: int, executable: bool) -> dict[str, Any]:
    """Return a file of a tree as records hold it."""
    return {"sha256": sha256, "bytes": count, "mode": EXECUTABLE if executable else PLAIN}


def safe_path(path: str) -> str:
    """Return a relative path in its plain form (no ./, no doubled or trailing slash).

    Raises ArtifactError for one that is absolute, climbs, is empty or has control characters.
    """
    bad = path.startswith("/") or ".." in path.split("/") or any(ord(c) < 32 for c in path)
    plain = posixpath.normpath(path) if path else "."
    if bad or plain == ".":
        raise ArtifactError(f"{path!r} is refused as the path of a file in a tree.")
    return plain


def check(files: Files) -> None:
    """Raise ArtifactError when the listing cannot be a tree: unsafe paths, a file in a file."""
    if not files:
        raise ArtifactError("a tree without any file is refused.")
    if len(files) > _MOST_FILES:
        raise ArtifactError(f"a tree of {len(files)} files is refused: {_MOST_FILES} at most.")
    for path in files:
        if safe_path(path) != path:
            raise ArtifactError(f"{path!r} is refused as the path of a file in a tree.")
        parent = posixpath.dirname(path)
        while parent:
            if parent in files:
                raise ArtifactError(f"{parent} is a file and a folder at once ({path}).")
            parent = posixpath.dirname(parent)


def digest(files: Files) -> str:
    """Return the sha256 of the canonical JSON of {path: [sha256, executable]}: a tree's name."""
    listing = {p: [e["sha256"], e["mode"] == EXECUTABLE] for p, e in files.items()}
    text = json.dumps(listing, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def total(files: Files) -> int:
    """Return the bytes of all files of a tree."""
    return sum(e["bytes"] for e in files.values())


def scan(folder: Path) -> Iterator[tuple[str, Path, os.stat_result]]:
    """Yield (relative path, path, stat) of every file below a folder that the lab gave, in order.

    Links are followed: the usual copy of a model is a folder of links to its files. Raises
    ArtifactError for what is neither file nor folder, for a loop of links, and OSError.
    """

    def fail(error: OSError) -> None:
        raise error

    above: dict[str, tuple[tuple[int, int], ...]] = {}
    for base, folders, names in os.walk(folder, onerror=fail, followlinks=True):
        found = os.stat(base)
        own = (found.st_dev, found.st_ino)
        line = above.pop(base, ())
        if own in line:
            raise ArtifactError(f"{base} is a link to a folder above it; the tree has no end.")
        folders.sort()
        above.update((os.path.join(base, f), (*line, own)) for f in folders)
        for name in sorted(names):
            path = Path(base, name)
            about = path.stat()
            if not stat.S_ISREG(about.st_mode):
                raise ArtifactError(f"{path} is neither a file nor a folder.")
            yield path.relative_to(folder).as_posix(), path, about


def follow(links: Mapping[str, str], files: Files) -> tuple[Files, list[str]]:
    """Return what symbolic links of a tree stand for, as files of their own, and those that point
    to nothing.

    `links` is path -> target as written. Raises ArtifactError for a link out of the tree.
    """
    made: Files = {}
    dangling = []
    for path in links:
        target = _end(path, links)
        if target in files:
            made[path] = files[target]
            continue
        below = {f: e for f, e in files.items() if target and f.startswith(f"{target}/")}
        if not below:
            dangling.append(path)
        if len(made) + len(below) > _MOST_FILES:
            raise ArtifactError(f"links multiply the tree beyond {_MOST_FILES} files.")
        made.update({f"{path}{f[len(target) :]}": e for f, e in below.items()})
    return made, dangling


def leads_out(path: str, written: str) -> bool:
    """Return whether a link at `path` with this target leaves its tree."""
    target = posixpath.normpath(posixpath.join(posixpath.dirname(path), written))
    return written.startswith("/") or target.split("/")[0] == ".."


def _end(path: str, links: Mapping[str, str]) -> str:
    """Return the path at the end of a chain of links, "" for a chain without end."""
    for _step in range(_LINK_STEPS):
        written = links[path]
        if leads_out(path, written):
            raise ArtifactError(f"the link {path} -> {written} leads out of its tree.")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), written))
        if target not in links:
            return target
        path = target
    return ""
