# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the ends of a host's own logs to the results folder; reads only, no module."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail

from ..plugin_utils import host_logs, probe_script
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.results import Results
from ..plugin_utils.stage import HostAction


class ActionModule(HostAction):
    """Read through the connection, as the probe does."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Bring the logs of the current host."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={
                "results": {"type": "str", "required": True},
                "home": {"type": "str", "default": "~/.benchfleet"},
            }
        )
        if self._task.check_mode:
            return {"changed": False, "files": []}
        host = str((task_vars or {}).get("inventory_hostname"))
        where = host_logs.folder(Results(given["results"]).root, host)
        try:
            _code, out, _err = self.command(probe_script.command(given["home"], []))
            kept = host_logs.keep_all(self.command, probe_script.parse(out), where)
        except (BenchfleetError, OSError) as e:
            raise AnsibleActionFail(str(e)) from None
        return {"changed": False, "files": [str(path) for path in kept]}
