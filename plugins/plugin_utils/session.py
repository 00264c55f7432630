# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One call of a playbook: what its stages hand to each other, on the controller's own temporary
disk.

Each action runs in a process of its own, and large registered variables are templated again for
every host. So stages write what they found to small files, one per host and stage, and only the
folder's path travels through Ansible. The folder lies in Ansible's temporary folder of this call
and goes with it.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote


class Session:
    """The stages' files below `folder`. Stages: 'plan' (the host's cells), 'probe', 'preflight',
    'provision', 'start', 'watch', 'gather'."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @classmethod
    def create(
        cls, parent: str | Path, common: dict[str, Any], cells: dict[str, list[dict[str, Any]]]
    ) -> Session:
        """Make a new session below `parent` with what is common to all hosts and each host's
        cells."""
        session = cls(tempfile.mkdtemp(prefix="benchfleet-", dir=parent))
        session.record("", "common", common)
        for host, own in cells.items():
            session.record(host, "plan", own)
        return session

    def common(self) -> dict[str, Any]:
        """Return what is common to all hosts."""
        value: dict[str, Any] = self.read("", "common")
        return value

    def cells(self, host: str) -> list[dict[str, Any]]:
        """Return the cells planned for a host (none for a host that is no SUT)."""
        value: list[dict[str, Any]] = self.read(host, "plan") or []
        return value

    def record(self, host: str, stage: str, value: Any) -> None:
        """Keep what a stage found on a host."""
        path = self._path(host, stage)
        partial = path.with_suffix(f".{os.getpid()}")
        partial.write_text(json.dumps(value), encoding="utf-8")
        partial.replace(path)

    def read(self, host: str, stage: str) -> Any:
        """Return what a stage recorded for a host, None where it did not get there."""
        try:
            return json.loads(self._path(host, stage).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None

    def work(self, host: str) -> list[dict[str, Any]] | None:
        """Return the probe's work items; those that the preflight refused have that action. None
        where the probe did not get there."""
        items: list[dict[str, Any]] | None = (self.read(host, "probe") or {}).get("work")
        refused = (self.read(host, "preflight") or {}).get("refused")
        if not items or not refused:
            return items
        return [
            i | {"action": "refuse", "reason": refused[i["digest"]]}
            if i["digest"] in refused
            else i
            for i in items
        ]

    def hosts(self) -> Iterable[str]:
        """Return the hosts that have cells, in planned order."""
        hosts: list[str] = self.common()["hosts"]
        return hosts

    def _path(self, host: str, stage: str) -> Path:
        return self.folder / f"{quote(host, safe='')}.{stage}.json"
