# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Judge what a SUT handed over before it counts as evidence.

A SUT is not trusted: its manifest may name paths outside the run, files that do not exist or sizes
that would fill the controller's disk. Nothing here connects to a host; `transfer` does that.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import BenchfleetError

MANIFEST = "manifest.json"
FORMAT = 1
NAME_BYTES = 200  # below the 255 of common file systems, with room for our own suffixes
PATH_BYTES = 800  # two of them, quoted, fit sftp's 2048-byte command line
DEPTH = 8
CHUNK = 1 << 20

_RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


class CollectError(BenchfleetError):
    """Something a person must look at: what is wrong, where, and what to do about it."""

    def __init__(self, what: str, where: str, do: str) -> None:
        super().__init__(what, where, do)
        self.what = what
        self.where = where
        self.do = do

    def __str__(self) -> str:
        return f"{self.where}: {self.what}. {self.do}"


class EvidenceError(CollectError):
    """What the SUT handed over contradicts its manifest, or the manifest is not acceptable."""


@dataclass(frozen=True)
class Limits:
    """The most that one run may bring: count of files, bytes in sum, bytes of the manifest."""

    files: int = 10_000
    bytes: int = 50_000_000_000
    manifest: int = 4_000_000


@dataclass(frozen=True)
class Entry:
    """One file as the manifest claims it: lower-case hex digest and size in bytes."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Manifest:
    """A checked manifest: every path in `files` is relative, plain and free of collisions."""

    run_id: str
    files: Mapping[str, Entry]

    @property
    def bytes(self) -> int:
        """Sum of all sizes."""
        return sum(entry.size for entry in self.files.values())


@dataclass(frozen=True)
class Seen:
    """A digest together with the state of the file it was computed from."""

    sha256: str
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, sha256: str, status: os.stat_result) -> Seen:
        """The digest, tied to the inode, size and modification time of `status`."""
        return cls(sha256, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class Problem:
    """One deviation from the manifest.

    `kind` is missing, extra, symlink, special, size or digest.
    """

    path: str
    kind: str
    detail: str

    def __str__(self) -> str:
        return f"{self.path}: {self.detail}"


def valid_run_id(text: str) -> bool:
    """Whether `text` can be a run's directory name: 1 to 100 letters, digits, `_`, `-`, `.`."""
    return len(text) <= 100 and _RUN_ID.fullmatch(text) is not None


def parse_manifest(raw: bytes, limits: Limits | None = None, where: str = MANIFEST) -> Manifest:
    """Read an untrusted manifest; `where` names it in errors.

    Raises EvidenceError for anything but a well-formed manifest within `limits`.
    """
    limits = limits or Limits()
    document = _load(raw, limits, where)
    if document.get("format") != FORMAT or isinstance(document.get("format"), bool):
        raise _refused(f"format is {_short(document.get('format'))}, not {FORMAT}", where)
    run_id = document.get("run_id")
    if not isinstance(run_id, str) or not valid_run_id(run_id):
        raise _refused(f"run_id {_short(run_id)} is not a run's name", where)
    listed = document.get("files")
    if not isinstance(listed, dict):
        raise _refused("files is not an object", where)
    if len(listed) > limits.files:
        raise _refused(f"{len(listed)} files, more than the limit of {limits.files}", where)
    files: dict[str, Entry] = {}
    total = 0
    for path, claim in listed.items():
        fault = _path_fault(path)
        if fault:
            raise _refused(f"path {_short(path)} {fault}", where)
        files[path] = entry = _entry(path, claim, limits, where)
        total += entry.size
    if total > limits.bytes:
        raise _refused(f"{total} bytes in sum, more than the limit of {limits.bytes}", where)
    _refuse_collisions(files, where)
    return Manifest(run_id, files)


