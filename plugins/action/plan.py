# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the cells of a request for every SUT in the play; connects to nothing."""

from __future__ import annotations

import getpass
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from ..module_utils.artifacts.base import Access
from ..module_utils.artifacts.store import Store
from ..plugin_utils import consents, network, payload, planner, request, supply
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.digest import canonical
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.lab_files import Own
from ..plugin_utils.needs import Lab
from ..plugin_utils.results import Results
from ..plugin_utils.session import Session

_SUT_VARIABLES = (
    "benchfleet_suts",
    "benchfleet_system_type",
    "benchfleet_device",
    "benchfleet_profile",
    "benchfleet_artifact_paths",
)


class ActionModule(ActionBase):
    """Turn request + inventory + catalog into a session with each host's cells."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Plan, or fail the whole play with one message before anything was touched."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={
                "results": {"type": "str", "required": True},
                "catalog_path": {"type": "str", "default": ""},
                "settings": {"type": "list", "elements": "str", "default": []},
                "other_vars": {"type": "list", "elements": "str", "default": []},
                "more_options": {"type": "list", "elements": "str", "default": []},
                "calibrate": {"type": "bool", "default": False},
                "store": {"type": "str", "default": "~/.cache/benchfleet"},
                "inference_repo": {"type": "str", "default": Lab.inference_repo},
                **network.SPEC,
            }
        )
        try:
            return self._plan(given, task_vars or {})
        except BenchfleetError as e:
            raise AnsibleActionFail(str(e)) from None

    def _plan(self, given: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
        extra = load_extra_vars(self._loader)
        names = (*request.NAMES, *given["more_options"])
        request.check_names(extra, set(given["settings"]), set(given["other_vars"]), names)
        named = {n: variables[n] for n in request.NAMES if n in variables}
        asked = request.parse(self._templar.template(named))
        catalog = Catalog(given["catalog_path"])
        results = Results(given["results"])
        results.check_writable()
        hosts = {h: self._sut_variables(h, variables) for h in _sut_hosts(variables)}
        if not hosts:
            raise BenchfleetError(
                "no host of this play is in the group 'suts'; see inventories/lab.example.ini."
            )
        lab = Lab({}, frozenset(consents.given(results.root)), given["inference_repo"])
        cells = planner.plan(asked, hosts, catalog, given["calibrate"], lab)
        if not cells:
            raise BenchfleetError(
                "nothing to run: the round requires no benchmark of the catalog for these SUTs."
            )
        if asked.benchmark == ("all",):
            _say_what_lacks(cells, catalog.get("rounds", asked.round), catalog)
        store = Store(given["store"])
        access = Access(environment=network.Settings.of(given).here(store.root / "ca"))
        own = Own(store, lab, access)
        common = _common(asked, cells, catalog, results, own)
        by_host: dict[str, list[dict[str, Any]]] = {}
        for cell in cells:
            by_host.setdefault(cell["host"], []).append(cell)
        common["hosts"] = list(by_host)
        session = Session.create(C.DEFAULT_LOCAL_TMP, common, by_host)
        return {
            "changed": False,
            "session": str(session.folder),
            "cells": len(cells),
            "hosts": list(by_host),
            "preflight_only": asked.preflight_only,
        }

    @staticmethod
    def _sut_variables(host: str, variables: Mapping[str, Any]) -> dict[str, Any]:
        own = variables["hostvars"][host]
        return {n: own[n] for n in _SUT_VARIABLES if n in own}


def _sut_hosts(variables: Mapping[str, Any]) -> Iterable[str]:
    """Return the hosts of the play that are SUTs: the group `suts` where the inventory has one."""
    hosts = variables["ansible_play_hosts_all"]
    suts = set(variables.get("groups", {}).get("suts", ()))
    return [h for h in hosts if h in suts] if suts else hosts


def _say_what_lacks(
    cells: list[dict[str, Any]], round_: Mapping[str, Any], catalog: Catalog
) -> None:
    lacking = planner.not_in_catalog(round_, {c["system_type"] for c in cells}, catalog)
    if lacking:
        Display().warning(
            f"round {round_['name']} also has {', '.join(lacking)} for these SUTs;"
            " the catalog has no file for them."
        )


def _common(
    asked: request.Request,
    cells: list[dict[str, Any]],
    catalog: Catalog,
    results: Results,
    own: Own,
) -> dict[str, Any]:
    """Fill in what content decides (digests, payloads) and return what all hosts share."""
    payloads: dict[str, Any] = {}
    paths: dict[str, str] = {}
    local: dict[str, str] = {}
    for cell in cells:
        if cell["recipe"] is None:
            continue  # refused: nothing is known of how it would run
        cell["loadgen_digest"] = own.loadgen(cell["loadgen_source"])
        own.source(cell["needs"].get("tree"))
        cell["payload"] = payload.name(cell)
        if cell["payload"] not in payloads:
            payloads[cell["payload"]] = payload.harness(catalog, cell)
        for what in (cell["model"], cell["dataset"], *cell["needs"].values()):
            if what and what["origin"] == "catalog":
                what["sha256"] = _catalog_file(what, local)
            elif what and what["origin"] == "path":
                _user_file(what, paths, own)
    return {
        "rerun": asked.rerun or asked.debug,
        "controller": f"{getpass.getuser()}@{socket.gethostname()}:{results.root}",
        "recalibrate": asked.recalibrate,
        "debug": asked.debug,
        "preflight_only": asked.preflight_only,
        "on_busy": asked.on_busy,
        "quiet_host": asked.quiet_host,
        "results": str(results.root),
        "catalog_path": str(catalog.folders[0]) if len(catalog.folders) > 1 else "",
        "request": canonical([c["id"] for c in cells] + [c["duration"] for c in cells])[:12],
        "payloads": payloads,
        "job": payload.job_files(),
        "paths": paths,
        "local": local,
        "differences": own.differences,
    }


def _catalog_file(what: Mapping[str, Any], local: dict[str, str]) -> str:
    """Return the sha256 of a data file of the catalog, read once a call."""
    known = next((d for d, p in local.items() if p == what["where"]), None)
    actual = known or supply.catalog_file(what)
    local[actual] = what["where"]
    return actual


def _user_file(what: dict[str, Any], paths: dict[str, str], own: Own) -> None:
    """Note the digest of a user's file or folder that lies on this controller; it may be sent to
    SUTs that lack it."""
    path = str(what["where"])
    if path in paths or not Path(path).exists():
        return
    actual = own.copy(str(what["name"]), path)
    if what["sha256"] not in (None, actual):
        raise BenchfleetError(
            f"{path}: its sha256 is {actual}, model_sha256 says {what['sha256']}."
        )
    paths[path] = actual
