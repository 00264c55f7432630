# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Look after the controller's store like every host after its own, and show all as one table."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils.artifacts import entries
from ..module_utils.artifacts.store import Store
from ..module_utils.host_store import HostError
from ..plugin_utils import cache_table
from ..plugin_utils.stage import printable

display = Display()


class ActionModule(ActionBase):
    """Show what the hosts of the play reported, once for all of them."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Do what is asked on the controller, print the table, return the sums."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _options, given = self.validate_argument_spec(
            argument_spec={
                "cache": {
                    "type": "str",
                    "choices": ["show", "verify", "remove"],
                    "default": "show",
                },
                "store": {"type": "path", "required": True},
                "tags": {"type": "list", "elements": "str", "default": []},
                "names": {"type": "list", "elements": "str", "default": []},
            }
        )
        name = "removed" if given["cache"] == "remove" else "listed"
        found = {
            host: dict(variables["hostvars"][host].get(f"benchfleet_cache_{name}") or {})
            for host in variables["ansible_play_hosts_all"]
        }
        try:
            found[cache_table.CONTROLLER] = self._own(given)
        except (HostError, OSError) as e:
            raise AnsibleActionFail(f"the controller's store {given['store']}: {e}") from None
        return self._shown(found, given["cache"] == "remove")

    def _own(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return what the modules return of a host, of the controller's store."""
        store = Store(given["store"])
        wanted = entries.chosen(entries.entries(store), given["tags"], given["names"])
        if given["cache"] == "remove":
            gone, freed, notes = entries.clear(store, wanted, self._task.check_mode)
            return {"removed": [e.name for e in gone], "freed": freed, "notes": notes}
        listed = [e.as_dict() for e in wanted]
        if given["cache"] == "verify":
            for shown, entry in zip(listed, wanted, strict=True):
                shown["problems"] = entries.problems(store, entry)
        return {"entries": listed, "bytes": entries.freed_by(store, wanted)}

    def _shown(self, found: dict[str, Any], removing: bool) -> dict[str, Any]:
        if removing:
            for line in cache_table.removed(found, self._task.check_mode):
                display.display(printable(line))
            changed = any(r.get("removed") for r in found.values())
            return {"changed": changed, "bytes": sum(r.get("freed", 0) for r in found.values())}
        for line in cache_table.listed(found):
            display.display(printable(line))
        damaged: dict[str, list[str]] = {}
        for place, result in found.items():
            for entry in result.get("entries", ()):
                if entry.get("problems"):
                    damaged.setdefault(entry["name"], []).append(place)
        return {
            "changed": False,
            "failed": bool(damaged),
            "msg": f"damaged: {', '.join(damaged)}" if damaged else "",
            "damaged": damaged,
            "bytes": sum(r.get("bytes", 0) for r in found.values()),
        }
