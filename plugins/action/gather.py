# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the finished runs of a host home."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from ..plugin_utils import transfer
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.results import Results
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, orphaned


class ActionModule(Stage):
    """Transfer, verify and publish each run; the host keeps its copy."""

    NAME = "gather"
    OPTIONS = {"max_gb": 50}

    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return where each run came to lie, and what could not be brought home."""
        found = session.read(host, "probe")
        results = Results(session.common()["results"])
        parent = os.getppid()
        limits = transfer.Limits(bytes=int(float(options["max_gb"]) * 1e9))
        runs: dict[str, str] = {}
        faults: dict[str, str] = {}
        new = 0
        for item, run_id in _finished(session, host, found["work"]):
            remote = f"{found['probe']['host_dir']}/runs/{run_id}"
            final = results.folder(item["cell"]) / run_id
            incoming = results.root / "incoming" / item["cell"]["sut"]
            try:
                collected = transfer.fetch_run(
                    self._connection, remote, incoming, final, limits, lambda: not orphaned(parent)
                )
            except (BenchfleetError, AnsibleConnectionFailure) as e:
                faults[item["digest"]] = str(e)
                continue
            new += not collected.already
            runs[item["digest"]] = str(final)
        if new:
            self.say(host, f"{new} runs collected and verified")
        return {"changed": new > 0, "runs": runs, "faults": faults}


def _finished(
    session: Session, host: str, items: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield each item with its finished runs, the newest last: those of dead jobs come first."""
    recovered = (session.read(host, "start") or {}).get("recovered", [])
    lost = [run_id for job in recovered for run_id in job["runs"]]
    ended = (session.read(host, "watch") or {}).get("runs", {})
    for item in items:
        if not item["digest"]:
            continue
        for run_id in lost:
            if run_id.endswith(f"-{item['digest'][:8]}"):
                yield item, run_id
        run_id = item.get("run_id") or ended.get(item["digest"])
        if run_id:
            yield item, run_id
