# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make `index.sqlite` anew from the run directories."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils import planner
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.results import Results


class ActionModule(ActionBase):
    """Assess every stored run again; connects to nothing."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Rebuild the index, or say why not."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={
                "results": {"type": "str", "required": True},
                "catalog_path": {"type": "str", "default": ""},
            }
        )
        results = Results(given["results"])
        if self._task.check_mode:
            return {"changed": True, "runs": sum(1 for _run in results.stored())}
        try:
            catalog = Catalog(given["catalog_path"])
            return {
                "changed": True,
                "runs": results.rebuild(lambda cell: planner.rules_of(cell, catalog)),
            }
        except BenchfleetError as e:
            raise AnsibleActionFail(str(e)) from None
