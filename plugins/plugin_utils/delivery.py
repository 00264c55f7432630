# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take artifacts of the controller to a host: only what it lacks, many small files as one.

The host says what it misses, gets it as parts, and says again: first whole artifacts, then, once it
has a tree's listing, single files. What it has taken stays, so an interrupted delivery goes on.
"""

from __future__ import annotations

import json
import secrets
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..module_utils.artifacts import pack
from ..module_utils.artifacts.store import Store
from . import transfer
from .errors import BenchfleetError

Run = Callable[[dict[str, Any]], dict[str, Any]]
_ROUNDS = 200  # deliveries of one call; each brings something, so this ends nothing that works


@dataclass
class Goods:
    """What the controller can give: files by digest where they lie, and its store's artifacts.

    `records` say what each artifact is; a tree's record holds the listing of its files.
    """

    store: Store
    files: dict[str, Path] = field(default_factory=dict)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, digest: str) -> None:
        """Offer an artifact of the store."""
        record = self.store.record(digest) or {"kind": "file"}
        self.records[digest] = record
        own = record.get("in_place")  # the lab's copy is sent from where it lies
        if record.get("kind") != "tree":
            self.files[digest] = Path(own) if own else self.store.path(digest)
        elif own:
            self.files.update({e["sha256"]: Path(own, n) for n, e in record["files"].items()})

    def path(self, sha256: str) -> Path:
        """Return where a file lies. Raises BenchfleetError when it is gone."""
        found = self.files.get(sha256) or self.store.file_path(sha256)
        if not found.is_file():
            raise BenchfleetError(f"{found} is gone from the controller; run the command again.")
        return found


def deliver(
    connection: Any, home: str, goods: Goods, first: dict[str, Any], run: Run
) -> dict[str, Any]:
    """Bring what the host's answer `first` misses; `run` calls its module with what was sent.

    Returns the last answer, with `changed` where anything was sent. Raises BenchfleetError when the
    host goes on missing the same.
    """
    answer, before = first, ""
    for _round in range(_ROUNDS):
        wanted = [d for d in answer.get("missing_artifacts", ()) if d in goods.records]
        files = answer.get("missing_files", [])
        if "fault" in answer or not (wanted or files):
            return answer
        now = json.dumps([wanted, files])
        if now == before:
            raise BenchfleetError(f"{home} does not keep what is sent to it: {wanted or files}")
        before = now
        answer = dict(run(_send(connection, home, goods, wanted, files)), changed=True)
    raise BenchfleetError("the host asks for artifacts without end.")


def _send(
    connection: Any, home: str, goods: Goods, wanted: list[str], files: list[str]
) -> dict[str, Any]:
    """Push listings of trees, packs of small files and large files; return what the module needs
    to find them."""
    with tempfile.TemporaryDirectory(prefix="benchfleet-pack-") as folder:
        trees = [d for d in wanted if goods.records[d].get("kind") == "tree"]
        blobs = [*files, *(d for d in wanted if d not in trees)]
        sends: list[tuple[Path, str]] = []
        for digest in trees:
            listing = Path(folder, digest)
            listing.write_text(json.dumps(_listing(goods.records[digest])), encoding="utf-8")
            sends.append((listing, _part(home)))
        packed = Path(folder, "pack")
        stored = [d for d in blobs if goods.store.file_path(d).is_file()]
        if len(stored) > 1:
            small = pack.pack(goods.store, stored, packed)
            sends.append((packed, _part(home)))
            blobs = [d for d in blobs if d not in set(small)]
        sends += [(goods.path(d), _part(home)) for d in blobs]
        arrived = transfer.push(connection, sends)
    known = dict(zip((p for p, _r in sends), arrived, strict=True))
    return {
        "listings": {d: known[Path(folder, d)] for d in trees},
        "packs": [known[packed]] if packed in known else [],
        "parts": dict(zip(blobs, arrived[len(arrived) - len(blobs) :], strict=True)),
        "records": {d: _about(goods.records[d]) for d in wanted if d not in trees},
    }


def _part(home: str) -> str:
    return f"{home}/artifacts/.parts/sent-{secrets.token_hex(8)}"


def _listing(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a tree's record as the host keeps it: nothing of where and when it lay here."""
    about = ("sha256", "bytes", "mode")
    files = {name: {k: entry[k] for k in about} for name, entry in record["files"].items()}
    return {**{k: v for k, v in record.items() if k != "in_place"}, "files": files}


def _about(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: record[k] for k in ("name", "type", "tags", "checked_by") if k in record}
