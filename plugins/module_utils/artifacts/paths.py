# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifacts that lie in a place of the lab's already: taken where they are, or copied."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from ..host_store import sha256_of
from . import tree
from .base import ArtifactError
from .errand import Errand, Taken


def take(errand: Errand, origin: Mapping[str, Any]) -> Taken:
    """Take a file or folder of this host: read where it lies, with `copy` into the store.

    Raises ArtifactError when it is not there or cannot be read.
    """
    path = Path(origin["path"]).expanduser()
    if not path.exists():
        raise ArtifactError(f"{path} is not on this host.")
    if not origin.get("copy"):
        return _in_place(errand, path)
    if not path.is_dir():
        return Taken({path.name: errand.store.take_file(path)}, "sha256", single=True)
    errand.store.room(sum(about.st_size for _n, _p, about in tree.scan(path)), str(path))
    return Taken(errand.store.take_folder(path), "sha256")


def _in_place(errand: Errand, path: Path) -> Taken:
    """Read a copy that stays where it is; a file read before is believed while its size and time
    are the same."""
    known = _known(errand, path)
    single = not path.is_dir()
    found = [(path.name, path, path.stat())] if single else list(tree.scan(path))
    progress = errand.progress(sum(about.st_size for _n, _p, about in found))
    files: tree.Files = {}
    for name, full, about in found:
        stamp = [about.st_size, int(about.st_mtime)]
        before = known.get(name, {})
        same = before.get("stamp") == stamp
        sha256 = before["sha256"] if same else sha256_of(str(full))
        mode = bool(about.st_mode & 0o100) and not single
        files[name] = dict(tree.entry(sha256, about.st_size, mode), stamp=stamp)
        progress.add(about.st_size)
    return Taken(files, "sha256", single=single, in_place=str(path))


def _known(errand: Errand, path: Path) -> tree.Files:
    """Return what an earlier reading of the same copy found."""
    for record in errand.store.records():
        if record.get("in_place") == str(path):
            files: tree.Files = record.get("files", {})
            return files
    return {}
