# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs may go, on the controller's side and on the host's; and consents."""

from __future__ import annotations

import json
import os
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import retention as there
from ansible_collections.benchfleet.mlperf.plugins.module_utils.host_store import sha256_of
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import process, records, state
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import consents, retention
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.results import Results
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.retention import Rule, Stored

NOW = datetime(2026, 3, 1, tzinfo=UTC)


def run(day: int, valid: bool | None = True, cell: str = "cell") -> Stored:
    return Stored(Path("/r/runs", cell, f"202601{day:02d}T000000Z-abcdef01"), valid)


def may_go(runs: list[Stored], rule: Rule, *named: str) -> list[int]:
    found = retention.removable(runs, rule, NOW, lambda name: name in named)
    return [int(r.path.name[6:8]) for r in found]


def test_the_newest_valid_run_stays_beside_the_newest() -> None:
    runs = [run(d, valid=d == 1) for d in range(1, 8)]
    assert may_go(runs, Rule(3, None)) == [2, 3, 4]
    assert may_go(runs, Rule(0, None)) == [2, 3, 4, 5, 6, 7]
    assert may_go(runs, Rule(9, None)) == []


def test_both_halves_of_the_rule_spare_runs() -> None:
    runs = [run(d) for d in range(1, 8)]
    month = timedelta(days=55)  # before 2026-03-01: 2026-01-05
    assert may_go(runs, Rule(None, month)) == [1, 2, 3, 4]
    assert may_go(runs, Rule(5, month)) == [1]


def test_what_is_referred_to_or_cannot_be_judged_or_dated_stays() -> None:
    runs = [run(1), run(2, valid=None), run(3), run(4)]
    runs.append(Stored(Path("/r/runs/cell/by-hand"), False))
    assert may_go(runs, Rule(0, None), runs[2].path.name) == [1]


def test_cells_are_counted_apart() -> None:
    runs = [run(d, cell=c) for c in ("a", "b") for d in (1, 2, 3)]
    assert may_go(runs, Rule(1, None)) == [1, 1]


def test_a_cell_never_loses_its_only_valid_run() -> None:
    chance = random.Random(2026)
    for _trial in range(200):
        runs = [run(d, chance.random() < 0.3) for d in range(1, 20)]
        chance.shuffle(runs)
        gone = may_go(runs, Rule(chance.randrange(4), timedelta(days=chance.randrange(90))))
        valid = {int(r.path.name[6:8]) for r in runs if r.valid}
        assert not valid or max(valid) not in gone


@pytest.mark.parametrize(
    ("keep", "older_than", "words"),
    [
        ("", "", "keep=3"),
        ("-1", "", "keep=-1"),
        ("few", "", "keep=few"),
        ("", "30", "older_than=30"),
        ("", "1y", "30d"),
    ],
)
def test_a_rule_that_says_nothing_is_refused(keep: str, older_than: str, words: str) -> None:
    with pytest.raises(BenchfleetError, match=words):
        retention.rule(keep, older_than)


def test_a_rule_is_read() -> None:
    assert retention.rule("3", "") == Rule(3, None)
    assert retention.rule("0", "8w") == Rule(0, timedelta(weeks=8))


def test_references_are_found_in_outcomes_and_submissions(tmp_path: Path) -> None:
    for name, text in (
        ("outcomes/a.json", '{"cells": [{"run": "runs/x/20260101T000000Z-aaaaaaaa"}]}'),
        ("submissions/v6.1/manifest.json", '["20260102T000000Z-bbbbbbbb"]'),
    ):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)
    named = retention.references(tmp_path)
    assert named("20260101T000000Z-aaaaaaaa") and named("20260102T000000Z-bbbbbbbb")
    assert not named("20260103T000000Z-cccccccc")


