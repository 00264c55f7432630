# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand a host its list of cells as one detached job."""

from __future__ import annotations

import secrets
import shlex
import time
from typing import Any

from ..module_utils.host_store import artifact_path
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, module_result

MODULE = "benchfleet.mlperf.start"
_NOT_RECORDED = ("rules", "signature", "skip", "refuse", "payload", "stale")


class ActionModule(Stage):
    """Write the job of all cells that must run, and start its supervisor."""

    NAME = "start"
    OPTIONS = {"wait_limit": 86400, "min_free_mb": 500}

    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the job's id, the jobs already under way that do some of the cells, and who is in
        the way."""
        found = session.read(host, "probe")
        items = [i for i in session.work(host) or () if i["action"] == "run"]
        if session.common()["debug"]:
            items = _to_prepare(items)
        if not items or self._task.check_mode:
            return {"changed": False, "attached": []}
        ready = session.read(host, "provision") or {}
        for problem in ("fault", "missing_packages"):
            if ready.get(problem):
                return {
                    "changed": False,
                    "attached": [],
                    "fault": _unready(problem, ready[problem]),
                }
        common = session.common()
        job = _job(items, common, found["probe"], ready, options)
        arguments = {
            "session": options["session"],
            "job": job,
            "source": f"{found['probe']['home']}/src/{common['job']['name']}",
            "debug": common["debug"],
        }
        result = module_result(
            self._execute_module(module_name=MODULE, module_args=arguments, task_vars=variables)
        )
        if common["debug"] and "debug_dir" in result:
            result["msg"] = _debug_hint(result["debug_dir"], variables)
            result["prepared"] = items[0]["digest"]
            self.say(host, result["msg"])
        return result


def _to_prepare(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the one item that debug prepares: the first that was asked for, not a calibration that
    would run before it."""
    asked = [i for i in items if i["cell"]["mode"] != "calibration"]
    return (asked or items)[:1]


def _unready(problem: str, what: Any) -> str:
    if problem == "fault":
        return str(what)
    return (
        f"packages are missing: {' '.join(what)}. Install them, or let the playbook do it"
        " (benchfleet_install_packages=true and sudo)."
    )


def _job(
    items: list[dict[str, Any]],
    common: dict[str, Any],
    probe: dict[str, Any],
    ready: dict[str, Any],
    options: dict[str, Any],
) -> dict[str, Any]:
    job_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{secrets.token_hex(4)}"
    catalog = Catalog(common["catalog_path"])
    cells = [
        _spec(i, common, probe, ready, catalog, int(options["min_free_mb"]) << 20) for i in items
    ]
    return {
        "format": 1,
        "job_id": job_id,
        "controller": common["controller"],
        "host_dir": probe["host_dir"],
        "boot_id": probe["boot_id"],
        "on_busy": common["on_busy"],
        "wait_limit_s": int(options["wait_limit"]),
        "quiet_host": common["quiet_host"],
        "fingerprint": probe["fingerprint"],
        "cells": cells,
    }


def _spec(
    item: dict[str, Any],
    common: dict[str, Any],
    probe: dict[str, Any],
    ready: dict[str, Any],
    catalog: Catalog,
    min_free: int,
) -> dict[str, Any]:
    """Return one cell as the supervisor takes it: command, environment, files and settings, all
    resolved."""
    cell = item["cell"]
    payload = common["payloads"][cell["payload"]]
    implementation = catalog.get("implementations", cell["implementation"])
    home = probe["home"]
    where = {
        "env": f"{home}/envs/{payload['env']['name']}",
        "src": f"{home}/src/{payload['folder']['name']}",
    }
    paths = {n: _path(item[n], probe, ready) for n in ("model", "dataset")}
    recorded = {k: v for k, v in cell.items() if k not in _NOT_RECORDED}
    if item.get("calibration_run"):
        recorded["calibration_run"] = item["calibration_run"]
    digests = dict(item["digests"])
    for name in ("model", "dataset"):
        digests[name] = _sha256(item[name], ready) or digests[name]
        given = (cell[name] or {}).get("sha256")
        if given and digests[name] != given:
            raise BenchfleetError(
                f"{paths[name]} on the host has sha256 {digests[name]}, {given} was asked for."
            )
    return {
        "digest": item["digest"],
        "attempt": item["attempt"],
        "cell": recorded,
        "argv": [part.format(**where) for part in implementation["command"]],
        "prefix": shlex.split(cell["run_prefix"]),
        "env": _environment(implementation, cell),
        "files": {"config.json": _config(cell, paths)},
        "digests": digests,
        "settings": {
            "loadgen_model": cell["loadgen_model"],
            "scenario": cell["scenario"],
            "keys": cell["keys"],
        },
        "target": item.get("target") or cell["target"],
        "calibration": item.get("calibration"),
        "expected_s": cell["expected_s"],
        "time_limit_s": cell["time_limit_s"],
        "min_free_bytes": min_free,
    }


def _environment(implementation: dict[str, Any], cell: dict[str, Any]) -> dict[str, str]:
    env = {k: v for k, v in implementation["environment"].items() if v is not None}
    if cell["devices"] and cell["device"] in ("cuda", "tensorrt"):
        env["CUDA_VISIBLE_DEVICES"] = ",".join(cell["devices"])
    return env


def _config(cell: dict[str, Any], paths: dict[str, str | None]) -> dict[str, Any]:
    """Return the harness's config.json."""
    mode = "accuracy" if cell["mode"] == "accuracy" else "performance"
    config = {
        "model": paths["model"],
        "dataset": paths["dataset"],
        "scenario": cell["scenario"],
        "mode": mode,
        "loadgen_model": cell["loadgen_model"],
        "device": cell["device"],
        "seed": 2026,
        "signature": cell["signature"],
        "metric": cell["metric"],
        "performance_sample_count": cell["keys"].get("performance_sample_count_override"),
    }
    if cell["label_offset"]:
        config["label_offset"] = cell["label_offset"]
    return config | cell["options"]


def _path(place: dict[str, Any] | None, probe: dict[str, Any], ready: dict[str, Any]) -> str | None:
    if place is None:
        return None
    if place["path"]:
        return str(place["path"])
    sha256 = ready["downloaded"][place["identity"]]
    return artifact_path(probe["home"], sha256)


def _sha256(place: dict[str, Any] | None, ready: dict[str, Any]) -> str | None:
    if place is None:
        return None
    if place["sha256"]:
        return str(place["sha256"])
    found = ready.get("paths", {}).get(place["path"]) or {}
    sha256: str | None = found.get("sha256") or ready.get("downloaded", {}).get(place["identity"])
    return sha256


def _debug_hint(folder: str, variables: dict[str, Any]) -> str:
    host = variables.get("ansible_host") or variables.get("inventory_hostname")
    user = variables.get("ansible_user") or variables.get("ansible_ssh_user")
    port = variables.get("ansible_port")
    inner = f"exec bash --rcfile {shlex.quote(folder + '/shellrc')} -i"
    if variables.get("ansible_connection") == "local":
        return f"nothing was run. To try it by hand: {inner.removeprefix('exec ')}"
    key = variables.get("ansible_ssh_private_key_file") or variables.get("ansible_private_key_file")
    argv = [
        "ssh",
        "-t",
        *(["-p", str(port)] if port else []),
        *(["-i", str(key)] if key else []),
        *shlex.split(str(variables.get("ansible_ssh_common_args") or "")),
        f"{user}@{host}" if user else str(host),
        inner,
    ]
    if not host:
        raise BenchfleetError("the host has no address to connect to.")
    return f"nothing was run. To try it by hand: {shlex.join(argv)}"
