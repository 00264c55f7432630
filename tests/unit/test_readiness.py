# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What provisioning reports: each part once a SUT, and every reason why a host is not ready."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import readiness
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.session import Session

ENV = {"name": "env-1", "requirements": {"a.txt": "# Disk: 500 MB\npackaging==1 \\\n"}}
COMMON = {"hosts": ["n"], "payloads": {"p": {"envs": {"python": ENV}}}}
CELL = {
    "id": "n/tiny/reference/Offline/performance",
    "sut": "n",
    "payload": "p",
    "model": {"name": "net", "origin": "store"},
    "dataset": {"name": "cases", "origin": "derived"},
    "needs": {"dataset.raw": {"name": "raw", "origin": "path"}},
}
PLACES = {w: {"identity": f"id-{w}"} for w in ("model", "dataset", "dataset.raw")}
ITEM = {"cell": CELL, "digest": "d", "action": "run", "reason": None, "places": PLACES}
THERE = {
    "id-model": {"path": "/h/net", "bytes": 2_000_000, "new": False},
    "id-dataset": {"path": "/h/cases", "bytes": 10, "new": True},
}


def session(folder: Path, items: list[dict[str, Any]] | None, **stages: Any) -> Session:
    made = Session.create(folder, COMMON, {"n": [CELL]})
    made.record("n", "probe", {"work": items} if items is not None else {"fault": "no answer"})
    for name, found in stages.items():
        made.record("n", name, found)
    return made


def test_each_part_is_one_row(tmp_path: Path) -> None:
    found = {"artifacts": THERE, "built": ["env-1"], "waiting": []}
    rows = readiness.rows(session(tmp_path, [ITEM, ITEM], provision=found))
    assert [tuple(r) for r in rows] == [
        ("n", "environment", "env-1", "built", "about 500 MB"),
        ("n", "model", "net", "ready", "2 MB"),
        ("n", "dataset", "cases", "made", "10 B"),
        ("n", "dataset", "raw", "missing", ""),
    ]
    text = "\n".join(readiness.lines(rows, {}))
    assert "4 parts on 1 SUT; 0 hosts not ready." in text


def test_without_provisioning_everything_is_missing(tmp_path: Path) -> None:
    rows = readiness.rows(session(tmp_path, [ITEM]))
    assert {r.state for r in rows} == {"missing"}


def test_what_need_not_run_has_no_rows(tmp_path: Path) -> None:
    done = session(tmp_path, [ITEM | {"action": "done"}])
    assert readiness.rows(done) == []
    assert readiness.unready(done) == {}
    assert readiness.lines([], {})[-1] == "nothing has to run; 0 hosts not ready."


def test_every_reason_is_said_once(tmp_path: Path) -> None:
    refused = ITEM | {"action": "refuse", "reason": "no such backend"}
    found = {"fault": "disk is full", "missing_packages": ["g++"]}
    made = session(tmp_path, [refused, refused, ITEM], provision=found)
    why = ["disk is full", "packages are missing: g++", "no such backend"]
    assert readiness.unready(made) == {"n": why}
    lines = readiness.lines([], readiness.unready(made))
    assert "NOT READY: n" in lines
    assert "  no such backend" in lines
    assert readiness.unready(session(tmp_path, None)) == {"n": ["no answer"]}


def test_refusals_of_the_preflight_count(tmp_path: Path) -> None:
    made = session(tmp_path, [ITEM], preflight={"refused": {"d": "memory: 1 GB"}})
    assert readiness.unready(made) == {"n": ["memory: 1 GB"]}


def test_places_are_those_that_are_there(tmp_path: Path) -> None:
    made = session(tmp_path, [ITEM], provision={"artifacts": THERE})
    expected = {"model": "/h/net", "dataset": "/h/cases"}
    assert readiness.places(made) == {"n": {CELL["id"]: expected}}
