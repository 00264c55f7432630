# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From work items to outcomes, index and table, with run directories that were never run."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import (
    outcomes,
    planner,
    results,
    table,
    work,
)
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.probe_script import Probe
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.results import Results
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.session import Session

CATALOG = Catalog()
COMMON: dict[str, Any] = {
    "rerun": False,
    "recalibrate": False,
    "debug": False,
    "preflight_only": False,
}
COMMON |= {"paths": {}, "controller": "me"}
PAYLOAD: dict[str, Any] = {"code": "c" * 64, "lock": "l" * 64, "driver": None}
JOB = "20260101T000000Z-00000001"


def cells(**variables: Any) -> list[dict[str, Any]]:
    asked = {"scenario": "Offline", "mode": "performance"} | variables
    planned = planner.plan(parse(asked), {"node": {}}, CATALOG)
    return [dict(cell, payload="p") for cell in planned]


def probe(**state: Any) -> Probe:
    return Probe(
        "/h", "/h/hosts/node-1", "boot", {"kernel": "6.1"}, {"jobs": {}, "runs": {}} | state
    )


def decide(
    planned: list[dict[str, Any]], root: Path, seen: Probe | None = None, **common: Any
) -> list[dict[str, Any]]:
    shared = COMMON | {"payloads": {"p": PAYLOAD}} | common
    return work.decide(planned, shared, seen or probe(), Results(root), lambda job: job["pid"] == 1)


def store(root: Path, item: dict[str, Any], when: str = "20260101T000000Z", **verdict: Any) -> Path:
    """Store a run of an item whose verdict is in the index."""
    store_ = Results(root)
    run = store_.folder(item["cell"]) / f"{when}-{item['digest'][:8]}"
    run.mkdir(parents=True)
    record = {"cell": item["cell"], "digest": item["digest"], "created": when}
    (run / "run.json").write_text(json.dumps(record))
    (run / "manifest.json").write_text("{}")
    (run / "calibration.json").write_text(json.dumps({"target": {"target_qps": 7.0}}))
    store_.add([(run, item["cell"]["rules"], verdict_of(**verdict))])
    return run


def verdict_of(**changes: Any) -> dict[str, Any]:
    names = ("metric_name", "metric_value", "metric_unit", "validity", "submittable")
    plain = dict.fromkeys(names) | {"outcome": "valid", "reasons": [], "warnings": []}
    return plain | {"accuracy": {"acc": 99.2}} | changes


def test_a_calibration_comes_before_the_run_that_needs_it(tmp_path: Path) -> None:
    first, run = decide(cells(), tmp_path)
    assert (first["cell"]["mode"], first["action"]) == ("calibration", "run")
    assert (run["cell"]["mode"], run["calibration"]) == ("performance", first["digest"])


def test_one_calibration_serves_both_modes_of_server(tmp_path: Path) -> None:
    items = decide(cells(scenario="Server", mode="performance,accuracy"), tmp_path)
    assert [i["cell"]["mode"] for i in items] == ["calibration", "performance", "accuracy"]
    assert items[1]["calibration"] == items[2]["calibration"] == items[0]["digest"]


def test_a_given_target_needs_no_calibration(tmp_path: Path) -> None:
    (item,) = decide(cells(target_qps=5), tmp_path)
    assert (item["action"], item.get("calibration")) == ("run", None)


def test_a_stored_valid_run_is_done_until_rerun_is_asked_for(tmp_path: Path) -> None:
    planned = cells(target_qps=5)
    (item,) = decide(planned, tmp_path)
    run = store(tmp_path, item)
    assert decide(planned, tmp_path)[0] | {"run": None} == item | {"action": "done"}
    assert decide(planned, tmp_path)[0]["run"] == str(run)
    again = decide(planned, tmp_path, rerun=True)[0]
    assert (again["action"], again["attempt"]) == ("run", 2)


def test_an_invalid_run_is_run_again(tmp_path: Path) -> None:
    planned = cells(target_qps=5)
    store(tmp_path, decide(planned, tmp_path)[0], outcome="invalid")
    assert decide(planned, tmp_path)[0]["action"] == "run"


def test_a_stored_calibration_gives_its_target(tmp_path: Path) -> None:
    run = store(tmp_path, decide(cells(), tmp_path)[0])
    (item,) = decide(cells(), tmp_path)
    assert item["target"] == {"target_qps": 7.0}
    assert item["calibration_run"] == run.name
    first, _item = decide(cells(), tmp_path, recalibrate=True)
    assert (first["cell"]["mode"], first["action"]) == ("calibration", "run")


