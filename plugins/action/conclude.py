# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Assess what arrived, write an outcome for every planned cell, show the table; connects to
nothing."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils import outcomes, table
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.results import Results
from ..plugin_utils.session import Session

display = Display()


class ActionModule(ActionBase):
    """Turn what the stages recorded into outcomes, the index and one table."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Conclude for all hosts of the session at once."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={
                "session": {"type": "str", "required": True},
                "plan_only": {"type": "bool", "default": False},
            }
        )
        session = Session(given["session"])
        try:
            return self._conclude(session, given["plan_only"] or self._task.check_mode)
        except BenchfleetError as e:
            raise AnsibleActionFail(str(e)) from None

    def _conclude(self, session: Session, plan_only: bool) -> dict[str, Any]:
        common = session.common()
        results = Results(common["results"])
        if plan_only:
            rows = outcomes.planned(session)
            self._show(table.planned(rows))
            return {"changed": any(r["todo"] for r in rows), "cells": rows}
        found = outcomes.conclude(session, results)
        # Without a run, what the last real call said of a cell stands.
        looked = common["debug"] or common["preflight_only"]
        changed = not looked and outcomes.write(session, results, found)
        self._show(table.outcomes(found, results.root))
        summary = {"cells": [outcomes.brief(o) for o in found], "results": str(results.root)}
        return {
            "changed": changed,
            "ansible_stats": {
                "data": {"benchfleet": summary},
                "per_host": False,
                "aggregate": True,
            },
            **summary,
        }

    @staticmethod
    def _show(lines: list[str]) -> None:
        for line in lines:
            display.display(line)
