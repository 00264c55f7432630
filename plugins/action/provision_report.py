# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what provisioning made ready on all hosts; connects to nothing."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils import readiness
from ..plugin_utils.session import Session

display = Display()


class ActionModule(ActionBase):
    """Print one table for the fleet and say which hosts are not ready."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Report for all hosts of the session at once; it changes nothing."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={"session": {"type": "str", "required": True}}
        )
        session = Session(given["session"])
        rows, unready = readiness.rows(session), readiness.unready(session)
        for line in readiness.lines(rows, unready):
            display.display(line)
        return {
            "changed": False,
            "parts": [row._asdict() for row in rows],
            "unready": unready,
            "places": readiness.places(session),
        }