def test_what_runs_there_is_attached_and_what_ended_there_is_collected(tmp_path: Path) -> None:
    planned = cells(target_qps=5)
    digest = decide(planned, tmp_path)[0]["digest"]

    def action(**state: Any) -> tuple[str, Any]:
        item = decide(planned, tmp_path, probe(**state))[0]
        return item["action"], item.get("job") or item.get("run_id")

    job = {"pid": 1, "digests": [digest], "state": "running"}
    assert action(jobs={JOB: job}) == ("attach", JOB)
    assert action(jobs={JOB: job | {"pid": 2}}) == ("run", None)
    assert action(jobs={JOB: job | {"state": "done"}}) == ("run", None)
    assert action(jobs={JOB: job | {"digests": []}}) == ("run", None)
    run_id = f"20260102T000000Z-{digest[:8]}"
    assert action(runs={digest: run_id}) == ("collect", run_id)
    store(tmp_path, {"cell": planned[0], "digest": digest}, "20260102T000000Z", outcome="failed")
    assert action(runs={digest: run_id}) == ("run", None)


def test_a_rerun_collects_only_what_it_started_itself(tmp_path: Path) -> None:
    planned = cells(target_qps=5)
    digest = decide(planned, tmp_path)[0]["digest"]
    job = {"pid": 2, "digests": [digest], "state": "done"}

    def action(controller: str) -> str:
        seen = probe(jobs={JOB: job | {"controller": controller}}, runs={digest: "r"})
        return str(decide(planned, tmp_path, seen, rerun=True)[0]["action"])

    assert (action("me"), action("somebody")) == ("collect", "run")


def test_a_device_without_its_driver_is_refused(tmp_path: Path) -> None:
    planned = cells(device="cuda", target_qps=5)
    with_driver = {"p": PAYLOAD | {"driver": "kernel"}}
    without = {"p": PAYLOAD | {"driver": "nvidia"}}
    assert decide(planned, tmp_path, payloads=with_driver)[0]["action"] == "run"
    (item,) = decide(planned, tmp_path, payloads=without)
    assert (item["action"], "nvidia driver" in item["reason"]) == ("refuse", True)


def test_debug_prepares_what_is_stored_already(tmp_path: Path) -> None:
    planned = cells(target_qps=5)
    store(tmp_path, decide(planned, tmp_path)[0])
    assert decide(planned, tmp_path, debug=True)[0]["action"] == "run"


def test_no_cell_is_lost_where_two_models_have_the_same_content(tmp_path: Path) -> None:
    planned = cells(benchmark="custom", model_path="/a.onnx,/b.onnx", target_qps=5)
    items = decide(planned, tmp_path, paths={"/a.onnx": "ab" * 32, "/b.onnx": "ab" * 32})
    assert [i["cell"]["benchmark"] for i in items] == ["custom.a", "custom.b"]
    assert [i["places"]["model"]["sha256"] for i in items] == ["ab" * 32] * 2


def test_refused_and_skipped_cells_carry_their_reason(tmp_path: Path) -> None:
    planned = cells(mode="performance,accuracy", benchmark="custom", model_path="/nowhere.onnx")
    refused, skipped = decide(planned, tmp_path)
    assert refused["action"] == "refuse"
    assert "/nowhere.onnx is neither on the SUT nor on this controller" in refused["reason"]
    assert skipped["action"] == "skip"
    assert "generated inputs" in skipped["reason"]


def test_where_artifacts_lie() -> None:
    seen = Probe("/h", "/h/hosts/n", "", {}, {}, {"/m.onnx": "5:1000"})
    sha = "ab" * 32

    def place(origin: str, where: str, sha256: str | None = None) -> dict[str, Any]:
        what = {"origin": origin, "where": where, "sha256": sha256}
        found = work.place(what, seen, {"/here.onnx": sha})
        assert found is not None
        return found

    assert work.place(None, seen, {}) is None
    on_sut = {"path": "/m.onnx", "identity": "/m.onnx:5:1000", "sha256": None}
    assert place("path", "/m.onnx") == on_sut
    stored = {"path": None, "identity": sha, "sha256": sha}
    assert place("path", "/here.onnx") == stored
    assert place("catalog", "/c/x", sha) == stored
    assert place("url", "https://x", sha) == stored
    hub = place("hf", "hf:o/r/f@1")
    assert (hub["path"], hub["identity"]) == (None, "hf:o/r/f@1")


