# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Outcomes: every planned cell gets one, whatever happened to its host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .results import Results
from .session import Session

# Outcomes that do not fail a host: a skipped cell had nothing to do here, a prepared one was asked
# for by debug.
GOOD = ("valid", "skipped", "prepared")
_OF_CELL = (
    *("id", "host", "sut", "benchmark", "implementation", "scenario", "mode"),
    *("round", "division", "duration"),
)
_BRIEF = (
    *("id", "sut", "benchmark", "scenario", "mode", "outcome", "metric", "value", "unit"),
    *("validity", "accuracy", "run", "submittable"),
)
_STAGES = ("probe", "preflight", "provision", "start", "watch", "gather")


def conclude(session: Session, results: Results) -> list[dict[str, Any]]:
    """Return the outcome of each cell of the session, in planned order, and record each host's."""
    common = session.common()
    entries: list[tuple[Path, Mapping[str, Any], dict[str, Any]]] = []
    everything: list[dict[str, Any]] = []
    for host in session.hosts():
        stages = {name: session.read(host, name) or {} for name in _STAGES}
        items = session.work(host)
        if items is None:
            own = [_blank(c) | _unreached(c, stages["probe"]) for c in session.cells(host)]
        else:
            own = [_outcome(i, stages, common, results, entries) for i in items]
            own = [o for o, i in zip(own, items, strict=True) if _shown(o, i, session.cells(host))]
        session.record(host, "outcomes", own)
        everything += own
    results.add(entries)
    return everything


def write(session: Session, results: Results, found: list[dict[str, Any]]) -> bool:
    """Write the outcomes as JSON, one file for each request, unless it says the same already;
    return whether it wrote."""
    path = results.root / "outcomes" / f"{session.common()['request']}.json"
    text = json.dumps({"format": 1, "cells": found}, indent=1, sort_keys=True) + "\n"
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return True


_LEFT_OUT = {"refuse": "refused", "skip": "skipped"}


def planned(session: Session) -> list[dict[str, Any]]:
    """Return a row for each cell of the session: what it needs and how long that will take."""
    rows = []
    for host in session.hosts():
        probe = session.read(host, "probe") or {}
        items = {i["cell"]["id"]: i for i in probe.get("work", [])}
        for cell in session.cells(host):
            item = items.get(cell["id"])
            own = "refuse" if cell["refuse"] else "skip" if cell["skip"] else "unknown"
            action = item["action"] if item else own
            needs = cell["refuse"] or cell["skip"] or _needs(item, items, probe)
            rows.append(
                {
                    "id": cell["id"],
                    "sut": cell["sut"],
                    "benchmark": cell["benchmark"],
                    "implementation": cell["implementation"],
                    "scenario": cell["scenario"],
                    "mode": cell["mode"],
                    "todo": action in ("run", "attach", "collect"),
                    "action": _LEFT_OUT.get(action, action),
                    "expected_s": _seconds(item, items),
                    "disk_gb": (cell["resources"] or {}).get("disk_gb"),
                    "needs": needs,
                }
            )
    return rows


