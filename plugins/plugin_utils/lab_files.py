# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Develop in place: the lab's own tree of a harness or of LoadGen, in place of the pinned one."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..module_utils.artifacts.base import Access, shown
from ..module_utils.artifacts.git import commit_of
from ..module_utils.artifacts.obtain import obtain
from ..module_utils.artifacts.store import Store
from ..module_utils.artifacts.worktree import from_worktree
from ..module_utils.host_store import HostError
from .errors import BenchfleetError
from .needs import Lab


class Own:
    """Takes the lab's trees into the controller's store, each once a call.

    `differences` goes from the digest of a tree to its difference from the pinned commit, as text.
    """

    def __init__(self, store: Store, lab: Lab, access: Access) -> None:
        self._store, self._lab, self._access = store, lab, access
        self._taken: dict[tuple[str, str | None], str] = {}
        self.differences: dict[str, str] = {}

    def loadgen(self, path: str | None) -> str | None:
        """Return the digest of a folder that LoadGen is built from, None without one.

        Raises BenchfleetError when it is no source tree of LoadGen.
        """
        if not path:
            return None
        folder = Path(path).expanduser()
        if not (folder / "setup.py").is_file():
            raise BenchfleetError(
                f"loadgen_source={path} is not the folder of LoadGen's sources on this controller:"
                " it has no setup.py. (In a clone of mlcommons/inference it is loadgen/.)"
            )
        return self._tree(str(folder), None, [])

    def source(self, need: dict[str, Any] | None) -> None:
        """Put the digest of an overridden source tree into its need. Raises BenchfleetError."""
        if need and need["override"]:
            origin = need["artifact"]["origins"][0]
            need["sha256"] = self._tree(need["override"], origin["commit"], origin["paths"])

    def copy(self, name: str, path: str) -> str:
        """Return the digest of a model or dataset of the lab's on this controller; it stays where
        it is. Raises BenchfleetError when it cannot be read."""
        spec = {"name": name, "origins": [{"path": path}]}
        try:
            return obtain(self._store, spec, self._access, lambda _line: None).digest
        except HostError as e:
            raise BenchfleetError(str(e)) from None
        except OSError as e:
            raise BenchfleetError(f"{path} cannot be read: {e.strerror}.") from None

    def _tree(self, where: str, pinned: str | None, paths: list[str]) -> str:
        if (where, pinned) not in self._taken:
            try:
                self._taken[where, pinned] = self._take(where, pinned, paths)
            except HostError as e:
                raise BenchfleetError(str(e)) from None
        return self._taken[where, pinned]

    def _take(self, where: str, pinned: str | None, paths: list[str]) -> str:
        url, _at, ref = where.rpartition("@")
        if "://" in url and urlsplit(url).path.strip("/"):  # else the @ follows a user's name
            commit = commit_of(self._store, url, ref, self._access)
            origin = {"git": url, "commit": commit, "paths": paths}
            spec = {"name": "source", "type": "source", "origins": [origin], "tags": ["override"]}
            digest = obtain(self._store, spec, self._access, lambda _line: None).digest
            self.differences[digest] = f"{shown(url)} at {commit} in place of {pinned}\n"
            return digest
        folder = Path(where).expanduser()
        if not folder.is_absolute() or not folder.is_dir():
            raise BenchfleetError(
                f"source_override={shown(where)} is neither the absolute path of a folder on this"
                " controller nor <URL>@<branch, tag or commit>."
            )
        taken = from_worktree(self._store, str(folder), pinned)
        if taken.diff:
            self.differences[taken.digest] = taken.diff
        return taken.digest
