# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what the preflight found on all hosts, before anything is changed on them; connects to
nothing."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils import preflight_table
from ..plugin_utils.results import Results
from ..plugin_utils.session import Session

display = Display()


class ActionModule(ActionBase):
    """Print one table for the fleet and write the same as JSON."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Report for all hosts of the session at once; it is news of this call, so never a
        change."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={"session": {"type": "str", "required": True}}
        )
        session = Session(given["session"])
        common = session.common()
        found = {h: r for h in session.hosts() if (r := session.read(h, "preflight"))}
        path = Results(common["results"]).root / "preflight" / f"{common['request']}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"format": 1, "hosts": found}, indent=1, sort_keys=True) + "\n"
        path.write_text(text, encoding="utf-8")
        suts = {h: _suts(session, h) for h in found}
        for line in preflight_table.lines(found, suts, display.verbosity > 0, path):
            display.display(line)
        states = [c["state"] for r in found.values() for c in r.get("checks", ())]
        counts = {s: states.count(s) for s in ("ok", "warn", "fail")}
        return {"changed": False, "report": str(path), "checks": counts}


def _suts(session: Session, host: str) -> dict[str, str]:
    """Return digest -> SUT of a host's work items."""
    return {i["digest"]: i["cell"]["sut"] for i in session.work(host) or () if i["digest"]}
