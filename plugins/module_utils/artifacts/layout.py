# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a lab's own copy of a data set or model against what its layout must be."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Mapping, Sequence

from .base import ArtifactError, md5
from .tree import safe_path

_BLOCK = 1 << 20
_FILE = {"path", "lines", "sha256", "md5"}
_GLOB = {"files", "count"}


def check_layout(path: str | Path, layout: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is wrong with a folder, one sentence each; [] when all is as it must be.

    `layout` is a list of {"path", "lines" | "sha256" | "md5" (none: it must exist)} and {"files":
    glob, "count"}. Files are read in blocks. Raises ArtifactError for a layout that is none.
    """
    problems: list[str] = []
    for rule in layout:
        if set(rule) - _FILE and set(rule) - _GLOB:
            raise ArtifactError(f"a layout has no rule like {dict(rule)}.")
        if "files" in rule:
            problems += _count(Path(path), str(rule["files"]), int(rule["count"]))
        else:
            problems += _file(Path(path, safe_path(str(rule["path"]))), rule)
    return problems


def _count(folder: Path, glob: str, expected: int) -> list[str]:
    safe_path(glob)
    found = sum(1 for p in folder.glob(glob) if p.is_file())
    return [] if found == expected else [f"{folder / glob}: {found} files, expected {expected}"]


def _file(path: Path, rule: Mapping[str, Any]) -> list[str]:
    if not path.exists():
        return [f"{path} is missing"]
    if not {"lines", "sha256", "md5"} & set(rule):
        return []
    lines, last, digests = 0, b"\n", {"sha256": hashlib.sha256(), "md5": md5()}
    wanted = {n: d for n, d in digests.items() if n in rule}
    try:
        with path.open("rb") as f:
            for block in iter(lambda: f.read(_BLOCK), b""):
                lines, last = lines + block.count(b"\n"), block[-1:]
                for digest in wanted.values():
                    digest.update(block)
    except OSError as e:
        return [f"{path} cannot be read: {e.strerror}"]
    found: dict[str, Any] = {n: d.hexdigest() for n, d in wanted.items()}
    if "lines" in rule:
        found["lines"] = lines + (last != b"\n")  # the last line needs no end
    return [f"{path}: {n} {v}, expected {rule[n]}" for n, v in found.items() if v != rule[n]]
