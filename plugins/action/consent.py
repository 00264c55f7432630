# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Record a consent to a licence, or show which are asked for and which were given; connects to
nothing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ..plugin_utils import consents, request
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.results import Results
from ..plugin_utils.table import render

NAMES = ("consent", "consent_by")
display = Display()


class ActionModule(ActionBase):
    """Keep who agreed to what in the results folder."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Record, then show the list."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={
                "results": {"type": "str", "required": True},
                "catalog_path": {"type": "str", "default": ""},
                "settings": {"type": "list", "elements": "str", "default": []},
                "other_vars": {"type": "list", "elements": "str", "default": []},
                "consent": {"type": "str", "default": ""},
                "by": {"type": "str", "default": ""},
            }
        )
        try:
            extra = load_extra_vars(self._loader)
            request.check_names(extra, set(given["settings"]), set(given["other_vars"]), NAMES)
            return self._consent(given)
        except BenchfleetError as e:
            raise AnsibleActionFail(str(e)) from None

    def _consent(self, given: Mapping[str, Any]) -> dict[str, Any]:
        results = Results(given["results"])
        gates = consents.gates(Catalog(given["catalog_path"]))
        changed = False
        if given["consent"]:
            entry = consents.entry(given["consent"], given["by"], gates, datetime.now(UTC))
            changed = given["consent"] not in consents.given(results.root)
            if changed and not self._task.check_mode:
                consents.record(results.root, given["consent"], entry)
        known = consents.given(results.root)
        header = ("consent", "given by", "at", "terms", "where")
        rows = [
            (n, *(known.get(n, {}).get(k, "-") for k in ("by", "at")), g["terms"], g["where"])
            for n, g in {**gates, **known}.items()
        ]
        none = ["", "Nothing in the catalog asks for a consent."]
        for line in ["", *render(header, rows)] if rows else none:
            display.display(line)
        return {"changed": changed, "consents": known}
