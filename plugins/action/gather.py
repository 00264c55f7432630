# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the finished runs of a host home."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from ..module_utils.job.lock import NAME as LOCK
from ..plugin_utils import transfer
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.results import Results
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, orphaned
from ..plugin_utils.table import count


class ActionModule(Stage):
    """Transfer, verify and publish each run; the host keeps its copy."""

    NAME = "gather"
    OPTIONS = {"max_gb": 50, "wait_limit": 86400}

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
        finished = list(_finished(session, host, found["work"]))
        if finished:
            self._await_quiet(host, parent, float(options["wait_limit"]))
        for item, run_id in finished:
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
            self.say(host, f"{count(new, 'run')} collected and verified")
        return {"changed": new > 0, "runs": runs, "faults": faults}

    def _await_quiet(self, host: str, parent: int, limit: float) -> None:
        """Wait while somebody measures on the host, whoever it is: a transfer would disturb them.

        Raises BenchfleetError after `limit` seconds; the runs stay on the host.
        """
        end, wait = time.monotonic() + limit, 2.0
        while self.command(f"grep -q '@{LOCK}' /proc/net/unix")[0] == 0:
            if wait == 2.0:
                self.say(host, "somebody measures there; the runs are collected afterwards")
            if time.monotonic() > end:
                raise BenchfleetError(f"somebody still measures there after {limit:.0f} s")
            self.pause(wait, parent)
            wait = min(60.0, wait * 1.5)


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