def digest_file(path: Path) -> Seen:
    """SHA-256 of a regular file in constant memory; symbolic links are not followed (OSError)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        digest = hashlib.sha256()
        buffer = bytearray(CHUNK)
        view = memoryview(buffer)
        while count := file.readinto(buffer):
            digest.update(view[:count])
        return Seen.of(digest.hexdigest(), os.fstat(descriptor))


def verify(
    folder: Path, manifest: Manifest, known: Mapping[str, Seen] | None = None
) -> list[Problem]:
    """Compare `folder` with `manifest`; an empty list means that they agree.

    `known` holds digests computed earlier; one counts only while inode, size and modification time
    of its file are unchanged. Raises OSError when the folder cannot be read.
    """
    known = known or {}
    found: dict[str, os.stat_result] = {}
    problems: list[Problem] = []
    parents = {up for path in manifest.files for up in _ancestors(path)}
    for path, status in _walk(folder):
        if stat.S_ISDIR(status.st_mode):
            if path not in parents:
                problems.append(Problem(path, "extra", "a folder that is not in the manifest"))
        elif path in manifest.files:
            found[path] = status
        elif path != MANIFEST:
            problems.append(Problem(path, "extra", "not in the manifest"))
    for path, entry in manifest.files.items():
        problem = _check(folder / path, path, entry, found.get(path), known.get(path))
        if problem:
            problems.append(problem)
    return sorted(problems, key=lambda problem: problem.path)


def publish(incoming: Path, final: Path) -> None:
    """Make `incoming` durable and rename it to `final`, both on one file system.

    Raises EvidenceError when `final` exists: a collected run is never replaced.
    """
    if os.path.lexists(final):
        raise EvidenceError(
            "a run is already collected under this name",
            str(final),
            f"Nothing was changed; compare it with {incoming} and remove one of the two.",
        )
    for path, status in _walk(incoming):
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            _sync(incoming / path)
    _sync(incoming)
    final.parent.mkdir(parents=True, exist_ok=True)
    incoming.rename(final)
    _sync(final.parent)
    if incoming.parent != final.parent:
        _sync(incoming.parent)


def _refused(what: str, where: str) -> EvidenceError:
    return EvidenceError(
        what, where, "The run is not collected; look at the run directory on the SUT."
    )


def _short(value: object) -> str:
    text = ascii(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _load(raw: bytes, limits: Limits, where: str) -> dict[str, object]:
    if len(raw) > limits.manifest:
        raise _refused(f"{len(raw)} bytes, more than the limit of {limits.manifest}", where)

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        fields = dict(pairs)
        if len(fields) != len(pairs):
            names = [name for name, _value in pairs]
            twice = next(name for name in fields if names.count(name) > 1)
            raise _refused(f"{_short(twice)} is listed twice", where)
        return fields

    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise _refused(f"not readable as JSON ({_short(str(error))})", where) from None
    if not isinstance(document, dict):
        raise _refused("not a JSON object", where)
    return document


def _path_fault(path: str) -> str | None:
    """Why `path` may not be written below a run's folder, or None."""
    if not path:
        return "is empty"
    if path.startswith("/"):
        return "is absolute"
    if "\\" in path:
        return "holds a backslash"
    if any(unicodedata.category(letter) in _UNPRINTABLE for letter in path):
        return "holds a control or invisible character"
    if len(path.encode()) > PATH_BYTES:
        return f"is longer than {PATH_BYTES} bytes"
    parts = path.split("/")
    if len(parts) > DEPTH:
        return f"is deeper than {DEPTH} levels"
    if any(part in ("", ".", "..") for part in parts):
        return "has an empty, `.` or `..` part"
    if any(len(part.encode()) > NAME_BYTES for part in parts):
        return f"has a name longer than {NAME_BYTES} bytes"
    if _fold(path) == MANIFEST:
        return "is the manifest itself"
    return None


def _entry(path: str, claim: object, limits: Limits, where: str) -> Entry:
    if not isinstance(claim, dict):
        raise _refused(f"{_short(path)} has no sha256 and size", where)
    digest, size = claim.get("sha256"), claim.get("size")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise _refused(f"{_short(path)} has the sha256 {_short(digest)}", where)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= limits.bytes:
        raise _refused(f"{_short(path)} has the size {_short(size)}", where)
    return Entry(digest, size)


def _fold(path: str) -> str:
    """One key for all spellings that some file system takes for the same name."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _ancestors(path: str) -> Iterator[str]:
    """The folders above `path`, outermost first, without the root."""
    position = path.find("/")
    while position >= 0:
        yield path[:position]
        position = path.find("/", position + 1)


def _refuse_collisions(files: Mapping[str, Entry], where: str) -> None:
    taken: dict[str, str] = {}
    for path in files:
        other = taken.setdefault(_fold(path), path)
        if other != path:
            raise _refused(f"{_short(path)} and {_short(other)} differ only in spelling", where)
    folders: dict[str, str] = {}
    for path in files:
        for above in _ancestors(path):
            key = _fold(above)
            if key in taken or key == MANIFEST:
                raise _refused(f"{_short(above)} is both a file and a folder", where)
            other = folders.setdefault(key, above)
            if other != above:
                what = f"{_short(above)} and {_short(other)} differ only in spelling"
                raise _refused(what, where)


def _walk(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below `folder` as (relative path, lstat), no link followed, any depth."""
    waiting = [""]
    while waiting:
        base = waiting.pop()
        with os.scandir(folder / base) as entries:
            for entry in entries:
                path = f"{base}/{entry.name}" if base else entry.name
                status = entry.stat(follow_symlinks=False)
                yield path, status
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(path)


def _check(
    file: Path, path: str, entry: Entry, status: os.stat_result | None, seen: Seen | None
) -> Problem | None:
    if status is None:
        return Problem(path, "missing", "in the manifest, but not there")
    if stat.S_ISLNK(status.st_mode):
        return Problem(path, "symlink", "a symbolic link, not a file")
    if not stat.S_ISREG(status.st_mode):
        return Problem(path, "special", "neither a file nor a folder")
    if status.st_size != entry.size:
        return Problem(path, "size", f"{status.st_size} bytes, the manifest says {entry.size}")
    if seen is None or seen != Seen.of(seen.sha256, status):
        seen = digest_file(file)
    if seen.sha256 != entry.sha256:
        return Problem(path, "digest", f"sha256 {seen.sha256}, the manifest says {entry.sha256}")
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
