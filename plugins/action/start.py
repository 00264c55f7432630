# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hand a host its list of cells as one detached job."""

from __future__ import annotations

import os
import posixpath
import secrets
import shlex
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..module_utils.artifacts.base import shown
from ..module_utils.job.evaluation import TOKEN_DTYPE
from ..module_utils.job.records import RUN_DIR_TOKEN
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.digest import canonical
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, module_result

MODULE = "benchfleet.mlperf.start"


class Limits(NamedTuple):
    """Bytes: disk space free before a run, size of an accuracy log that goes home whole."""

    min_free: int
    accuracy_log: int


_NOT_RECORDED = ("rules", "signature", "skip", "refuse", "payload", "stale")


class ActionModule(Stage):
    """Write the job of all cells that must run, and start its supervisor."""

    NAME = "start"
    OPTIONS = {"wait_limit": 86400, "min_free_mb": 500, "accuracy_log_max_mb": 100}

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
    limits = Limits(int(options["min_free_mb"]) << 20, int(options["accuracy_log_max_mb"]) << 20)
    cells = [_spec(item, common, probe, ready, catalog, limits) for item in items]
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
    limits: Limits,
) -> dict[str, Any]:
    """Return one cell as the supervisor takes it: command, environment, files and settings, all
    resolved."""
    cell, how = item["cell"], item["cell"]["recipe"]
    mode = "accuracy" if cell["mode"] == "accuracy" else "performance"
    words = [*how["command"], *how["modes"].get(mode, ())]
    placed = {word: _placed(what, ready) for word, what in item["places"].items()}
    where = _where(item, common["payloads"][cell["payload"]], probe, placed)
    recorded = {k: v for k, v in cell.items() if k not in _NOT_RECORDED}
    recorded |= {k: _without_passwords(cell[k]) for k in ("model", "dataset", "needs")}
    if item.get("calibration_run"):
        recorded["calibration_run"] = item["calibration_run"]
    return {
        "digest": item["digest"],
        "attempt": item["attempt"],
        "cell": recorded,
        "argv": [part.format_map(where) for part in words],
        "prefix": shlex.split(cell["run_prefix"]),
        "env": _environment(how["variables"], cell, where),
        "files": _files(cell, placed, catalog, common),
        "links": {n: t.format_map(where) for n, t in how["links"].items()},
        "folders": [where["cache"]] if any("{cache}" in part for part in words) else [],
        "accuracy": _accuracy(how["accuracy"], cell, where),
        "log_limit": limits.accuracy_log,
        "digests": _digests(item, placed),
        "settings": {
            "loadgen_model": cell["loadgen_model"],
            "scenario": cell["scenario"],
            "keys": cell["keys"],
        },
        "target": item.get("target") or cell["target"],
        "calibration": item.get("calibration"),
        "expected_s": cell["expected_s"],
        "time_limit_s": cell["time_limit_s"],
        "min_free_bytes": limits.min_free,
    }


