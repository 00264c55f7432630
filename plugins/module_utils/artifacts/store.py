# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: files and trees by content, their records, and what origins gave the first time.

    artifacts/sha256/<ab>/<digest>      a file, read-only
    artifacts/trees/<ab>/<digest>/      a folder of links to files of the store
    artifacts/records/<digest>.json     what it is and where it came from
    artifacts/origins/<hash>.json       the digest that an origin gave the first time
    artifacts/.locks/, artifacts/.parts/

Everything gets its name only when it is complete: a crash leaves parts, never half an artifact.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Iterator, Mapping, Sequence

from ..host_store import artifact_path, sha256_of
from ..job import records as files_of_job
from . import tree
from .base import RESERVE, ArtifactError, Say

_HEX = frozenset("0123456789abcdef")


def is_digest(text: str) -> bool:
    """Return whether this is a sha256 as it names artifacts: 64 lower-case hexadecimal digits."""
    return len(text) == 64 and set(text) <= _HEX


class Store:
    """The artifacts below `root`: a host's home of benchfleet, or the controller's store."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser()
        self.base = self.root / "artifacts"

    # -- what is there ---------------------------------------------------------------------------

    def file_path(self, digest: str) -> Path:
        """Return where a file of this digest lies or would lie."""
        if not is_digest(digest):
            raise ArtifactError(f"{digest!r} is not a sha256 (64 hexadecimal digits).")
        return Path(artifact_path(str(self.root), digest))

    def tree_path(self, digest: str) -> Path:
        """Return where a tree of this digest lies or would lie."""
        self.file_path(digest)
        return self.base / "trees" / digest[:2] / digest

    def find(self, digest: str) -> Path | None:
        """Return where the artifact lies, None when it is not here."""
        for path in (self.file_path(digest), self.tree_path(digest)):
            if path.exists():
                return path
        record = self.record(digest) or {}
        own = record.get("in_place")
        return Path(own) if own and _unchanged(Path(own), record) else None

    def has(self, digest: str) -> bool:
        """Return whether the artifact is here."""
        return self.find(digest) is not None

    def path(self, digest: str) -> Path:
        """Return where the artifact lies. Raises ArtifactError when it is not here."""
        found = self.find(digest)
        if found is None:
            raise ArtifactError(f"{self.root} holds no artifact {digest}.")
        return found

    def record(self, digest: str) -> dict[str, Any] | None:
        """Return the record of an artifact, None when there is none."""
        return files_of_job.read_json(self._record_path(digest))

    def records(self) -> list[dict[str, Any]]:
        """Return the records of all artifacts, each with its "digest", by name."""
        found = []
        for path in (self.base / "records").glob("*.json"):
            record = files_of_job.read_json(path)
            if is_digest(path.stem) and record is not None:
                found.append({**record, "digest": path.stem})
        return sorted(found, key=lambda r: (str(r.get("name")), r["digest"]))

    def loose(self) -> list[str]:
        """Return the digests of files that belong to no artifact: what an obtaining that is not
        over has brought so far."""
        covered = set()
        for record in self.records():
            covered |= {record["digest"], *(e["sha256"] for e in record.get("files", {}).values())}
        there = (p.name for p in (self.base / "sha256").glob("??/*"))
        return sorted(d for d in there if is_digest(d) and d not in covered)

    # -- bringing in -----------------------------------------------------------------------------

    def part(self, key: str) -> Path:
        """Return where what `key` names (a digest, a URL) is downloaded to, until it is whole."""
        name = key if is_digest(key) else hashlib.sha256(key.encode()).hexdigest()
        folder = self.base / ".parts"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.part"

    def publish(self, part: Path, sha256: str) -> None:
        """Move a file that is known to have this digest to its place, without a record."""
        final = self.file_path(sha256)
        # a small file may have lost its content to a power cut before its tree was complete
        if final.exists() and final.stat().st_size == part.stat().st_size:
            part.unlink()
            return
        final.parent.mkdir(parents=True, exist_ok=True)
        part.chmod(0o444)
        if part.stat().st_size > 1 << 20:
            _sync(part)
        part.replace(final)

    def add_file(self, part: str | Path, sha256: str, record: Mapping[str, Any]) -> None:
        """Verify a file, move it into the store and write its record.

        Raises ArtifactError, and removes the part, when its content is not what `sha256` says.
        """
        actual = sha256_of(str(part))
        if actual != sha256:
            Path(part).unlink()
            raise ArtifactError(
                f"{record.get('name') or sha256} is damaged: sha256 {actual}, expected {sha256};"
                " it was discarded, run the command again."
            )
        count = Path(part).stat().st_size
        self.publish(Path(part), sha256)
        self.keep_file(sha256, {"bytes": count, **record})

    def keep_file(self, sha256: str, record: Mapping[str, Any]) -> bool:
        """Write the record of a file that is in the store; return True when that changed it."""
        about = {"bytes": self.file_path(sha256).stat().st_size, **record}
        return self._write_record(sha256, {**about, "kind": "file"})

    def tag(self, digest: str, tags: Sequence[str]) -> bool:
        """Add tags to the record of an artifact; return True when that changed it."""
        return self._write_record(digest, {"tags": tags})

    def add_tree(self, source: str | Path | tree.Files, record: Mapping[str, Any]) -> str:
        """Publish a folder (copied) or a listing of files that are in the store; return its digest.

        Raises ArtifactError for links out, devices, or a listing that names what is not here.
        """
        files = source if isinstance(source, dict) else self.take_folder(Path(source))
        tree.check(files)
        digest = tree.digest(files)
        final = self.tree_path(digest)
        if not final.is_dir():
            with self.lock(f"tree-{digest}"):
                self._assemble(files, final)
        kept = dict(record, kind="tree", bytes=tree.total(files), files=files)
        self._write_record(digest, kept)
        return digest

    def keep_in_place(self, digest: str, path: str, record: Mapping[str, Any]) -> bool:
        """Record an artifact that stays where the lab keeps it; return True if that changed it."""
        return self._write_record(digest, {**record, "in_place": path})

    def take_folder(self, folder: Path) -> tree.Files:
        """Copy the files below a folder into the store; return their listing."""
        return {
            safe: self.take_file(path, bool(about.st_mode & 0o100))
            for safe, path, about in tree.scan(folder)
        }

    def take_file(self, path: Path, executable: bool = False) -> dict[str, Any]:
        """Copy a file into the store; return it as an entry of a tree."""
        with path.open("rb") as source:
            blocks = iter(lambda: source.read(1 << 20), b"")
            sha256, count = self.take_stream(blocks, path.stat().st_size)
        return tree.entry(sha256, count, executable)

    def take_stream(self, blocks: Iterator[bytes], expected: int) -> tuple[str, int]:
        """Write bytes into the store; return (sha256, bytes). `expected` bytes must fit."""
        self.room(expected, "a file")
        digest = hashlib.sha256()
        count = 0
        handle, name = tempfile.mkstemp(prefix="file-", dir=self.part("").parent)
        try:
            with os.fdopen(handle, "wb") as target:
                for block in blocks:
                    target.write(block)
                    digest.update(block)
                    count += len(block)
            self.publish(Path(name), digest.hexdigest())
        finally:
            with contextlib.suppress(FileNotFoundError):
                Path(name).unlink()
        return digest.hexdigest(), count

    def room(self, need: int, what: str) -> None:
        """Raise ArtifactError when `need` bytes do not fit."""
        self.base.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.base).free
        if need + RESERVE > free:
            raise ArtifactError(
                f"{what} needs {need >> 20} MB, {self.base} has {free >> 20} MB free."
            )

    # -- locks and records -----------------------------------------------------------------------

    @contextlib.contextmanager
    def lock(self, name: str, say: Say | None = None) -> Iterator[None]:
        """Hold the lock of a digest or an origin's key; say so when another process has it."""
        folder = self.base / ".locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / name).open("a", encoding="utf-8") as f:
            try:
                fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if say:
                    say("another process is obtaining it; waiting for that")
                fcntl.flock(f, fcntl.LOCK_EX)
            yield

    def busy(self) -> bool:
        """Return whether any process obtains something just now."""
        for path in (self.base / ".locks").glob("*"):
            with path.open("rb") as f:
                try:
                    fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    return True
        return False

    def pin(self, origin: Mapping[str, Any]) -> str | None:
        """Return the digest that an origin gave the first time, None when it gave none yet."""
        found = files_of_job.read_json(self._pin_path(origin)) or {}
        digest = str(found.get("sha256"))
        return digest if is_digest(digest) else None

    def set_pin(self, origin: Mapping[str, Any], digest: str) -> None:
        """Remember what an origin gave. Raises ArtifactError when it gave something else before."""
        path = self._pin_path(origin)
        first = self.pin(origin)
        if first and first != digest:
            raise ArtifactError(
                f"{json.dumps(origin)} gave {digest}, the first time it gave {first}."
                f" If upstream changed it with good reason, remove {path}."
            )
        if not first:
            path.parent.mkdir(parents=True, exist_ok=True)
            files_of_job.write_json(path, {"origin": origin, "sha256": digest})

    def pin_name(self, origin: Mapping[str, Any]) -> str:
        """Return the file name of an origin's pin: the sha256 of its canonical JSON."""
        text = json.dumps(origin, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _pin_path(self, origin: Mapping[str, Any]) -> Path:
        return self.base / "origins" / f"{self.pin_name(origin)}.json"

    def _record_path(self, digest: str) -> Path:
        self.file_path(digest)
        return self.base / "records" / f"{digest}.json"

    def _write_record(self, digest: str, record: Mapping[str, Any]) -> bool:
        """Write or complete a record: tags add up, what the first obtaining said stays."""
        known = self.record(digest) or {}
        tags = sorted({*known.get("tags", []), *record.get("tags", [])})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        whole = {"obtained": now, **record, **known, "tags": tags}
        if "in_place" in record:  # the lab moved or renewed its copy
            whole.update(record, tags=tags)
        if whole == known:
            return False
        path = self._record_path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        files_of_job.write_json(path, whole)
        return True

    # -- taking away and checking ----------------------------------------------------------------

    def remove(self, digest: str) -> int:
        """Remove an artifact and what of it no other artifact needs; return the bytes freed.

        A copy that the lab keeps in its own place stays there, only its record goes.
        """
        with self.lock(digest):
            record = self.record(digest) or {}
            listed = record.get("files", {}).values()
            tree_folder = self.tree_path(digest)
            if tree_folder.is_dir():
                gone = Path(tempfile.mkdtemp(prefix="removed-", dir=self.part("").parent))
                tree_folder.rename(gone / "tree")
                shutil.rmtree(gone)
            with contextlib.suppress(FileNotFoundError):
                self._record_path(digest).unlink()
            return self.drop([digest, *(e["sha256"] for e in listed)])

    def drop(self, digests: list[str]) -> int:
        """Remove those of the files that belong to no artifact; return the bytes freed."""
        freed = 0
        for digest in set(digests) & set(self.loose()):
            path = self.file_path(digest)
            freed += path.stat().st_size
            path.unlink()
        return freed

    def verify(self, digest: str) -> list[str]:
        """Read an artifact again; return what is wrong with it, one sentence each."""
        path = self.path(digest)
        if not path.is_dir():
            return _differs(path, digest)
        record = self.record(digest) or {}
        listed: tree.Files = record.get("files", {})
        if tree.digest(listed) != digest:
            return [f"{self._record_path(digest)} does not list this tree"]
        problems = [p for name, e in listed.items() for p in _differs(path / name, e["sha256"])]
        found = {name for name, _path, _about in tree.scan(path)}
        return problems + [f"{path / name} does not belong there" for name in found - {*listed}]

    # -- inside ----------------------------------------------------------------------------------

    def _assemble(self, files: tree.Files, final: Path) -> None:
        """Make a tree of links to the store's files and put it in its place at once."""
        if final.is_dir():
            return
        staging = Path(tempfile.mkdtemp(prefix="tree-", dir=self.part("").parent))
        try:
            for path, about in files.items():
                target = staging / path
                target.parent.mkdir(parents=True, exist_ok=True)
                self._link(about, target)
            staging.chmod(0o755)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.sync()  # one for all: a file in a tree that has its name is whole on the disk too
            staging.rename(final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _link(self, about: Mapping[str, Any], target: Path) -> None:
        source = self.file_path(about["sha256"])
        if not source.is_file() or source.stat().st_size != about["bytes"]:
            raise ArtifactError(f"{source} is missing or damaged; obtain the artifact again.")
        if about["mode"] != tree.EXECUTABLE:
            try:
                os.link(str(source), str(target))
                return
            except OSError as e:
                if e.errno not in (errno.EMLINK, errno.EPERM, errno.EOPNOTSUPP, errno.EXDEV):
                    raise
        # links share their mode, and some file systems have none
        shutil.copyfile(str(source), str(target))
        target.chmod(int(about["mode"], 8))


def _unchanged(path: Path, record: Mapping[str, Any]) -> bool:
    """Return whether a copy in the lab's own place has the sizes and times it was read with."""
    for name, about in record["files"].items():
        try:
            found = (path / name if record["kind"] == "tree" else path).stat()
        except OSError:
            return False
        if about["stamp"] != [found.st_size, int(found.st_mtime)]:
            return False
    return True


def _differs(path: Path, sha256: str) -> list[str]:
    try:
        actual = sha256_of(str(path))
    except OSError as e:
        return [f"{path} cannot be read: {e.strerror}"]
    return [] if actual == sha256 else [f"{path} is damaged: its sha256 is {actual}"]


def _sync(path: Path) -> None:
    with path.open("rb") as f:
        os.fsync(f.fileno())
