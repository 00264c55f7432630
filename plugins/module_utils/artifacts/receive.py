# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's side of a delivery: take in what the controller sent, find what the cells need."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Mapping

from ..host_store import sha256_of
from . import layout, pack, tree
from .base import Access, ArtifactError
from .obtain import Obtained, obtain, resolve
from .store import Store

MOST_MISSING = 5000  # digests in one answer: module results stay small


def receive(store: Store, sent: Mapping[str, Any]) -> list[str]:
    """Publish the packs, parts and listings that were sent; return digests of files that a listed
    tree still lacks (at most MOST_MISSING).

    Raises ArtifactError for what is not what its name says; the rest stays for the next call.
    """
    for path in sent["packs"]:
        pack.unpack(store, Path(path))
        Path(path).unlink()
    for sha256, path in sent["parts"].items():
        record = sent["records"].get(sha256)
        if record is None:
            _take(store, Path(path), sha256)
        else:
            store.add_file(path, sha256, record)
    for sha256, record in sent["records"].items():
        if sha256 not in sent["parts"] and store.file_path(sha256).is_file():
            store.keep_file(sha256, record)
    for digest, path in sent["listings"].items():
        Path(path).replace(_listing(store, digest))
    wanted = [e["sha256"] for e in sent["wanted"] if e["sha256"]]
    missing = [f for d in wanted if _listing(store, d).exists() for f in _assemble(store, d)]
    return missing[:MOST_MISSING]


def find(store: Store, entry: Mapping[str, Any]) -> Obtained | None:
    """Return an artifact that is here already, None when it would have to be brought."""
    spec, digest = entry["spec"], entry["sha256"]
    digest = digest or (resolve(store, spec) if spec else None)
    path = store.find(digest) if digest else None
    own = next((o["path"] for o in (spec or {}).get("origins", []) if "path" in o), None)
    if path is None and own and Path(own).exists():
        return Obtained("", Path(own), False, "")
    return Obtained(digest or "", path, False, "sha256") if path else None


def have(store: Store, entry: Mapping[str, Any], access: Access) -> Obtained | None:
    """Return an artifact, taken from where its spec says; None when the controller has to send it.

    A copy of the lab's own is read where it lies, after it was found to hold what its layout asks
    for. Raises ArtifactError.
    """
    spec = entry["spec"]
    if spec is None:
        return find(store, entry)
    if entry["layout"]:
        (path,) = (o["path"] for o in spec["origins"])
        problems = layout.check_layout(Path(path), entry["layout"])
        if problems:
            raise ArtifactError(f"{spec['name']} is not whole: {'; '.join(problems[:3])}.")
    return obtain(store, spec, access, lambda _line: None)


def _take(store: Store, part: Path, sha256: str) -> None:
    """Publish a file of a tree that is not whole yet."""
    actual = sha256_of(str(part))
    if actual != sha256:
        part.unlink()
        raise ArtifactError(
            f"a transferred file is damaged: sha256 {actual}, expected {sha256};"
            " run the command again."
        )
    store.publish(part, sha256)


def _listing(store: Store, digest: str) -> Path:
    return store.base / ".parts" / f"listing-{digest}"


def _assemble(store: Store, digest: str) -> list[str]:
    """Make a tree of its waiting listing, or return what it still lacks."""
    listing = _listing(store, digest)
    try:
        record = json.loads(listing.read_text(encoding="utf-8"))
        files: tree.Files = record.pop("files")
        actual = tree.digest(files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        actual = ""
    if actual != digest:
        listing.unlink()
        raise ArtifactError(f"the listing of tree {digest} came damaged; run the command again.")
    lacking = {e["sha256"] for e in files.values() if not store.file_path(e["sha256"]).is_file()}
    if not lacking:
        store.add_tree(files, {k: v for k, v in record.items() if k not in ("kind", "bytes")})
        listing.unlink()
    return sorted(lacking)