def session_of(tmp_path: Path, planned: list[dict[str, Any]], **common: Any) -> Session:
    shared = COMMON | {"hosts": ["node"], "request": "abc"} | common
    return Session.create(tmp_path, shared, {"node": planned})


def concluded(tmp_path: Path, planned: list[dict[str, Any]], **stages: Any) -> list[dict[str, Any]]:
    debug = bool(stages.pop("debug", False))
    session = session_of(tmp_path, planned, debug=debug)
    for name, found in stages.items():
        session.record("node", name, found)
    found = outcomes.conclude(session, Results(tmp_path / "results"))
    assert session.read("node", "outcomes") == found
    return found


@pytest.mark.parametrize(
    ("stages", "outcome", "what"),
    [
        ({"gather": {"faults": {"*": "cut off"}}}, "failed", "cut off"),
        ({"provision": {"fault": "disk is full"}}, "failed", "disk is full"),
        ({"start": {"fault": "no fork"}}, "failed", "no fork"),
        ({"watch": {"fault": "no answer", "unreachable": True}}, "unreachable", "no answer"),
        ({"gather": {"fault": "no sftp"}}, "failed", "no sftp"),
        ({"provision": {"fault": "a"}, "gather": {"fault": "b"}}, "failed", "a"),
        ({"watch": {"trouble": ["crashed", "again"]}}, "failed", "crashed; again"),
        ({"watch": {}}, "failed", "the job ended without this run"),
        ({"debug": True, "start": {"prepared": "*", "msg": "by hand"}}, "prepared", "by hand"),
        ({"debug": True, "start": {"prepared": "other"}}, "skipped", "debug prepares one cell"),
        ({"debug": True, "start": {"fault": "no disk"}}, "failed", "no disk"),
    ],
)
def test_each_stages_fault_is_the_outcome(
    tmp_path: Path, stages: dict[str, Any], outcome: str, what: str
) -> None:
    planned = cells(target_qps=5)
    items = decide(planned, tmp_path / "results")
    stages = json.loads(json.dumps(stages).replace("*", items[0]["digest"]))
    (found,) = concluded(tmp_path, planned, probe={"work": items}, **stages)
    assert found["outcome"] == outcome
    assert found["reasons"][0]["what"].startswith(what)
    assert found["outcome"] in outcomes.GOOD or found["reasons"][0]["do"]


@pytest.mark.parametrize(
    ("seen", "outcome", "what"),
    [
        (None, "unreachable", "the host was not reached"),
        ({"fault": "timed out", "unreachable": True}, "unreachable", "timed out"),
        ({"fault": "no answer to the probe"}, "failed", "no answer to the probe"),
    ],
)
def test_a_host_that_did_not_answer_has_an_outcome_for_each_cell(
    tmp_path: Path, seen: dict[str, Any] | None, outcome: str, what: str
) -> None:
    planned = cells(mode="performance,accuracy", benchmark="custom", model_path="/m.onnx")
    stages = {} if seen is None else {"probe": seen}
    performance, accuracy = concluded(tmp_path, planned, **stages)
    assert (performance["outcome"], performance["reasons"][0]["what"]) == (outcome, what)
    assert accuracy["outcome"] == "skipped"


def test_every_planned_cell_has_an_outcome_and_helpers_only_when_they_failed(
    tmp_path: Path,
) -> None:
    planned = cells(mode="performance,accuracy")
    root = tmp_path / "results"
    items = decide(planned, root)
    runs = {i["digest"]: str(store(root, i)) for i in items}
    found = concluded(tmp_path, planned, probe={"work": items}, gather={"runs": runs})
    assert [o["id"] for o in found] == [c["id"] for c in planned]
    assert {o["outcome"] for o in found} == {"valid"}
    del runs[items[0]["digest"]]
    found = concluded(tmp_path, planned, probe={"work": items}, gather={"runs": runs})
    assert [o["mode"] for o in found] == ["calibration", "performance", "accuracy"]


