# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an environment must hold."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

from ..artifacts.store import Store
from ..host_store import HostError, sha256_of
from .locks import Lock, read


@dataclass
class Spec:
    """What an environment must hold, and how it may be built.

    `requirements` are hash-locked texts by file name; `loadgen` names the one that holds LoadGen
    (empty: none does); `wheels` are the machine types for which there are wheels of everything
    else (empty: all). `wheels_folder` is a folder of wheels to install from instead of an index;
    `loadgen_source` a folder with LoadGen's sources that is built instead of the locked LoadGen.
    """

    name: str
    requirements: dict[str, str]
    loadgen: str
    wheels: list[str]
    python: str = "auto"
    environment: dict[str, str] = field(default_factory=dict)
    wheels_folder: str | None = None
    loadgen_source: str | None = None

    @classmethod
    def planned(cls, home: str, env: Mapping[str, Any], **more: Any) -> Spec:
        """Return an environment of a plan, in which the sources are a tree of the host's store."""
        source = env.get("loadgen_source")
        own = {"loadgen_source": str(Store(home).tree_path(source))} if source else {}
        return cls(**{**env, **own, **more})

    def locks(self) -> dict[str, Lock]:
        """Return the locked files, read."""
        return {name: read(text) for name, text in self.requirements.items()}

    def pythons(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Return the oldest and the newest Python that all locked files support."""
        ranges = [lock.pythons for lock in self.locks().values()]
        return max(r[0] for r in ranges), min(r[1] for r in ranges)

    def disk_mb(self) -> int:
        """Return about how many MB the environment takes."""
        return sum(lock.disk_mb for lock in self.locks().values())

    def digest(self) -> str:
        """Return the sha256 (hex) of what the environment holds: the locks and LoadGen's
        sources."""
        source = tree_digest(self.loadgen_source) if self.loadgen_source else ""
        content = json.dumps([self.requirements, source], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def check_machine(self) -> None:
        """Raise HostError where there cannot be wheels for this machine."""
        if self.wheels and platform.machine() not in self.wheels:
            raise HostError(
                f"the packages of {', '.join(sorted(self.requirements))} exist for"
                f" {', '.join(self.wheels)} only; this host is {platform.machine()}."
            )


def tree_digest(folder: str) -> str:
    """Return the sha256 (hex) of a folder's file names and contents.

    Raises HostError when there is no such folder.
    """
    root = Path(folder).expanduser()
    if not (root / "setup.py").is_file():
        raise HostError(f"{folder} on this host does not hold LoadGen's sources (no setup.py).")
    files = {str(p.relative_to(root)): sha256_of(str(p)) for p in root.rglob("*") if p.is_file()}
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
