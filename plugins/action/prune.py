# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove old runs, on a SUT those that this controller holds, or on the controller itself."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ..module_utils.host_store import sha256_of
from ..plugin_utils import planner, probe_script, request, retention
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.preflight import gb
from ..plugin_utils.results import Results
from ..plugin_utils.stage import HostAction, module_result, printable
from ..plugin_utils.table import count

MODULE = "benchfleet.mlperf.prune"
NAMES = ("keep", "older_than", "where")
_MOST_LINES = 20
display = Display()


class ActionModule(HostAction):
    """Choose by what is stored here; a host that has nothing to lose is not connected to."""

    _requires_connection = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Prune the current host, or the results folder."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _options, given = self.validate_argument_spec(
            argument_spec={
                "results": {"type": "str", "required": True},
                "catalog_path": {"type": "str", "default": ""},
                "home": {"type": "str", "default": "~/.benchfleet"},
                "settings": {"type": "list", "elements": "str", "default": []},
                "other_vars": {"type": "list", "elements": "str", "default": []},
                "keep": {"type": "str", "default": ""},
                "older_than": {"type": "str", "default": ""},
                "where": {"type": "str", "default": "suts", "choices": ["suts", "controller"]},
            }
        )
        try:
            extra = load_extra_vars(self._loader)
            request.check_names(extra, set(given["settings"]), set(given["other_vars"]), NAMES)
            return self._prune(given, variables)
        except (BenchfleetError, OSError) as e:
            raise AnsibleActionFail(str(e)) from None

    def _prune(self, given: Mapping[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        what = retention.rule(given["keep"], given["older_than"])
        catalog, results = Catalog(given["catalog_path"]), Results(given["results"])
        host = str(variables["inventory_hostname"])
        here = given["where"] == "controller"
        runs = retention.stored(
            results, lambda cell: planner.rules_of(cell, catalog), None if here else host
        )
        old = retention.removable(runs, what, datetime.now(UTC), retention.references(results.root))
        if here:
            return self._report("this controller", self._here(results, old), {})
        damaged = {run.path.name: why for run in old if (why := retention.damage(run.path))}
        own = {
            run.path.name: sha256_of(str(run.path / "manifest.json"))
            for run in old
            if run.path.name not in damaged
        }
        if not own:
            return self._report(host, {}, damaged)
        result = self._there(given["home"], own, variables)
        return self._report(host, result["removed"], damaged | result["kept"])

    def _here(self, results: Results, old: list[retention.Stored]) -> dict[str, int]:
        sizes = {
            str(run.path.relative_to(results.root)): sum(
                f.lstat().st_size for f in run.path.rglob("*") if f.is_file()
            )
            for run in old
        }
        if not self._task.check_mode:
            results.remove([run.path for run in old])
        return sizes

    def _there(self, home: str, own: dict[str, str], variables: dict[str, Any]) -> dict[str, Any]:
        _code, out, _err = self.command(probe_script.command(home, []))
        arguments = {"host_dir": probe_script.parse(out).host_dir, "runs": own}
        return module_result(
            self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        )

    def _report(self, place: str, removed: dict[str, int], kept: dict[str, str]) -> dict[str, Any]:
        total = sum(removed.values())
        word = "would go" if self._task.check_mode else "removed"
        display.display(f"  {place}: {count(len(removed), 'run')} {word}, {gb(total)}")
        for name, size in list(removed.items())[:_MOST_LINES]:
            display.display(f"    {printable(name)}  {gb(size)}")
        if len(removed) > _MOST_LINES:
            display.display(f"    … and {len(removed) - _MOST_LINES} more")
        for name, why in kept.items():
            display.display(f"    {printable(name)} stays: {printable(why)}")
        return {"changed": bool(removed), "removed": removed, "kept": kept, "bytes": total}
