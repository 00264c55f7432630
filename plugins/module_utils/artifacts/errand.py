# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every origin is handed, and what it gives back."""

from __future__ import annotations

import contextlib
import json
import threading
from concurrent import futures
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

from . import download
from .base import Access, Progress, Say
from .store import Store
from .tree import Files, entry

_AT_ONCE = 4  # downloads of one artifact: many small files wait for answers more than for bytes


@dataclass(frozen=True)
class Errand:
    """One artifact to bring: into which store, under which name, by the lab's settings.

    `sha256` is the digest of the whole artifact where it is known, `bytes` its size.
    """

    store: Store
    name: str
    access: Access
    say: Say = field(repr=False)
    sha256: str | None = None
    bytes: int | None = None

    def progress(self, total: int | None) -> Progress:
        """Return a counter of bytes that speaks for this artifact."""
        return Progress(self.say, self.name, total)

    def bring(self, remote: download.Remote, progress: Progress) -> dict[str, Any]:
        """Bring one file of the web into the store; return it as an entry of a tree."""
        key = remote.sha256 or remote.url
        part = self.store.part(key)
        with self.store.lock(f"part-{part.stem}", self.say):
            if remote.sha256 and self.store.file_path(remote.sha256).is_file():
                path = self.store.file_path(remote.sha256)
                progress.add(path.stat().st_size)
                return entry(remote.sha256, path.stat().st_size, False)
            sha256 = download.fetch(remote, part, self.access, progress)
            count = part.stat().st_size
            self.store.publish(part, sha256)
        return entry(sha256, count, False)

    def bring_all(self, remotes: Mapping[str, download.Remote], unverified: int = 0) -> Taken:
        """Bring the files of an upstream's list, a few at a time.

        What came is noted, so that a later call goes on where this one stopped; the first fault
        ends all. Raises ArtifactError.
        """
        sizes = [r.size for r in remotes.values()]
        whole = sum(s for s in sizes if s is not None)
        notes = _Notes(self.store, remotes)
        done = {p: e for p, e in notes.read().items() if self._is_here(e)}
        need = whole or self.bytes or 0
        self.store.room(max(0, need - sum(e["bytes"] for e in done.values())), self.name)
        progress = self.progress(need)
        progress.add(sum(e["bytes"] for e in done.values()))
        files = dict(done)

        def one(path: str) -> None:
            files[path] = self.bring(remotes[path], progress)
            notes.add(path, files[path])

        with futures.ThreadPoolExecutor(_AT_ONCE) as pool:
            todo = [pool.submit(one, path) for path in remotes if path not in done]
            futures.wait(todo, return_when=futures.FIRST_EXCEPTION)
            for waiting in todo:
                waiting.cancel()
        for ended in todo:
            if not ended.cancelled():
                ended.result()
        return Taken(files, "upstream manifest", unverified=unverified, notes=notes.path)

    def _is_here(self, about: Mapping[str, Any]) -> bool:
        path = self.store.file_path(about["sha256"])
        return path.is_file() and path.stat().st_size == about["bytes"]


class _Notes:
    """Which files of a list came already: lines of JSON beside the parts."""

    def __init__(self, store: Store, remotes: Mapping[str, download.Remote]) -> None:
        key = json.dumps([[p, r.url, r.sha256, r.md5, r.git_sha1] for p, r in remotes.items()])
        self.path = store.part(key).with_suffix(".done")
        self._lock = threading.Lock()

    def read(self) -> Files:
        """Return the files noted so far; a last line that a crash cut off is passed over."""
        found: Files = {}
        if self.path.exists():
            for line in self.path.read_text(encoding="utf-8").splitlines():
                with contextlib.suppress(ValueError):
                    path, about = json.loads(line)
                    found[path] = about
        return found

    def add(self, path: str, about: Mapping[str, Any]) -> None:
        """Note a file that is in the store."""
        with self._lock, self.path.open("a", encoding="utf-8") as f:
            f.write(json.dumps([path, about]) + "\n")


@dataclass(frozen=True)
class Taken:
    """What an origin gave: files that are in the store now, or a copy in a place of the lab's.

    `single` tells that the artifact is this one file and no tree; `in_place` is the path of a copy
    that stays where it is; `unverified` counts files for which upstream publishes no digest;
    `notes` lists what came so far and has no use once the artifact is published.
    """

    files: Files
    checked_by: str
    single: bool = False
    in_place: str | None = None
    unverified: int = 0
    notes: Path | None = None
