# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hash-locked requirements: what the header of such a file says, and the parts that differ in where
they come from.

A header is the comments before the first package. Lines of it that mean something here:

    # Python: 3.9 to 3.11                the versions that have wheels of everything
    # Python: 3.9 and later
    # Machines: x86_64 aarch64           the same for machine types
    # Disk: 500 MB                       what an environment of it takes
    # Index: https://… for torch         where these packages are, besides the configured index
    # Built from source: rouge-score     has no wheel; the lock holds what it is built with
"""

from __future__ import annotations

import re
from dataclasses import dataclass

OLDEST, NEWEST = (3, 9), (3, 13)  # of LoadGen's wheels
ANY_NEWER = (3, 99)
_USUAL_DISK_MB = 300
_FIELD = re.compile(r"^# (Python|Machines|Disk|Index|Built from source): (.+)$", re.M)
_PACKAGE = re.compile(r"^([a-z0-9][a-z0-9._-]*)==.*\n(?:[ \t].*\n?)*", re.M)


@dataclass(frozen=True)
class Lock:
    """One locked file. `pythons` is the oldest and the newest version, both included; `machines` is
    empty where all will do."""

    text: str
    pythons: tuple[tuple[int, int], tuple[int, int]]
    machines: tuple[str, ...]
    disk_mb: int
    index: str
    indexed: tuple[str, ...]
    from_source: tuple[str, ...]

    def parts(self) -> dict[str, str]:
        """Return the text by where its packages come from: `wheels`, `index`, `source`; empty ones
        are left out."""
        found: dict[str, str] = {}
        for match in _PACKAGE.finditer(self.text):
            name = match[1]
            part = "index" if name in self.indexed else "wheels"
            part = "source" if name in self.from_source else part
            found[part] = found.get(part, "") + match[0]
        return found


def read(text: str) -> Lock:
    """Read the header of a locked file."""
    start = _PACKAGE.search(text)
    fields = dict(_FIELD.findall(text[: start.start()] if start else text))
    index, _for, indexed = fields.get("Index", "").partition(" for ")
    return Lock(
        text=text,
        pythons=_versions(fields.get("Python", "")),
        machines=tuple(fields.get("Machines", "").split()),
        disk_mb=int(fields.get("Disk", f"{_USUAL_DISK_MB} MB").split()[0]),
        index=index,
        indexed=tuple(indexed.split()),
        from_source=tuple(fields.get("Built from source", "").split()),
    )


def _versions(said: str) -> tuple[tuple[int, int], tuple[int, int]]:
    found = [(int(a), int(b)) for a, b in re.findall(r"(\d+)\.(\d+)", said)]
    oldest = found[0] if found else OLDEST
    return oldest, found[1] if len(found) > 1 else ANY_NEWER
