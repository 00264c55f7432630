# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring one artifact to a host through this controller, or as the catalog says; without that the
host's module does all by itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail

from ..module_utils.artifacts.store import Store
from ..plugin_utils import consents, derived, network, probe_script, supply, transfer, work
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.delivery import Goods, deliver
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.lab_files import Own
from ..plugin_utils.needs import Lab
from ..plugin_utils.single import WORD, Single, single
from ..plugin_utils.stage import HostAction, module_result

MODULE = "benchfleet.mlperf.artifact"
HOST_HALF = "benchfleet.mlperf.provision"  # what cells need is received by the same code
_TEXTS = ("name", "sha256", "backend", "round", "catalog_path")
_SPEC: dict[str, Any] = {
    "store": {"type": "str", "required": True, "aliases": ["home"]},
    "state": {"type": "str", "choices": ["present"], "default": "present"},
    "type": {"type": "str", "default": "file"},
    "bytes": {"type": "int"},
    "benchmark": {"type": "str", "default": ""},
    "downloads": {"type": "str", "choices": ["controller", "host"], "default": "controller"},
    "controller_store": {"type": "path", "default": "~/.cache/benchfleet"},
    "results": {"type": "path", "default": "./results"},
    "inference_repo": {"type": "str", "default": Lab.inference_repo},
    **network.ACCESS_SPEC,
    "python": {"type": "str", "default": "auto"},
    **{n: {"type": "str", "default": ""} for n in _TEXTS},
    "artifact_paths": {"type": "dict", "default": {}},
    **{n: {"type": "list", "elements": "dict", "default": []} for n in ("origins", "layout")},
    **{n: {"type": "list", "elements": "str", "default": []} for n in ("tags", "patches")},
}


class ActionModule(HostAction):
    """Resolve names, which the catalog has, and files, which lie here, and run the module."""

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return where the artifact lies on the host."""
        super().run(tmp, task_vars)
        asked = self._task.args
        if not (asked.get("benchmark") or asked.get("downloads")):
            own: dict[str, Any] = self._execute_module(module_name=MODULE, task_vars=task_vars)
            return own
        _options, given = self.validate_argument_spec(argument_spec=_SPEC)
        try:
            return self._bring(given, task_vars or {})
        except BenchfleetError as e:
            raise AnsibleActionFail(str(e)) from None

    def _bring(self, given: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        catalog, goods = Catalog(given["catalog_path"]), Goods(Store(given["controller_store"]))
        settings = network.Settings.of(given)
        agreed = frozenset(consents.given(given["results"]))
        lab = Lab(given["artifact_paths"], agreed, given["inference_repo"])
        asked = single(given, catalog, lab)
        access = network.access(given, settings, goods.store.root)
        transfer.check_sftp(self._connection)
        paths = sorted({w["where"] for w in asked.needs.values() if w["origin"] == "path"})
        _code, out, _err = self.command(probe_script.command(given["store"], paths))
        probe = probe_script.parse(out)
        places = _places(asked, probe, Own(goods.store, lab, access))
        host, notes = str(variables.get("inventory_hostname")), list[str]()

        def say(line: str) -> None:
            notes.append(line)
            self.say(host, line)

        wanted = []
        for word, what in asked.needs.items():
            if what["origin"] == "derived":
                continue
            entry = supply.entry(what, places[word], given["downloads"])
            if not entry["spec"] and not self._task.check_mode:
                entry["sha256"] = supply.bring(what, goods, catalog, access, say)
            wanted.append(entry)
        arguments = _arguments(given, probe.home, settings, asked, places) | {"wanted": wanted}
        answer = self._deliver(arguments, goods, variables)
        check = bool(self._task.check_mode)
        return _result(answer, asked, places, given["sha256"], check) | {"notes": notes}

    def _deliver(
        self, arguments: dict[str, Any], goods: Goods, variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Run the host's half until it misses nothing; return its last answer."""

        def run(sent: Mapping[str, Any]) -> dict[str, Any]:
            return module_result(
                self._execute_module(
                    module_name=HOST_HALF,
                    module_args={**arguments, **sent},
                    task_vars=variables,
                )
            )

        first = run({})
        if self._task.check_mode:
            return first
        return deliver(self._connection, arguments["home"], goods, first, run)


def _places(asked: Single, probe: probe_script.Probe, own: Own) -> dict[str, dict[str, Any]]:
    """Return where each need lies on the host. Raises BenchfleetError for a path that is nowhere.

    A path is looked for on the host, then on this controller.
    """
    known = {
        what["where"]: own.copy(what["name"], what["where"])
        for what in asked.needs.values()
        if what["origin"] == "path"
        and what["where"] not in probe.paths
        and Path(what["where"]).exists()
    }
    found = {}
    for word, what in asked.needs.items():
        place = work.place(what, probe, known)
        if place is None or "fault" in place:
            raise BenchfleetError((place or {}).get("fault") or f"{word} has no place")
        found[word] = place
    return found


def _arguments(
    given: Mapping[str, Any],
    home: str,
    settings: network.Settings,
    asked: Single,
    places: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    environment, secrets = settings.on_host(home)
    ca = settings.ca_folder()
    return {
        "session": "",
        "home": home,
        "host_dir": home,
        "environment": environment,
        "secrets": secrets,
        **{n: given[n] for n in ("hf_endpoint", "mirror", "python")},
        "folders": [{"path": f"{home}/src/{ca['name']}", "files": ca["files"]}] if ca else [],
        "envs": list(asked.envs.values()),
        "derived": derived.for_host(asked.needs, places, asked.envs, asked.folder),
    }


def _result(
    answer: Mapping[str, Any],
    asked: Single,
    places: Mapping[str, Mapping[str, Any]],
    sha256: str,
    check: bool,
) -> dict[str, Any]:
    """Return the module's result in place of the host half's."""
    found: dict[str, Any] = {"changed": bool(answer["changed"]), "commit": asked.commit}
    if answer.get("fault"):
        return found | {"failed": True, "msg": answer["fault"]}
    there = answer["artifacts"].get(places[WORD]["identity"])
    lacking = answer["missing_packages"]
    if there is None and lacking and not check:
        msg = f"this host lacks packages, which root can install: {' '.join(lacking)}"
        return found | {"failed": True, "msg": msg, "missing_packages": lacking}
    if there is None:
        return found | {"digest": places[WORD]["sha256"], "missing_packages": lacking}
    if sha256 and there["sha256"] != sha256:
        msg = f"{there['path']} has sha256 {there['sha256']}, {sha256} was asked for."
        return found | {"failed": True, "msg": msg}
    return found | {"digest": there["sha256"], "path": there["path"], "bytes": there["bytes"]}
