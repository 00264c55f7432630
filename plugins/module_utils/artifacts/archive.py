# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives of the web: unpacked into the store without trusting what they say."""

from __future__ import annotations

import gzip
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any, Callable, Iterator

from .base import RESERVE, ArtifactError
from .store import Store
from .tree import Files, entry, follow, safe_path

_BLOCK = 1 << 20
_MOST_RATIO = 250  # data sets of mostly zeros reach 200, deflate can reach 1032
_FREE_BYTES = 64 << 20  # up to here the ratio is no matter
_MOST_MEMBERS = 5_000_000


def unpack(store: Store, archive: Path, kind: str, name: str) -> tuple[Files, bool]:
    """Put what an archive (tar, zip or gz) holds into the store; return (files, single file).

    Raises ArtifactError for links out, devices, unsafe paths, bombs, and damage.
    """
    limits = _Limits(store, archive, name)
    try:
        return _unpacked(limits, archive, kind)
    except BaseException:
        store.drop(limits.taken)
        raise


def _unpacked(limits: _Limits, archive: Path, kind: str) -> tuple[Files, bool]:
    name = limits.name
    try:
        if kind == "gz":
            with gzip.open(archive, "rb") as f:
                return {name: limits.take(f.read, 0, False)}, True
        return (_tar if kind == "tar" else _zip)(archive, limits), False
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, ValueError) as e:
        raise ArtifactError(f"{name} is no sound {kind} archive: {e}.") from None
    except OSError as e:
        if e.errno is not None:
            raise
        raise ArtifactError(f"{name} is no sound {kind} archive: {e}.") from None


class _Limits:
    """Counts what comes out of an archive, and ends what is out of all proportion."""

    def __init__(self, store: Store, archive: Path, name: str) -> None:
        self.name = name
        self._store = store
        self._most = max(_FREE_BYTES, archive.stat().st_size * _MOST_RATIO)
        self._bytes = self._members = self._looked = 0
        self.taken: list[str] = []

    def member(self) -> None:
        """Count a member of any kind."""
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise ArtifactError(f"{self.name} has more than {_MOST_MEMBERS} members; refused.")

    def take(self, read: Callable[[int], bytes], stated: int, executable: bool) -> dict[str, Any]:
        """Write a member into the store; return it as an entry of a tree."""
        if self._bytes + stated > self._most:
            self._refuse()
        sha256, count = self._store.take_stream(self._counted(read), stated)
        self.taken.append(sha256)
        return entry(sha256, count, executable)

    def _counted(self, read: Callable[[int], bytes]) -> Iterator[bytes]:
        for block in iter(lambda: read(_BLOCK), b""):
            self._bytes += len(block)
            if self._bytes > self._most:
                self._refuse()
            if self._bytes - self._looked > RESERVE // 4:
                self._looked = self._bytes
                self._store.room(0, self.name)
            yield block

    def _refuse(self) -> None:
        raise ArtifactError(
            f"{self.name} unpacks to more than {self._most >> 20} MB,"
            f" {_MOST_RATIO} times its size; it is refused."
        )


def _tar(archive: Path, limits: _Limits) -> Files:
    files: Files = {}
    links: dict[str, str] = {}
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            limits.member()
            if member.isdir():
                continue
            path = safe_path(member.name)
            source = tar.extractfile(member) if member.isreg() else None
            if source:
                files[path] = limits.take(source.read, member.size, bool(member.mode & 0o100))
            elif member.issym():
                links[path] = member.linkname
            elif member.islnk():
                target = safe_path(member.linkname)
                if target not in files:
                    raise ArtifactError(f"{limits.name}: {path} is a link to nothing before it.")
                files[path] = files[target]
            else:
                raise ArtifactError(f"{limits.name}: {path} is a device; the archive is refused.")
    return _with_links(files, links, limits.name)


def _zip(archive: Path, limits: _Limits) -> Files:
    files: Files = {}
    links: dict[str, str] = {}
    with zipfile.ZipFile(archive) as whole:
        for info in whole.infolist():
            limits.member()
            if info.is_dir():
                continue
            path, mode = safe_path(info.filename), info.external_attr >> 16
            if info.flag_bits & 1:
                raise ArtifactError(f"{limits.name}: {path} is encrypted.")
            with whole.open(info) as source:
                if stat.S_ISLNK(mode):
                    links[path] = source.read(4096).decode("utf-8", "surrogateescape")
                else:
                    files[path] = limits.take(source.read, info.file_size, bool(mode & 0o100))
    return _with_links(files, links, limits.name)


def _with_links(files: Files, links: dict[str, str], name: str) -> Files:
    made, dangling = follow(links, files)
    if dangling:
        raise ArtifactError(f"{name}: the link {dangling[0]} points to nothing in the archive.")
    return {**files, **made}
