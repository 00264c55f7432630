# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the controller's store with what a planned request needs, and show what is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils.artifacts.store import Store
from ..plugin_utils import consents, mirror, network
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.mirror import FAILED, FETCHED, TO_FETCH, Filler, Row
from ..plugin_utils.needs import Lab
from ..plugin_utils.session import Session
from ..plugin_utils.stage import printable
from ..plugin_utils.wheelhouse import Target

display = Display()


class ActionModule(ActionBase):
    """Once for all hosts of the play, on the controller."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Bring what is missing, print the table, return its rows."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={
                "session": {"type": "str", "required": True},
                "store": {"type": "path", "required": True},
                "targets": {"type": "list", "elements": "str", "default": []},
                "packages": {"type": "dict", "default": {}},
                **network.ACCESS_SPEC,
            }
        )
        store = Store(given["store"])
        try:
            rows = self._fill(given, store)
        except (BenchfleetError, OSError) as e:
            raise AnsibleActionFail(str(e)) from None
        for line in mirror.table(rows, store.root):
            indent = len(line) - len(line.lstrip())
            display.display(line[:indent] + printable(line))
        failed = [r.name for r in rows if r.state == FAILED]
        found: dict[str, Any] = {"changed": any(r.state in (FETCHED, TO_FETCH) for r in rows)}
        if failed:
            return found | {"failed": True, "msg": f"could not be brought: {', '.join(failed)}"}
        return found | {"things": [r.as_dict() for r in rows]}

    def _fill(self, given: dict[str, Any], store: Store) -> list[Row]:
        session = Session(given["session"])
        common = session.common()
        targets = [Target.parse(t) for t in given["targets"]]
        filler = Filler(
            store,
            Catalog(common["catalog_path"]),
            Lab({}, frozenset(consents.given(Path(common["results"])))),
            network.access(given, network.Settings.of(given), store.root),
            lambda line: display.display(f"  {printable(line)}"),
            bool(self._task.check_mode),
        )
        cells = [c for host in session.hosts() for c in session.cells(host) if c["recipe"]]
        answers = {host: session.read(host, "build_facts") or {} for host in session.hosts()}
        rows = list(filler.artifacts(cells, common["paths"]))
        for host, answer in answers.items():
            rows += mirror.unknown(host, answer, targets)
        envs = {e["name"]: e for p in common["payloads"].values() for e in p["envs"].values()}
        wanted = {(name, t): None for name in envs for t in targets}
        for answer in answers.values():
            wanted |= {(n, Target.of(t)): None for n, t in answer.get("targets", {}).items()}
        rows += [filler.wheels(envs[name], target) for name, target in wanted]
        rows += filler.collected(given["packages"])
        rows += filler.packages(answers)
        return rows
