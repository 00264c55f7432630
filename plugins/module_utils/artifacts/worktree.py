# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A developer's checkout as a tree of the store, with what it differs in from a known commit."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from . import tree
from .base import ArtifactError
from .store import Store

_LIMIT_S = 600


@dataclass(frozen=True)
class Worktree:
    """A checkout as it was published: its tree's digest and, of a git repository, its commit,
    whether it holds more than that commit, and its difference from the commit that was asked for
    (None when there is no such commit in the clone, or none was asked for)."""

    digest: str
    commit: str | None
    dirty: bool
    diff: str | None


def from_worktree(store: Store, path: str, against: str | None = None) -> Worktree:
    """Publish the files of a checkout: tracked and new ones, none that git ignores; of a plain
    folder all. Raises ArtifactError."""
    folder = Path(path).expanduser().resolve()
    if not folder.is_dir():
        raise ArtifactError(f"{path} is no folder on this host.")
    record = {
        "name": folder.name,
        "type": "source",
        "tags": ["source", "worktree"],
        "origin": {"path": str(folder)},
        "checked_by": "sha256",
    }
    if not (folder / ".git").exists():
        return Worktree(store.add_tree(folder, record), None, True, None)
    names = _git(folder, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    digest = store.add_tree(_files(store, folder, names.split("\0")), record)
    commit = _git(folder, "rev-parse", "-q", "--verify", "HEAD", fine=(0, 1)).strip() or None
    dirty = bool(_git(folder, "status", "--porcelain", "--ignore-submodules").strip())
    return Worktree(digest, commit, dirty, _diff(folder, against) if against else None)


def _files(store: Store, folder: Path, names: list[str]) -> tree.Files:
    files: tree.Files = {}
    links = {}
    for name in filter(None, names):
        path = folder / name
        if path.is_symlink():
            links[tree.safe_path(name)] = os.readlink(path)
        elif path.is_file():  # git lists a file that was deleted until that is committed
            executable = bool(path.stat().st_mode & 0o100)
            files[tree.safe_path(name)] = store.take_file(path, executable)
    made, _dangling = tree.follow(links, files)
    return {**files, **made}


def _diff(folder: Path, against: str) -> str | None:
    """Return the difference from a commit, new files too, without touching the clone's index."""
    if _git(folder, "cat-file", "-t", against, fine=(0, 1, 128)).strip() != "commit":
        return None
    new = _git(folder, "ls-files", "-z", "--others", "--exclude-standard")
    index = Path(_git(folder, "rev-parse", "--git-path", "index").strip())
    with tempfile.TemporaryDirectory() as temporary:
        own = {"GIT_INDEX_FILE": str(Path(temporary, "index"))}
        if (folder / index).exists():
            shutil.copyfile(folder / index, own["GIT_INDEX_FILE"])
        listed = Path(temporary, "new")
        listed.write_bytes(os.fsencode(new))
        if new:
            words = ["--pathspec-from-file", str(listed), "--pathspec-file-nul"]
            _git(folder, "--literal-pathspecs", "add", "--intent-to-add", *words, env=own)
        plain = ["--no-color", "--no-ext-diff", "--no-textconv", "--ignore-submodules"]
        return _git(folder, "diff", *plain, against, env=own)


def _git(
    folder: Path, *words: str, env: Mapping[str, str] | None = None, fine: tuple[int, ...] = (0,)
) -> str:
    """Run git in a checkout, with no program of its configuration; return what it says."""
    settings = ("core.fsmonitor=false", "core.hooksPath=/dev/null", "safe.directory=*")
    argv = ["git", "-C", str(folder), *(a for s in settings for a in ("-c", s)), *words]
    own = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE")}
    own.update({"GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C", **(env or {})})
    try:
        done = subprocess.run(argv, capture_output=True, env=own, timeout=_LIMIT_S, check=False)
    except OSError as e:
        raise ArtifactError(f"git cannot be run here: {e.strerror}.") from None
    except subprocess.TimeoutExpired:
        raise ArtifactError(f"git in {folder} did not end within {_LIMIT_S} s.") from None
    if done.returncode not in fine:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise ArtifactError(f"git in {folder}: {''.join(last) or 'it said nothing'}")
    return done.stdout.decode("utf-8", "surrogateescape")
