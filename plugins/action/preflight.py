# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a host before hours are spent there; refuse the cells that a failed check concerns."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible import context

from ..plugin_utils import consents, login, preflight
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, module_result

MODULE = "benchfleet.mlperf.preflight"


class ActionModule(Stage):
    """Compare what the host has with what its cells need."""

    NAME = "preflight"
    OPTIONS = {"python": "auto", "install_packages": True, "min_free_mb": 500, "quota_gb": 0}

    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return {"checks", "refused": {digest: reason}, "facts"}; changes nothing."""
        found = session.read(host, "probe")
        items = [i for i in found["work"] if i["action"] == "run"]
        if not items:
            return {"changed": False, "checks": [], "refused": {}}
        common = session.common()
        needs = [preflight.need(i, common["payloads"]) for i in items]
        arguments = _arguments(needs, found["probe"]["home"], options)
        result = module_result(
            self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        )
        if "fault" in result:
            return result
        facts = result["facts"] | {"clock": self._clock()}
        local = {d: p for p, d in common["paths"].items()} | dict(common["local"])
        lab = preflight.Lab(
            min_free=int(options["min_free_mb"]) << 20,
            quota=int(float(options["quota_gb"]) * 1e9),
            may_install=_may_install(options, facts, variables),
            consents=frozenset(consents.given(Path(common["results"]))),
            known={d: Path(p).stat().st_size for d, p in local.items() if Path(p).is_file()},
        )
        checks = preflight.checks(facts, needs, lab)
        return {
            "changed": False,
            "checks": [c.as_dict() for c in checks],
            "refused": preflight.refusals(checks),
            "facts": facts,
        }

    def _clock(self) -> dict[str, float | None] | None:
        """Measure clock and login shell around the quickest of three looks; None: no answer."""
        looks = []
        for _look in range(3):
            before = time.time()
            _code, out, _err = self.command(login.COMMAND)
            looks.append(login.read(out, before, time.time()))
        good = [look for look in looks if look is not None]
        return min(good, key=lambda look: look["uncertainty_s"] or 0.0) if good else None


def _arguments(needs: list[preflight.Need], home: str, options: dict[str, Any]) -> dict[str, Any]:
    envs = {env["name"]: env for need in needs for env in need.envs}
    return {
        **options,
        "home": home,
        "artifacts": sorted({a for n in needs for a in n.artifacts if a}),
        "envs": list(envs.values()),
        "accelerators": sorted({n.vendor for n in needs if n.vendor}),
        "ports": sorted({p for n in needs for p in n.ports}),
        "runtimes": sorted({n.runtime for n in needs if n.runtime}),
    }


def _may_install(options: dict[str, Any], facts: dict[str, Any], variables: dict[str, Any]) -> bool:
    """Whether the playbook can install packages: sudo without a password, or with the one that the
    person gave to Ansible."""
    password = any(
        variables.get(n) for n in ("ansible_become_password", "ansible_become_pass")
    ) or any(context.CLIARGS.get(n) for n in ("become_ask_pass", "become_password_file"))
    another_way = variables.get("ansible_become_method", "sudo") != "sudo"
    return bool(options["install_packages"]) and bool(facts["root"] or password or another_way)
