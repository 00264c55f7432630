# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fail a host when one of its cells has no valid, verified result."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.outcomes import GOOD
from ..plugin_utils.session import Session


class ActionModule(ActionBase):
    """Turn the outcomes of a host into success or failure of the play for it."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Judge the current host by what conclude wrote."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={"session": {"type": "str", "required": True}}
        )
        session = Session(given["session"])
        host = str((task_vars or {}).get("inventory_hostname"))
        found = session.read(host, "outcomes")
        if found is None:
            planned = session.cells(host)
            return {
                "changed": False,
                "failed": bool(planned),
                "msg": "no outcome was written" if planned else "no SUT",
            }
        bad = [o for o in found if o["outcome"] not in GOOD]
        words = "; ".join(f"{o['id']}: {o['outcome']}" for o in bad[:3]) + (
            " …" if len(bad) > 3 else ""
        )
        return {
            "changed": False,
            "failed": bool(bad),
            "msg": words or f"{len(found)} cells are valid",
        }