def test_outcomes_are_written_once(tmp_path: Path) -> None:
    planned = cells(target_qps=5)
    session = session_of(tmp_path, planned)
    store_ = Results(tmp_path / "results")
    found = outcomes.conclude(session, store_)
    assert outcomes.write(session, store_, found) is True
    assert outcomes.write(session, store_, found) is False
    assert outcomes.write(session, store_, [*found, found[0]]) is True
    written = json.loads((store_.root / "outcomes" / "abc.json").read_text())
    assert len(written["cells"]) == 2
    assert not list(store_.root.glob("outcomes/*.partial"))


def test_the_plan_tells_what_each_cell_needs_and_takes(tmp_path: Path) -> None:
    planned = cells(mode="performance,accuracy") + cells(scenario="Interactive")
    session = session_of(tmp_path, planned)
    rows = outcomes.planned(session)
    assert [r["action"] for r in rows] == ["unknown", "unknown", "refused"]
    assert rows[0]["needs"] == "the host was not asked"
    session.record("node", "probe", {"work": decide(planned, tmp_path / "results")})
    rows = outcomes.planned(session)
    assert [r["needs"] for r in rows][:2] == ["calibration, run", "run"]
    assert [r["todo"] for r in rows] == [True, True, False]
    own, calibration = planned[0]["expected_s"], planner.CALIBRATION_S["test"]
    assert rows[0]["expected_s"] == own + calibration
    shown = table.planned(rows)
    assert "3 cells on 1 SUT, 2 to do" in shown[-1]
    (row,) = [line for line in shown if line.endswith("refused (1)")]
    assert "Interactive" in row
    assert next(line for line in shown if "has no Interactive scenario" in line).startswith("(1) ")


def test_the_plan_tells_the_disk_of_what_is_to_do() -> None:
    row = {"id": "x", "sut": "s", "implementation": "reference", "scenario": "Offline"}
    row |= {"mode": "accuracy", "expected_s": 1.0, "needs": "run", "action": "run"}
    rows = [row | {"benchmark": "bert", "todo": True, "disk_gb": 50}]
    rows.append(row | {"benchmark": "retinanet", "todo": False, "disk_gb": 200})
    assert table.planned(rows)[-1].endswith("Disk for models and data: bert 50 GB.")


def test_a_cached_verdict_is_used_for_the_same_rules_only(tmp_path: Path) -> None:
    item = decide(cells(target_qps=5), tmp_path)[0]
    run = store(tmp_path, item, metric_value=42.0)
    rules = item["cell"]["rules"]
    assert Results(tmp_path).verdict(run, rules)["metric_value"] == 42.0
    assert Results(tmp_path).cached(run, rules | {"loadgen_version": "9"}) is None
    # Judged anew, this empty directory is no valid run.
    assert Results(tmp_path).verdict(run, rules | {"loadgen_version": "9"})["outcome"] != "valid"


def test_a_verdict_of_another_assessor_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = decide(cells(target_qps=5), tmp_path)[0]
    run = store(tmp_path, item)
    monkeypatch.setattr(results, "_assessor", lambda: "another")
    assert Results(tmp_path).cached(run, item["cell"]["rules"]) is None


@pytest.mark.parametrize("damage", [b"no database at all", b""])
def test_a_damaged_index_is_set_aside_and_begun_anew(tmp_path: Path, damage: bytes) -> None:
    item = decide(cells(target_qps=5), tmp_path)[0]
    run = store(tmp_path, item)
    index = tmp_path / "index.sqlite"
    index.write_bytes(damage)
    (tmp_path / "index.sqlite-journal").write_bytes(b"stale")
    rules = item["cell"]["rules"]
    assert Results(tmp_path).cached(run, rules) is None
    Results(tmp_path).add([(run, rules, verdict_of())])
    assert Results(tmp_path).cached(run, rules) == verdict_of()
    assert (tmp_path / "index.damaged").exists() == bool(damage)


def test_an_index_of_other_columns_is_set_aside(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "index.sqlite") as db:
        db.execute("CREATE TABLE runs (path PRIMARY KEY, old)")
    item = decide(cells(target_qps=5), tmp_path)[0]
    run = store(tmp_path, item)
    assert Results(tmp_path).cached(run, item["cell"]["rules"]) == verdict_of()
    assert (tmp_path / "index.damaged").exists()


def test_an_index_that_somebody_writes_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = decide(cells(target_qps=5), tmp_path)[0]
    run = store(tmp_path, item)
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda path, **_kw: connect(path, timeout=0.05))
    with connect(tmp_path / "index.sqlite") as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(BenchfleetError, match="locked"):
            Results(tmp_path).add([(run, item["cell"]["rules"], verdict_of())])
    assert not (tmp_path / "index.damaged").exists()