def _without_passwords(value: Any) -> Any:
    """Return what a cell says of its artifacts as it may be recorded: where they come from may be
    an address with a password."""
    if isinstance(value, Mapping):
        return {k: _without_passwords(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_without_passwords(v) for v in value]
    return shown(value) if isinstance(value, str) else value


def _where(
    item: Mapping[str, Any],
    payload: Mapping[str, Any],
    probe: Mapping[str, Any],
    placed: Mapping[str, tuple[str, str | None]],
) -> dict[str, Any]:
    """Return what the placeholders of a recipe's words stand for on this host."""
    cell, home = item["cell"], probe["home"]
    source = f"{home}/src/{payload['folder']['name']}"
    paths = {word: path for word, (path, _sha256) in placed.items()}
    of_data = canonical([item["digests"].get("dataset"), cell["catalog_benchmark"]])[:12]
    where = {
        **{w: f"{home}/envs/{env['name']}/bin/python" for w, env in payload["envs"].items()},
        "src": source,
        "shims": f"{source}/shims",
        "out": RUN_DIR_TOKEN,
        "user_conf": f"{RUN_DIR_TOKEN}/user.conf",
        "scenario": cell["scenario"],
        "scenario_lower": cell["scenario"].lower(),
        "cache": f"{probe['host_dir']}/cache/{cell['catalog_benchmark']}-{of_data}",
        "token_dtype": TOKEN_DTYPE,
        **cell["recipe"]["values"],
        **paths,
    }
    if "tree" in paths:
        where["folder"] = f"{paths['tree']}/{cell['recipe']['source']['folder']}"
    return where


def _environment(
    variables: Mapping[str, str], cell: Mapping[str, Any], where: Mapping[str, Any]
) -> dict[str, str]:
    """Return a program's variables; the environment's own programs come first on its PATH."""
    env = {name: str(value).format_map(where) for name, value in variables.items()}
    env["PATH"] = f"{posixpath.dirname(where['python'])}:{os.defpath}"
    if cell["devices"] and cell["device"] in ("cuda", "tensorrt"):
        env["CUDA_VISIBLE_DEVICES"] = ",".join(cell["devices"])
    return env


def _accuracy(
    script: Mapping[str, Any] | None, cell: Mapping[str, Any], where: Mapping[str, Any]
) -> dict[str, Any] | None:
    """Return the command that reads the accuracy log of an accuracy run."""
    if script is None or cell["mode"] != "accuracy":
        return None
    python = where.get("accuracy_python", where["python"])
    own = {**where, **script["values"], "accuracy_python": python, "python": python}
    variables = {**_offline(cell), **script["variables"]}
    return {
        "argv": [part.format_map(own) for part in script["command"]],
        "env": _environment(variables, cell, own),
        "links": {name: path.format_map(own) for name, path in script["links"].items()},
    }


def _offline(cell: Mapping[str, Any]) -> dict[str, str]:
    """Return what the run's own variables say of every program: no bytecode, no downloads."""
    own = cell["recipe"]["variables"]
    return {n: v for n, v in own.items() if n.startswith(("PYTHON", "HF_", "TRANSFORMERS_"))}


def _files(
    cell: dict[str, Any],
    placed: Mapping[str, tuple[str, str | None]],
    catalog: Catalog,
    common: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the files of a run beside its user.conf: the harness's settings, or what was changed
    in upstream's source."""
    source = cell["recipe"]["source"]
    if source is None:
        return {"config.json": _config(cell, {w: path for w, (path, _sha256) in placed.items()})}
    files = {
        p["file"]: catalog.data(f"patches/{p['file']}").read_text(encoding="utf-8")
        for p in source["patches"]
    }
    difference = common.get("differences", {}).get(cell["needs"]["tree"]["sha256"])
    return files | ({"source.diff": difference} if difference else {})


def _config(cell: dict[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """Return the onnx harness's config.json."""
    mode = "accuracy" if cell["mode"] == "accuracy" else "performance"
    config = {
        "model": paths.get("model"),
        "dataset": paths.get("dataset"),
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


def _placed(place: Mapping[str, Any], ready: Mapping[str, Any]) -> tuple[str, str | None]:
    """Return (path, sha256) of an artifact on the host, as provisioning found it."""
    found = ready["artifacts"][place["identity"]]
    return str(found["path"]), found["sha256"]


def _digests(
    item: Mapping[str, Any], placed: Mapping[str, tuple[str, str | None]]
) -> dict[str, Any]:
    """Return the digests of all that the run is made of, those of content where they are known.

    Raises BenchfleetError when a model or dataset on the host is not the one that was asked for.
    """
    cell, digests = item["cell"], dict(item["digests"])
    for word, (path, sha256) in placed.items():
        digests[word] = sha256 or digests[word]
        what = cell[word] if word in ("model", "dataset") else cell["needs"][word]
        given = what.get("sha256")
        # a source tree goes to the host with its patches applied
        if given and not what.get("patches") and digests[word] != given:
            raise BenchfleetError(
                f"{path} on the host has sha256 {digests[word]}, {given} was asked for."
            )
    return digests


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