def brief(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Return an outcome without its details, small enough for hundreds of cells in one result."""
    return {n: outcome.get(n) for n in _BRIEF} | {
        "reason": (outcome["reasons"] or [{}])[0].get("what")
    }


def _needs(
    item: dict[str, Any] | None, items: Mapping[str, dict[str, Any]], probe: Mapping[str, Any]
) -> str:
    if item is None:
        return str(probe.get("fault") or "the host was not asked")
    if item["action"] == "refuse":
        return str(item["reason"])
    words = {
        "done": "nothing: valid result stored",
        "attach": "to finish: it runs there now",
        "collect": "to be collected",
    }
    if item["action"] in words:
        return words[item["action"]]
    first = item.get("calibration")
    waits = first and any(i["digest"] == first for i in items.values())
    return "calibration, run" if waits else "run"


def _seconds(item: dict[str, Any] | None, items: Mapping[str, dict[str, Any]]) -> float:
    if item is None or item["action"] != "run":
        return 0.0
    first = [
        i for i in items.values() if item.get("calibration") and i["digest"] == item["calibration"]
    ]
    return float(item["cell"]["expected_s"]) + sum(float(i["cell"]["expected_s"]) for i in first)


def _shown(outcome: dict[str, Any], item: dict[str, Any], cells: list[dict[str, Any]]) -> bool:
    """A calibration that nobody asked for is shown only when it went wrong."""
    return outcome["outcome"] not in GOOD or item["cell"]["id"] in {c["id"] for c in cells}


def _blank(cell: Mapping[str, Any]) -> dict[str, Any]:
    empty: dict[str, Any] = {
        "outcome": "failed",
        "reasons": [],
        "warnings": [],
        "run": None,
        "digest": None,
    }
    empty |= {
        "metric": None,
        "value": None,
        "unit": None,
        "accuracy": {},
        "validity": None,
        "submittable": False,
    }
    return {n: cell[n] for n in _OF_CELL} | empty


def _unreached(cell: Mapping[str, Any], probe: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outcome of a cell whose host did not answer, unless the plan ruled it out."""
    if cell["refuse"] or cell["skip"]:
        return _ruled_out(cell["refuse"] or cell["skip"], bool(cell["refuse"]), cell["id"])
    what = str(probe.get("fault") or "the host was not reached")
    outcome = "unreachable" if probe.get("unreachable") or not probe else "failed"
    return {
        "outcome": outcome,
        "reasons": [_reason(what, "the host", "Mend the connection, run the same command again.")],
    }


def _ruled_out(why: str, refused: bool, cell_id: str) -> dict[str, Any]:
    word = "refused" if refused else "skipped"
    return {"outcome": word, "reasons": [_reason(why, cell_id, "")]}


def _reason(what: str, where: str, do: str) -> dict[str, str]:
    return {"what": what, "where": where, "do": do}


def _outcome(
    item: dict[str, Any],
    stages: Mapping[str, Mapping[str, Any]],
    common: Mapping[str, Any],
    results: Results,
    entries: list[tuple[Path, Mapping[str, Any], dict[str, Any]]],
) -> dict[str, Any]:
    cell = item["cell"]
    found = _blank(cell) | {"digest": item["digest"]}
    if item["action"] in ("skip", "refuse"):
        return found | _ruled_out(item["reason"], item["action"] == "refuse", cell["id"])
    run = item["run"] or stages["gather"].get("runs", {}).get(item["digest"])
    if run is None:
        return found | _missing(item, stages, common)
    path = Path(run)
    verdict = results.cached(path, cell["rules"])
    if verdict is None:
        verdict = results.verdict(path, cell["rules"])
        entries.append((path, cell["rules"], verdict))
    return found | {
        "outcome": verdict["outcome"],
        "reasons": verdict["reasons"],
        "warnings": verdict["warnings"],
        "run": str(path.relative_to(results.root)),
        "metric": verdict["metric_name"],
        "value": verdict["metric_value"],
        "unit": verdict["metric_unit"],
        "accuracy": verdict["accuracy"],
        "validity": verdict["validity"],
        "submittable": verdict["submittable"],
    }


def _missing(
    item: dict[str, Any], stages: Mapping[str, Mapping[str, Any]], common: Mapping[str, Any]
) -> dict[str, Any]:
    """Explain why a cell that was to run has no run here."""
    if common["preflight_only"] and "checks" in stages["preflight"]:
        text = "preflight_only: the host is ready, nothing was started"
        return {"outcome": "skipped", "reasons": [_reason(text, item["cell"]["id"], "")]}
    if common["debug"] and stages["start"].get("prepared"):
        if stages["start"]["prepared"] == item["digest"]:
            text = str(stages["start"]["msg"])
            return {"outcome": "prepared", "reasons": [_reason(text, item["cell"]["id"], "")]}
        text = "debug prepares one cell: name this one's benchmark, scenario and mode to get it"
        return {"outcome": "skipped", "reasons": [_reason(text, item["cell"]["id"], "")]}
    fault = stages["gather"].get("faults", {}).get(item["digest"])
    if fault:
        return {
            "outcome": "failed",
            "reasons": [_reason(fault, "gather", "The SUT keeps the run; run the command again.")],
        }
    for name in _STAGES[1:]:
        if stages[name].get("fault"):
            outcome = "unreachable" if stages[name].get("unreachable") else "failed"
            return {
                "outcome": outcome,
                "reasons": [
                    _reason(stages[name]["fault"], name, "Then run the same command again.")
                ],
            }
    trouble = "; ".join(stages["watch"].get("trouble", [])) or "the job ended without this run"
    return {
        "outcome": "failed",
        "reasons": [_reason(trouble, "the job", "Run the same command again.")],
    }