def dump(root: Path) -> list[tuple[Any, ...]]:
    with sqlite3.connect(root / "index.sqlite") as db:
        return sorted(db.execute("SELECT * FROM runs").fetchall())


def test_rebuilding_gives_the_index_that_was(tmp_path: Path) -> None:
    store_ = Results(tmp_path)
    for item in decide(cells(mode="performance,accuracy", target_qps=5), tmp_path):
        run = store(tmp_path, item)
        rules = item["cell"]["rules"]
        store_.add([(run, rules, results.assess(run, rules).to_json())])
    before = dump(tmp_path)
    assert store_.rebuild(lambda cell: planner.rules_of(cell, CATALOG)) == len(before) == 2
    assert dump(tmp_path) == before
    store_.index.unlink()
    store_.rebuild(lambda cell: planner.rules_of(cell, CATALOG))
    assert dump(tmp_path) == before


def test_rebuilding_names_a_run_that_cannot_be_read(tmp_path: Path) -> None:
    run = store(tmp_path, decide(cells(target_qps=5), tmp_path)[0])
    (run / "run.json").write_text("[]")
    with pytest.raises(BenchfleetError, match=r"run\.json is damaged"):
        Results(tmp_path).rebuild(lambda _cell: {})


def test_results_must_be_writable_and_are_not_made_by_asking(tmp_path: Path) -> None:
    Results(tmp_path / "a" / "b").check_writable()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(BenchfleetError, match="cannot be written"):
        Results(tmp_path / "file" / "x").check_writable()


@pytest.mark.parametrize("host", ["node", "a/b", "..", "ä ö", "x" * 200])
def test_a_session_keeps_what_each_host_found(tmp_path: Path, host: str) -> None:
    session = Session.create(tmp_path, {"hosts": [host]}, {host: [{"id": 1}]})
    session.record(host, "probe", {"todo": True})
    session.record(host, "probe", {"todo": False})
    again = Session(session.folder)
    assert again.cells(host) == [{"id": 1}]
    assert again.read(host, "probe") == {"todo": False}
    assert (again.read(host, "watch"), again.cells("other")) == (None, [])
    assert list(again.hosts()) == [host]
    assert {p.parent for p in tmp_path.rglob("*.json")} == {session.folder}


def outcome(name: str, **changes: Any) -> dict[str, Any]:
    plain = {"id": name, "sut": name, "benchmark": "digits", "scenario": "Offline"}
    plain |= {"mode": "performance", "unit": "samples/s", "run": f"runs/{name}/r1", "reasons": []}
    empty = {"outcome": "valid", "value": 1.0, "accuracy": {}, "submittable": False}
    return plain | empty | {"duration": "test"} | changes


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567.8, "1,234,568"), (99.96, "99.96"), (0.012345, "0.01235"), (0.0, "0"), (None, "")],
)
def test_figures_in_the_table(value: float | None, shown: str) -> None:
    lines = table.outcomes([outcome("a", value=value, unit="U")], Path("/r"))
    assert lines[3].split() == [
        "a",
        "digits",
        "Offline",
        "performance",
        *shown.split(),
        "U",
        "yes",
        "r1",
    ]


def test_reasons_follow_the_table_with_place_and_remedy() -> None:
    why = {"what": "is_error", "where": "log:5", "do": "Look."}
    text = "\n".join(table.outcomes([outcome("a", outcome="failed", reasons=[why])], Path("/r")))
    assert "FAILED: a\n  is_error\n    in /r/runs/a/r1/log:5\n    Look." in text
    assert "1 failed. Results: /r" in text
    assert "test-length" in text


def test_a_long_table_shows_what_is_not_valid_and_says_how_many_there_are() -> None:
    found = [outcome(f"n{i}", outcome="failed" if i < 70 else "valid") for i in range(200)]
    text = "\n".join(table.outcomes(found, Path("/r")))
    assert "… 200 cells in all, 130 of them valid; all are in /r/outcomes." in text
    assert "n59 " in text
    assert "n150" not in text


@pytest.mark.parametrize(
    ("seconds", "shown"), [(0, "0 s"), (42.4, "42 s"), (660, "11 min"), (12600, "3.5 h")]
)
def test_durations(seconds: float, shown: str) -> None:
    assert table.duration(seconds) == shown
