# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host keeps that can be made anew: artifacts, environments, wheels, source folders."""

from __future__ import annotations

import fnmatch
import os
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from ..job import process, records, state
from .store import Store

# folder below the home, what is kept in it, its tags
_FOLDERS = (
    ("envs", "env", ["env"]),
    ("wheels", "wheels", ["wheels"]),
    ("src", "source", ["source"]),
    ("git", "git", ["git", "source"]),
)
_WORDS = {"job": ["job"], "loadgen": ["loadgen"]}


@dataclass(frozen=True)
class Entry:
    """One thing that a host keeps. `bytes` is what its files take, `digest` None unless it is an
    artifact; `used_by` tells who works with it: running jobs, downloads."""

    name: str
    type: str
    path: str
    bytes: int
    tags: list[str]
    digest: str | None = None
    used_by: list[str] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Return the entry as plain data."""
        return asdict(self)


def entries(store: Store) -> list[Entry]:
    """Return all that a store's root keeps, by name. Reads sizes, not contents."""
    found = [*_artifacts(store), *_folders(store.root), *_unfinished(store)]
    jobs = _jobs(store.root)
    return [
        replace(e, used_by=e.used_by + [f"job {j}" for j, text in jobs.items() if _used(e, text)])
        for e in sorted(found, key=lambda e: (e.type, e.name, e.path))
    ]


def chosen(
    found: Sequence[Entry], tags: Sequence[str], names: Sequence[str], kind: str | None = None
) -> list[Entry]:
    """Return the entries that have all the tags, one of the names (globs) and the type."""
    return [
        e
        for e in found
        if set(tags) <= {*e.tags, e.type}
        and (not names or any(fnmatch.fnmatchcase(e.name, n) for n in names))
        and kind in (None, e.type)
    ]


def clear(store: Store, wanted: Sequence[Entry], check: bool) -> tuple[list[Entry], int, list[str]]:
    """Remove entries, but none that a running job uses; return (gone, bytes freed, what stays and
    why). With `check` nothing is removed and the bytes are what it would free."""
    kept = [f"{e.name} stays: {e.used_by[0]} uses it" for e in wanted if e.used_by]
    gone = [e for e in wanted if not e.used_by]
    freed = freed_by(store, gone)
    if not check:
        for entry in gone:
            _remove(store, entry)
    return gone, freed, kept


def _remove(store: Store, entry: Entry) -> None:
    if entry.digest and entry.type != "unfinished":
        store.remove(entry.digest)
        return
    if entry.digest:
        store.drop([entry.digest])
        return
    path = Path(entry.path)
    if path.is_dir():
        # out of sight at once: what is half removed must not look like something complete
        gone = path.with_name(f".removed-{path.name}")
        path.rename(gone)
        shutil.rmtree(gone)
    else:
        path.unlink()


def freed_by(store: Store, gone: Sequence[Entry]) -> int:
    """Return the bytes that removing these entries would free: what others share stays."""
    records_by_digest = {r["digest"]: r for r in store.records()}
    leaving = {e.digest for e in gone if e.digest in records_by_digest}
    sizes: dict[str, int] = {}
    kept: set[str] = set()
    for digest, record in records_by_digest.items():
        own = {digest: 0 if record.get("files") else int(record.get("bytes", 0))}
        own.update({f["sha256"]: f["bytes"] for f in record.get("files", {}).values()})
        if digest not in leaving:
            kept |= own.keys()
        elif not record.get("in_place"):
            sizes.update(own)
    others = sum(e.bytes for e in gone if e.digest not in leaving)
    return others + sum(count for digest, count in sizes.items() if digest not in kept)


def problems(store: Store, entry: Entry) -> list[str]:
    """Read an artifact again; return what is wrong with it. Nothing else has a digest to go by."""
    if not entry.digest:
        return []
    if not store.has(entry.digest):
        return [f"{entry.path} is missing or was changed"]
    return store.verify(entry.digest)


def _artifacts(store: Store) -> Iterator[Entry]:
    for record in store.records():
        digest = record["digest"]
        found = store.find(digest)
        about = {k: v for k, v in record.items() if k not in ("files", "digest", "tags")}
        yield Entry(
            name=str(record.get("name", digest[:12])),
            type=str(record.get("type", "file")),
            path=str(found or store.tree_path(digest)),
            bytes=0 if record.get("in_place") else int(record.get("bytes", 0)),
            tags=list(record.get("tags", [])),
            digest=digest,
            about=dict(about, missing=True) if found is None else about,
        )


def _folders(root: Path) -> Iterator[Entry]:
    for folder, kind, tags in _FOLDERS:
        for path in sorted((root / folder).glob("*")):
            if path.is_dir():
                word = path.name.split("-")[0]
                more = _WORDS.get(word, ["harness", word] if folder == "src" else [word])
                own = tags if folder == "git" else [*tags, *more]
                yield Entry(path.name, kind, str(path), _bytes(path), own)


def _unfinished(store: Store) -> Iterator[Entry]:
    """Yield what downloads that are not over have left, and what crashed removals did."""
    users = ["a download under way"] if store.busy() else []
    for digest in store.loose():
        path = store.file_path(digest)
        count = path.stat().st_size
        yield Entry(digest[:12], "unfinished", str(path), count, ["unfinished"], digest, users)
    for path in sorted((store.base / ".parts").glob("*")):
        count = _bytes(path) if path.is_dir() else path.stat().st_size
        yield Entry(path.name, "unfinished", str(path), count, ["unfinished"], None, users)


def _bytes(folder: Path) -> int:
    """Return what the files of a folder take, each file once however many names it has."""
    seen: dict[tuple[int, int], int] = {}
    for base, _folders, names in os.walk(folder):
        for name in names:
            try:
                about = os.lstat(os.path.join(base, name))
            except OSError:  # removed while we look
                continue
            seen[about.st_dev, about.st_ino] = about.st_size
    return sum(seen.values())


def _jobs(root: Path) -> dict[str, str | None]:
    """Return {job: the text of its job.json} of jobs that are not over, on any host that shares
    this root; None for a text that cannot be read."""
    found: dict[str, str | None] = {}
    for host_dir in sorted((root / "hosts").glob("*")):
        for job_id, about in state.read(host_dir)["jobs"].items():
            if about.get("state") in state.UNFINISHED and not _is_dead(host_dir, job_id, about):
                try:
                    path = state.job_dir(host_dir, job_id) / "job.json"
                    found[job_id] = path.read_text(encoding="utf-8")
                except OSError:
                    found[job_id] = None
    return found


def _is_dead(host_dir: Path, job_id: str, about: Mapping[str, Any]) -> bool:
    """Return whether a job was this boot's of this host and its supervisor is gone: of another
    host's job nothing can be said from here."""
    boot = process.boot_id()
    status = records.read_json(state.job_dir(host_dir, job_id) / "status.json") or {}
    here = boot in (status.get("boot_id"), about.get("boot_id"))
    return here and not state.is_alive(host_dir, job_id, dict(about), boot)


def _used(entry: Entry, text: str | None) -> bool:
    if text is None:
        return True
    return entry.path in text or bool(entry.digest and entry.digest in text)