def stored_run(folder: Path, digest: str = "d1") -> str:
    """Make a finished run; return the sha256 of its manifest."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"digest": digest, "cell": {"host": "n"}}))
    (folder / "log").write_text("x" * 1000)
    records.write_json(folder / "manifest.json", records.manifest(folder))
    return sha256_of(str(folder / "manifest.json"))


def test_a_damaged_copy_is_noticed(tmp_path: Path) -> None:
    stored_run(tmp_path / "r1")
    assert retention.damage(tmp_path / "r1") is None
    (tmp_path / "r1" / "log").write_text("y" * 1000)
    assert "damaged" in str(retention.damage(tmp_path / "r1"))


def test_a_host_loses_only_what_its_controller_holds(tmp_path: Path) -> None:
    wanted = {n: stored_run(tmp_path / "runs" / n, n) for n in ("r1", "r2", "r3")}
    with state.locked(tmp_path) as known:
        known["runs"] = {"d1": "r1", "d3": "r3"}
    wanted |= {"r2": "0" * 64, "r4": "0" * 64}
    seen = there.remove(tmp_path, wanted, check=True)
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["r1", "r2", "r3"]
    result = there.remove(tmp_path, wanted, check=False)
    assert result == seen
    assert set(result["removed"]) == {"r1", "r3"}
    assert result["removed"]["r1"] > 1000
    assert "r2" in result["kept"]
    assert [p.name for p in (tmp_path / "runs").iterdir()] == ["r2"]
    assert state.read(tmp_path)["runs"] == {}


def test_runs_of_a_living_job_stay(tmp_path: Path) -> None:
    wanted = {n: stored_run(tmp_path / "runs" / n, n) for n in ("r1", "r2", "r3")}
    job: dict[str, Any] = {"state": "running", "boot_id": process.boot_id(), "pid": os.getpid()}
    job |= {"pid_start": process.start_ticks(os.getpid()), "digests": ["r1"]}
    with state.locked(tmp_path) as known:
        known["jobs"] = {"j": job}
    (tmp_path / "jobs" / "j").mkdir(parents=True)
    records.write_json(tmp_path / "jobs" / "j" / "status.json", {"runs": [{"run_id": "r2"}]})
    result = there.remove(tmp_path, wanted, check=False)
    assert set(result["removed"]) == {"r3"}
    assert set(result["kept"]) == {"r1", "r2"}


def test_a_link_in_place_of_a_run_is_left_alone(tmp_path: Path) -> None:
    manifest = stored_run(tmp_path / "elsewhere")
    (tmp_path / "host" / "runs").mkdir(parents=True)
    (tmp_path / "host" / "runs" / "r1").symlink_to(tmp_path / "elsewhere")
    result = there.remove(tmp_path / "host", {"r1": manifest}, check=False)
    assert result == {"removed": {}, "kept": {}}
    assert there.remove(tmp_path / "none", {"r1": manifest}, check=False)["removed"] == {}


def test_a_removed_run_leaves_the_index(tmp_path: Path) -> None:
    results = Results(tmp_path)
    folder = tmp_path / "runs/s/b/i/Offline/accuracy/20260101T000000Z-abcdef01"
    stored_run(folder)
    names = ("outcome", "metric_name", "metric_value", "metric_unit")
    results.add([(folder, {}, dict.fromkeys(names))])
    assert results.cached(folder, {}) is not None
    results.remove([folder])
    assert results.cached(folder, {}) is None
    assert not folder.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["index.sqlite", "runs"]


GATE = {"name": "llama2", "how": "consent", "where": "https://example.org", "terms": "non-com."}


def test_a_consent_is_recorded_once(tmp_path: Path) -> None:
    assert consents.given(tmp_path) == {}
    first = consents.entry("llama2", " Jane Doe, Acme ", {"llama2": GATE}, NOW)
    consents.record(tmp_path, "llama2", first)
    later = consents.entry("llama2", "Eve", {"llama2": GATE}, NOW + timedelta(days=1))
    consents.record(tmp_path, "llama2", later)
    expected = {"by": "Jane Doe, Acme", "at": "2026-03-01T00:00:00Z"}
    expected |= {"where": GATE["where"], "terms": GATE["terms"]}
    assert consents.given(tmp_path) == {"llama2": expected}


def test_a_consent_needs_a_known_name_and_a_person(tmp_path: Path) -> None:
    with pytest.raises(BenchfleetError, match="Did you mean 'llama2'"):
        consents.entry("lama2", "Jane", {"llama2": GATE}, NOW)
    with pytest.raises(BenchfleetError, match="who agrees"):
        consents.entry("llama2", " ", {"llama2": GATE}, NOW)
    (tmp_path / "consents.json").write_text("{")
    with pytest.raises(BenchfleetError, match="damaged"):
        consents.given(tmp_path)
