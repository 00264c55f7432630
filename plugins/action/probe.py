# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Probe a host with one read and decide what is to do there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from ..plugin_utils import probe_script, work
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.results import Results
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage


class ActionModule(Stage):
    """Read a host's state and compare it with its cells."""

    NAME = "probe"
    OPTIONS = {"home": "~/.benchfleet"}

    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the probe, the work items, `todo` (whether any needs the host) and `settled`
        (whether all are stored and valid, or nothing to do here)."""
        cells = session.cells(host)
        if not cells:
            return {"todo": False, "settled": True, "work": []}
        common = session.common()
        asked = {
            w["where"]
            for c in cells
            for w in (c["model"], c["dataset"], *c["needs"].values())
            if w and w["origin"] == "path"
        }
        code, out, err = self.command(probe_script.command(options["home"], sorted(asked)))
        try:
            probe = probe_script.parse(out)
        except BenchfleetError as e:
            tail = f" ({err.strip()[-200:]})" if code and err.strip() else ""
            raise BenchfleetError(f"{e}{tail}") from None
        items = work.decide(
            cells, common, probe, Results(common["results"]), lambda job: self._alive(job, probe)
        )
        todo = any(i["action"] in ("run", "attach", "collect") for i in items)
        settled = all(i["action"] in ("done", "skip") for i in items)
        return {"todo": todo, "settled": settled, "probe": asdict(probe), "work": items}

    def _alive(self, job: Mapping[str, Any], probe: probe_script.Probe) -> bool:
        """Return whether a job that the state file calls unfinished still has its process."""
        if job.get("boot_id") != probe.boot_id:
            return False
        code, out, _err = self.command(f"cat /proc/{int(job.get('pid') or 0)}/stat")
        fields = out.rpartition(")")[2].split()
        return code == 0 and len(fields) > 19 and fields[19] == str(job.get("pid_start"))
