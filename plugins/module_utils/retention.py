# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove runs of a host that its controller holds, and only those."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Mapping

from .host_store import sha256_of
from .job import process, records, state

REMOVED = ".removed-"


def remove(host_dir: Path, wanted: Mapping[str, str], check: bool) -> dict[str, Any]:
    """Remove the runs in `wanted` (run id -> sha256 of its manifest.json on the controller).

    Return {"removed": {run id: bytes}, "kept": {run id: why}}; a run that is not there is in
    neither. With `check` nothing is removed. The state forgets what is gone, so that nobody looks
    for it. Raises OSError.
    """
    removed: dict[str, int] = {}
    kept: dict[str, str] = {}
    if not host_dir.is_dir():
        return {"removed": removed, "kept": kept}
    with state.locked(host_dir) as known:
        busy = _under_way(host_dir, known)
        for run_id, manifest in wanted.items():
            folder = host_dir / "runs" / run_id
            if folder.is_symlink() or not folder.is_dir():
                continue
            why = _obstacle(folder, manifest, busy)
            if why:
                kept[run_id] = why
                continue
            removed[run_id] = _bytes(folder)
            if not check:
                folder.rename(folder.with_name(REMOVED + run_id))
        if not check:
            known["runs"] = {d: r for d, r in known["runs"].items() if r not in removed}
    if not check:
        for leftover in (host_dir / "runs").glob(f"{REMOVED}*"):
            shutil.rmtree(str(leftover))
    return {"removed": removed, "kept": kept}


def _under_way(host_dir: Path, known: Mapping[str, Any]) -> set[str]:
    """Return the digests and run ids of jobs that live."""
    busy: set[str] = set()
    boot = process.boot_id()
    for job_id, entry in known["jobs"].items():
        if entry["state"] in state.UNFINISHED and state.is_alive(host_dir, job_id, entry, boot):
            status = records.read_json(state.job_dir(host_dir, job_id) / "status.json") or {}
            busy.update(entry.get("digests", ()))
            busy.update(r.get("run_id") or "" for r in status.get("runs") or ())
            busy.add((status.get("current") or {}).get("run_id") or "")
    return busy


def _obstacle(folder: Path, manifest: str, busy: set[str]) -> str | None:
    """Say why a run must stay."""
    record = records.read_json(folder / "run.json") or {}
    if folder.name in busy or record.get("digest") in busy:
        return "a job that runs now has it"
    try:
        same = sha256_of(str(folder / "manifest.json")) == manifest
    except OSError:
        return "it has no manifest"
    return None if same else "it is not what this controller holds under that name"


def _bytes(folder: Path) -> int:
    return sum(
        os.lstat(str(Path(where, name))).st_size
        for where, _folders, names in os.walk(str(folder))
        for name in names
    )
