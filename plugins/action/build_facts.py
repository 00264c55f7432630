# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Ask a host what it would build the environments of its cells with."""

from __future__ import annotations

from typing import Any

from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, module_result

MODULE = "benchfleet.mlperf.build_facts"


class ActionModule(Stage):
    """Read what wheels and packages the host would need."""

    NAME = "build_facts"
    OPTIONS = {"python": "auto", "internet": True}

    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the module's answer and whether the host has `internet`."""
        cells = [c for c in session.cells(host) if c.get("payload")]
        away = (session.read(host, "probe") or {}).get("fault")
        if away:
            return {"changed": False, "internet": options["internet"], "away": away}
        payloads = session.common()["payloads"]
        envs = {e["name"]: e for c in cells for e in payloads[c["payload"]]["envs"].values()}
        answer = module_result(
            self._execute_module(
                module_name=MODULE,
                module_args={**options, "envs": list(envs.values())},
                task_vars=variables,
            )
        )
        shown = ("targets", "faults", "missing_packages", "system")
        return {"changed": False, "internet": options["internet"]} | {k: answer[k] for k in shown}
