# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to do on one host: its cells against what is stored here and what the probe found
there."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .digest import run_digest
from .planner import calibration_of
from .probe_script import Probe
from .results import Results

Cell = dict[str, Any]


def place(
    what: Mapping[str, Any] | None, probe: Probe, known: Mapping[str, str]
) -> dict[str, Any] | None:
    """Return where an artifact of a cell lies on the host: {"path", "identity", "sha256"}.

    A path of the user's is taken on the SUT where it exists there, else from the controller
    (`known`: path -> sha256 of those that exist here). Its identity on the SUT is size and time, so
    that a no-op need not read a large model. `path` is None for what the host's store holds: it is
    known once it is there. None when there is none; {"fault"} when it is nowhere.
    """
    if what is None or what["origin"] == "none":
        return None
    if what["origin"] != "path":
        return {
            "path": None,
            "identity": what["sha256"] or what["where"],
            "sha256": what["sha256"],
        }
    path = what["where"]
    if path in probe.paths:
        return {"path": path, "identity": f"{path}:{probe.paths[path]}", "sha256": None}
    if path not in known:
        return {"fault": f"{path} is neither on the SUT nor on this controller"}
    return {"path": None, "identity": known[path], "sha256": known[path]}


def decide(
    cells: list[Cell],
    common: Mapping[str, Any],
    probe: Probe,
    results: Results,
    alive: Callable[[Mapping[str, Any]], bool],
) -> list[dict[str, Any]]:
    """Return a work item for each cell, calibrations that must come first included.

    An item's `action` is 'skip', 'refuse', 'done' (a valid run is stored), 'collect' (finished on
    the SUT, not here yet), 'attach' (running there), or 'run'. `alive` tells whether a job of the
    SUT's state file still runs.
    """
    jobs = {
        j: r
        for j, r in probe.state.get("jobs", {}).items()
        if r.get("state") not in ("done", "failed") and alive(r)
    }
    items: dict[str, dict[str, Any]] = {}
    for cell in cells:
        item = _item(cell, common, probe, results, jobs)
        if item["action"] == "run" and needs_target(cell) and not cell["target"]:
            first = _calibration(item, common, probe, results, jobs)
            if first and first["digest"] not in items:
                items[first["digest"]] = first
        items[item["digest"] or cell["id"]] = item
    return list(items.values())


def needs_target(cell: Mapping[str, Any]) -> bool:
    """Return whether LoadGen must be told a rate or latency: also for accuracy where queries come
    at a rate."""
    return cell["mode"] == "performance" or (
        cell["mode"] == "accuracy" and cell["scenario"] in ("Server", "Interactive")
    )


def _item(
    cell: Cell, common: Mapping[str, Any], probe: Probe, results: Results, jobs: Mapping[str, Any]
) -> dict[str, Any]:
    item: dict[str, Any] = {
        "cell": cell,
        "digest": None,
        "action": "",
        "reason": None,
        "run": None,
        "attempt": 1,
    }
    if cell["refuse"] or cell["skip"]:
        return item | {
            "action": "refuse" if cell["refuse"] else "skip",
            "reason": cell["refuse"] or cell["skip"],
        }
    places = {
        word: place(what, probe, common["paths"])
        for word, what in {
            "model": cell["model"],
            "dataset": cell["dataset"],
            **cell["needs"],
        }.items()
    }
    for found in places.values():
        if found and "fault" in found:
            return item | {"action": "refuse", "reason": found["fault"]}
    payload = common["payloads"][cell["payload"]]
    if payload["driver"] and payload["driver"] not in probe.fingerprint:
        reason = f"device={cell['device']} needs the {payload['driver']} driver; the SUT has none"
        return item | {"action": "refuse", "reason": reason}
    digests = {word: found["identity"] if found else None for word, found in places.items()}
    digests |= {"code": payload["code"], "lock": payload["lock"]}
    item |= {
        "places": {word: found for word, found in places.items() if found},
        "digests": digests,
        "digest": run_digest(cell, digests, probe.fingerprint),
    }
    return item | _status(cell, item["digest"], common, probe, results, jobs)


def _status(
    cell: Cell,
    digest: str,
    common: Mapping[str, Any],
    probe: Probe,
    results: Results,
    jobs: Mapping[str, Any],
) -> dict[str, Any]:
    """Return action, run, job and attempt of a cell that could run."""
    stored = results.find(cell, digest)
    if common.get("debug") and cell["mode"] != "calibration":
        return {"action": "run", "attempt": len(stored) + 1}
    again = cell.get("stale") or common["rerun" if cell["mode"] != "calibration" else "recalibrate"]
    if not again:
        for run in reversed(stored):
            if results.verdict(run, cell["rules"])["outcome"] == "valid":
                return {"action": "done", "run": str(run)}
    found = {"attempt": len(stored) + 1}
    for job, record in jobs.items():
        if digest in record.get("digests", ()):
            return found | {"action": "attach", "job": job}
    run_id = probe.state.get("runs", {}).get(digest)
    ours = not again or (not cell.get("stale") and _ours(digest, common, probe))
    if run_id and ours and all(run.name != run_id for run in stored):
        return found | {"action": "collect", "run_id": run_id}
    return found | {"action": "run"}


def _ours(digest: str, common: Mapping[str, Any], probe: Probe) -> bool:
    """Return whether a job of this results folder made the run that the SUT holds: a rerun that was
    interrupted here is collected, a run that somebody else made before is no rerun."""
    jobs = probe.state.get("jobs", {}).values()
    return any(
        digest in job.get("digests", ()) and job.get("controller") == common["controller"]
        for job in jobs
    )


def _calibration(
    item: dict[str, Any],
    common: Mapping[str, Any],
    probe: Probe,
    results: Results,
    jobs: Mapping[str, Any],
) -> dict[str, Any] | None:
    """Give `item` its target, or the digest of the calibration that finds it, which is returned to
    be run first."""
    cell = calibration_of(item["cell"])
    # A run that ended INVALID shows that the target it was given no longer fits the host.
    cell["stale"] = item["attempt"] > 1 and not common["rerun"]
    first = _item(cell, common, probe, results, jobs)
    if first["action"] == "done":
        item["target"] = json.loads(
            (Path(first["run"]) / "calibration.json").read_text(encoding="utf-8")
        )["target"]
        item["calibration_run"] = Path(first["run"]).name
        return None
    item["calibration"] = first["digest"]
    # A finished calibration on the SUT is used where it lies; its evidence comes home with the
    # rest.
    return first
