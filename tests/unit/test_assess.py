# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verdicts on run directories made of published logs, and of edited copies for each failure."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.assess import (
    Assessment,
    Reason,
    assess,
    count_entries,
)
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.loadgen_log import LogError

YOLO = (
    "v6.0/closed/GATEOverflow/results/"
    "Lenovo_IdeaPad_Gaming_3_Ryzen_5_4600H-reference-gpu-pytorch_v2.5.0a0-cu126/yolo-95"
)
GPT_OSS = "v6.0/closed/AMD/results/8xMI355X_2xEPYC_9575F/gpt-oss-120b/Server"
SUMMARY, DETAIL = "mlperf_log_summary.txt", "mlperf_log_detail.txt"
SEEDS = {
    "qsl_rng_seed": 2465351861681999779,
    "sample_index_rng_seed": 14276810075590677512,
    "schedule_rng_seed": 3936089224930324775,
}
EXITED = {"end": "exited", "exit_code": 0, "signal": None, "elapsed_s": 612.5, "reason": None}
Maker = Callable[..., Path]


def wrap(run: Path, result: dict[str, Any] | None = None, **cell: Any) -> None:
    """Add what the supervisor writes: run.json, result.json and a console."""
    planned = {
        "sut": "edge",
        "benchmark": "yolo-95",
        "scenario": "Offline",
        "mode": "performance",
        "submittable": True,
    }
    document = {"format": 1, "run_id": "20260101T000000Z-0badcafe", "cell": planned | cell}
    document["time_limit_s"] = 900
    (run / "run.json").write_text(json.dumps(document), encoding="utf-8")
    (run / "result.json").write_text(json.dumps(EXITED | (result or {})), encoding="utf-8")
    (run / "console.log").write_text("loading the model\nmeasuring\ndone\n", encoding="utf-8")


def edit(path: Path, pattern: str, replacement: str) -> None:
    text = path.read_text(encoding="utf-8")
    edited, count = re.subn(pattern, replacement, text)
    assert count, f"{pattern} is not in {path.name}"
    path.write_text(edited, encoding="utf-8")


@pytest.fixture
def performance(published: Path, tmp_path: Path) -> Maker:
    """A run directory around a published performance log."""

    def make(
        source: str = f"{YOLO}/offline", result: dict[str, Any] | None = None, **cell: Any
    ) -> Path:
        run = tmp_path / "run"
        shutil.copytree(published / source / "performance" / "run_1", run)
        for path in [run, *run.iterdir()]:
            path.chmod(0o755)
        wrap(run, result, **cell)
        return run

    return make


@pytest.fixture
def accuracy(published: Path, tmp_path: Path) -> Maker:
    """A run directory around a published accuracy log, with all of its answers."""

    def make(entries: int = 1525) -> Path:
        run = tmp_path / "run"
        shutil.copytree(published / YOLO / "offline" / "accuracy", run)
        for path in [run, *run.iterdir()]:
            path.chmod(0o755)
        lines = [
            f'{{ "seq_id" : {n}, "qsl_idx" : {n}, "data" : "{"0A" * 500}" }}'
            for n in range(entries)
        ]
        body = "[\n" + ",\n".join(lines) + "\n]\n"
        (run / "mlperf_log_accuracy.json").write_text(body, encoding="utf-8")
        wrap(run, mode="accuracy")
        return run

    return make


MAP = {"accuracy": [{"metric": "mAP", "target": 50.73}]}


def only(verdict: Assessment, outcome: str) -> Reason:
    assert verdict.outcome == outcome, verdict.reasons
    assert not verdict.submittable
    assert len(verdict.reasons) == 1, verdict.reasons
    assert verdict.reasons[0].do
    return verdict.reasons[0]


def test_a_published_performance_run_is_valid(performance: Maker) -> None:
    verdict = assess(performance(), {"loadgen_version": "6.0.10", "seeds": SEEDS})
    assert verdict.outcome == "valid", verdict.reasons
    assert verdict.submittable
    assert (verdict.metric_value, verdict.metric_unit) == (24.187, "Samples/s")
    assert verdict.metric_name == "samples_per_second"
    assert verdict.metric_field == "result_samples_per_second"
    assert (verdict.validity, verdict.num_errors) == ("VALID", 0)
    assert verdict.loadgen_version == "6.0.10 @ d757424450"
    assert verdict.percentiles_ns["latency"]["99.00"] == 626282945001
    assert verdict.samples["total"] == 1525
    assert verdict.elapsed_s == 612.5
    assert (verdict.scenario, verdict.mode) == ("Offline", "performance")


def test_interactive_is_a_server_log_with_token_figures(performance: Maker) -> None:
    verdict = assess(performance(GPT_OSS, benchmark="gpt-oss-120b", scenario="Interactive"), {})
    assert verdict.outcome == "valid", verdict.reasons
    assert (verdict.metric_value, verdict.metric_unit) == (82136.1, "Tokens/s")
    assert verdict.percentiles_ns["ttft"]["99.00"] == 1347438897
    assert verdict.early_stopping == ("TTFT: Run successful.", "TPOT: Run successful.")


def test_submittable_needs_the_plan_to_say_so(performance: Maker) -> None:
    verdict = assess(performance(submittable=False), {})
    assert verdict.outcome == "valid"
    assert not verdict.submittable


def test_json_round_trip(performance: Maker) -> None:
    run = performance()
    verdicts = [assess(run, {}), assess(run, {"loadgen_version": "6.0.17"})]
    for verdict in verdicts:
        assert Assessment.from_json(verdict.to_json()) == verdict
        assert Assessment.from_json(json.dumps(verdict.to_json())) == verdict
    assert verdicts[0].to_json()["metric_value"] == 24.187
    for broken in ({"outcome": "fine"}, {"outcome": "valid", "reasons": [{"why": 1}]}):
        with pytest.raises(ValueError, match="not an assessment"):
            Assessment.from_json(broken)


# --- process facts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "result,outcome,what",
    [
        ({"end": "timeout", "exit_code": None}, "failed", "time limit of 900 s"),
        ({"end": "signalled", "signal": 9}, "failed", "SIGKILL"),
        ({"exit_code": 3}, "failed", "exited with code 3 — done"),
        ({"exit_code": True}, "failed", "an unknown code"),
        (
            {"end": "error", "exit_code": None, "reason": "no such file: python"},
            "failed",
            "the harness could not be run: no such file: python — done",
        ),
        ({"end": "refused", "reason": "the host is busy"}, "refused", "the host is busy"),
        ({"end": "lost"}, "lost", "the run was lost"),
        ({"end": ["?"]}, "failed", "could not be run"),
        (
            {"end": "error", "reason": "the accuracy script failed: exit code 1"},
            "failed",
            "the run failed although the harness exited with 0: the accuracy script failed: exit"
            " code 1",
        ),
    ],
)
def test_bad_ends(performance: Maker, result: dict[str, Any], outcome: str, what: str) -> None:
    assert what in only(assess(performance(result=result), {}), outcome).what


def test_what_failed_after_the_harness_says_where(performance: Maker) -> None:
    run = performance(result={"end": "error", "reason": "the accuracy script failed"})
    (run / "accuracy.log").write_text("KeyError: 'qsl_idx'\n", encoding="utf-8")
    reason = only(assess(run, {}), "failed")
    assert reason.where == "accuracy.log"
    assert "done" not in reason.what  # the last line of a harness that ended well tells nothing
    (run / "console.log").write_text("Traceback (most recent call last):\n  x\nE: no\n")
    reason = only(assess(run, {}), "failed")  # which is why the script failed
    assert (reason.what.partition(" — ")[2], reason.where) == ("E: no", "console.log:1")


def test_the_telling_line_is_the_end_of_the_last_traceback(performance: Maker) -> None:
    run = performance(result={"exit_code": 1})
    (run / "console.log").write_text(
        "start\n"
        "Traceback (most recent call last):\n"
        '  File "harness.py", line 3, in run\n'
        "KeyError: 'a'\n\n"
        "During handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n"
        '  File "harness.py", line 5, in main\n'
        "\x1b[31mRuntimeError: no\x07 memory\x1b[0m" + "!" * 500 + "\n"
        "cleaning up\n",
        encoding="utf-8",
    )
    reason = only(assess(run, {}), "failed")
    assert "exited with code 1 — RuntimeError: no  memory!!!" in reason.what
    assert len(reason.what) < 520 and "\x1b" not in reason.what
    assert reason.where == "console.log:10"


@pytest.mark.parametrize(
    "line,what,number",
    [
        ("ERROR:main:thread: failed on contentid=7, bad shape", "a thread failed", 3),
        ("Traceback (most recent call last):\n  x\nValueError: bad shape", "an exception", 3),
        ("(worker) Traceback (most recent call last):\n(worker)   x\n(worker) E: bad shape", "", 3),
    ],
)
def test_a_clean_exit_does_not_hide_a_failure(
    performance: Maker, line: str, what: str, number: int
) -> None:
    run = performance()
    (run / "console.log").write_text(f"start\n10%\r20%\n{line}\nbye\n", encoding="utf-8")
    reason = only(assess(run, {}), "failed")
    assert what in reason.what and reason.what.endswith("bad shape")
    assert reason.where == f"console.log:{number}"


def test_a_console_without_its_middle(performance: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    run = performance(result={"exit_code": 1})
    (run / "console.log").write_text("first\n" + "x\n" * 1000 + "the end\n", encoding="utf-8")
    assert only(assess(run, {}), "failed").where == "console.log:1002"
    monkeypatch.setattr(f"{assess.__module__}._CONSOLE_PART", 100)
    reason = only(assess(run, {}), "failed")
    assert reason.what.endswith("the end") and reason.where == "console.log"


# --- files ---------------------------------------------------------------------------------------


def test_files_of_the_supervisor(performance: Maker) -> None:
    run = performance()
    (run / "result.json").unlink()
    assert "result.json" in only(assess(run, {}), "lost").what
    (run / "result.json").write_text('{"end": "exi', encoding="utf-8")
    assert "not whole JSON" in only(assess(run, {}), "failed").what
    (run / "run.json").write_text("[" * 100_000, encoding="utf-8")
    assert "run.json is not whole JSON" in only(assess(run, {}), "failed").what
    (run / "run.json").write_text("[]", encoding="utf-8")
    assert "not a JSON object" in only(assess(run, {}), "failed").what
    assert only(assess(run / "nowhere", {}), "failed").where == "run.json"


@pytest.mark.parametrize("name", [SUMMARY, DETAIL])
def test_missing_empty_and_cut_off_logs(performance: Maker, name: str) -> None:
    run = performance()
    whole = (run / name).read_bytes()
    (run / name).write_bytes(whole[: len(whole) // 2])
    assert name in only(assess(run, {}), "failed").what
    (run / name).write_bytes(b"")
    assert name in only(assess(run, {}), "failed").what
    (run / name).unlink()
    assert only(assess(run, {}), "failed").what == f"{name} is missing"
    (run / f"other_{name}").write_bytes(whole)
    (run / name).symlink_to(run / f"other_{name}")
    assert "symbolic link, refused" in only(assess(run, {}), "failed").what


def test_a_log_that_ends_between_records(performance: Maker) -> None:
    run = performance()
    lines = (run / DETAIL).read_text(encoding="utf-8").splitlines(keepends=True)
    (run / DETAIL).write_text("".join(lines[:60]), encoding="utf-8")
    assert "holds no verdict" in assess(run, {}).reasons[0].what
    assert assess(run, {}).outcome == "failed"


def test_broken_lines_are_only_warned_about(performance: Maker) -> None:
    run = performance()
    text = (run / DETAIL).read_text(encoding="utf-8")
    (run / DETAIL).write_text("a print of the harness\n" + text, encoding="utf-8")
    verdict = assess(run, {})
    assert verdict.outcome == "valid"
    assert verdict.warnings == (f"1 broken line(s), the first at {DETAIL}:1",)


# --- LoadGen -------------------------------------------------------------------------------------


def test_errors_make_a_run_invalid(performance: Maker) -> None:
    run = performance(f"{GPT_OSS}/TEST07", benchmark="gpt-oss-120b", scenario="Server")
    reason = only(assess(run, {}), "invalid")
    assert "error_runtime" in reason.what and "Max query count reached" in reason.what
    assert reason.where == f"{DETAIL}:76"


def test_errors_that_only_the_summary_counts(performance: Maker) -> None:
    run = performance()
    edit(run / SUMMARY, "No errors encountered during test", "2 ERRORS encountered")
    verdict = assess(run, {})
    assert "2 error(s)" in only(verdict, "invalid").what
    assert verdict.num_errors == 2


def make_unmet(run: Path, flag: str, key: str) -> None:
    for log, pattern, replacement in (
        (SUMMARY, "Result is : VALID", "Result is : INVALID"),
        (SUMMARY, f"{flag} satisfied *: *Yes", f"{flag} satisfied : NO"),
        (DETAIL, '"result_validity", "value": "VALID"', '"result_validity", "value": "INVALID"'),
        (DETAIL, f'"{key}", "value": true', f'"{key}", "value": false'),
    ):
        edit(run / log, pattern, replacement)


@pytest.mark.parametrize(
    "source,scenario,flag,key,what,do",
    [
        (
            f"{YOLO}/offline",
            "Offline",
            "Min duration",
            "result_min_duration_met",
            "the SUT was faster than target_qps told",
            "raise target_qps or calibrate again with -e recalibrate=true",
        ),
        (
            GPT_OSS,
            "Server",
            "Performance constraints",
            "result_perf_constraints_met",
            "latency limit",
            "lower target_qps",
        ),
        (
            GPT_OSS,
            "Server",
            "Early stopping",
            "early_stopping_met",
            "TTFT: Run successful.",
            "run longer",
        ),
        (
            f"{YOLO}/singlestream",
            "SingleStream",
            "Min queries",
            "result_min_queries_met",
            "fewer queries",
            "lower target_latency",
        ),
    ],
)
def test_unmet_constraints_are_explained(
    performance: Maker, source: str, scenario: str, flag: str, key: str, what: str, do: str
) -> None:
    run = performance(source, benchmark="gpt-oss-120b", scenario=scenario)
    if scenario != "Server":
        edit(run / "run.json", "gpt-oss-120b", "yolo-95")
    make_unmet(run, flag, key)
    verdict = assess(run, {})
    reason = only(verdict, "invalid")
    assert reason.what.startswith(f"{flag} satisfied: NO — ")
    assert what in reason.what and do in reason.do
    line = int(reason.where.removeprefix(f"{SUMMARY}:"))
    assert flag in (run / SUMMARY).read_text(encoding="utf-8").splitlines()[line - 1]
    assert verdict.metric_value is not None
    assert verdict.validity == "INVALID"


def test_a_duration_cut_by_max_duration(performance: Maker) -> None:
    run = performance()
    make_unmet(run, "Min duration", "result_min_duration_met")
    edit(run / SUMMARY, r"max_duration \(ms\): \d+", "max_duration (ms): 5000")
    assert "max_duration of 5000 ms" in only(assess(run, {}), "invalid").what


def test_both_logs_must_say_valid(performance: Maker) -> None:
    run = performance()
    edit(run / DETAIL, '"result_validity", "value": "VALID"', '"result_validity", "value": "?"')
    assert "VALID in the summary, ?" in only(assess(run, {}), "invalid").what


def test_version_seeds_scenario_and_mode(performance: Maker) -> None:
    run = performance()
    reason = only(assess(run, {"loadgen_version": "6.0.17"}), "invalid")
    assert reason.what == "LoadGen is version 6.0.10 @ d757424450, the round needs 6.0.17"
    assert reason.where == f"{DETAIL}:1"
    reason = only(assess(run, {"seeds": SEEDS | {"qsl_rng_seed": 7}}), "invalid")
    assert "effective_qsl_rng_seed is 2465351861681999779, the round needs 7" in reason.what
    wrap(run, scenario="Server")
    assert "LoadGen ran Offline" in only(assess(run, {}), "invalid").what
    wrap(run)
    edit(
        run / DETAIL,
        '"effective_test_mode", "value": "[^"]*"',
        '"effective_test_mode", "value": "A"',
    )
    assert "in mode A, not PerformanceOnly" in only(assess(run, {}), "invalid").what


def test_a_token_benchmark_without_tokens(performance: Maker) -> None:
    run = performance(benchmark="llama3.1-8b")
    assert "no Offline figure for llama3.1-8b" in only(assess(run, {}), "failed").what
    assert assess(run, {"checker_name": "yolo-95"}).outcome == "valid"


# --- accuracy ------------------------------------------------------------------------------------


def test_an_accuracy_run_is_valid(accuracy: Maker) -> None:
    verdict = assess(accuracy(), MAP | {"loadgen_version": "6.0.10", "seeds": SEEDS})
    assert verdict.outcome == "valid", verdict.reasons
    assert verdict.accuracy == {"mAP": 53.108}
    assert verdict.samples["accuracy"] == 1525
    assert verdict.submittable and verdict.accuracy_hash
    assert verdict.metric_value is None


@pytest.mark.parametrize(
    "rule,what",
    [
        ({"metric": "mAP", "target": 53.2}, "mAP is 53.108, the target is 53.2"),
        ({"metric": "mAP", "target": 1, "upper": 50.5}, "mAP is 53.108, the upper limit is 50.5"),
    ],
)
def test_accuracy_out_of_bounds(accuracy: Maker, rule: dict[str, Any], what: str) -> None:
    reason = only(assess(accuracy(), {"accuracy": [rule]}), "invalid")
    assert (reason.what, reason.where) == (what, "accuracy.txt")


def test_accuracy_files(accuracy: Maker) -> None:
    run = accuracy()
    rules = {"accuracy": [{"metric": "acc", "target": 1.0}]}
    assert only(assess(run, rules), "failed").what == "accuracy.txt holds no acc"
    (run / "accuracy.txt").unlink()
    assert only(assess(run, MAP), "failed").what == "accuracy.txt is missing"
    verdict = assess(run, {})
    assert verdict.outcome == "valid" and verdict.accuracy == {}


def test_a_bound_without_target_is_checked_only_where_printed(accuracy: Maker) -> None:
    rule = {"metric": "TOKENS_PER_SAMPLE", "target": None, "upper": 10.0}
    run = accuracy()
    verdict = assess(run, {"accuracy": [rule]})
    assert verdict.outcome == "valid" and "TOKENS_PER_SAMPLE" in verdict.warnings[0]
    (run / "accuracy.txt").write_text("{'tokens_per_sample': 11.0}\n", encoding="utf-8")
    assert "upper limit is 10" in only(assess(run, {"accuracy": [rule]}), "invalid").what


def test_a_log_that_the_sut_has_cut(accuracy: Maker) -> None:
    run = accuracy()
    log, text = run / "mlperf_log_accuracy.json", (run / "accuracy.txt").read_text()
    whole = {"sha256": "ab" * 32, "bytes": log.stat().st_size, "entries": 1525}
    log.write_bytes(log.read_bytes()[:4096] + b"\n\n...\n\n" + log.read_bytes()[-4096:])
    (run / "accuracy.txt").write_text(f"{text.rpartition('hash=')[0]}hash={'ab' * 32}\n")
    assert only(assess(run, MAP), "invalid").what.endswith("the dataset has 1525 samples")
    wrap(run, {"accuracy_log": whole}, mode="accuracy")
    verdict = assess(run, MAP)
    assert verdict.outcome == "valid", verdict.reasons
    assert (verdict.samples["accuracy"], verdict.accuracy_hash) == (1525, "ab" * 32)
    wrap(run, {"accuracy_log": {**whole, "entries": 1524}}, mode="accuracy")
    assert only(assess(run, MAP), "invalid").what.startswith("1524 answers were logged")


def test_every_sample_must_be_answered(accuracy: Maker) -> None:
    reason = only(assess(accuracy(1524), MAP), "invalid")
    assert reason.what == "1524 answers were logged, the dataset has 1525 samples"
    assert reason.where == "mlperf_log_accuracy.json"


def test_an_answer_log_that_is_cut_off(accuracy: Maker) -> None:
    run = accuracy()
    path = run / "mlperf_log_accuracy.json"
    whole = path.read_bytes()
    path.write_bytes(whole[:-3])
    assert "mlperf_log_accuracy.json is cut off" in only(assess(run, MAP), "failed").what
    path.write_bytes(b"")
    with pytest.raises(LogError, match="is empty"):
        count_entries(path)


def test_entries_are_counted_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "mlperf_log_accuracy.json"
    path.write_text("[" + ",".join('{"qsl_idx":1}' for _ in range(500)) + "]\n", encoding="utf-8")
    for size in (1, 7, 8, 9, 10, 64, 4096):
        monkeypatch.setattr(f"{count_entries.__module__}._CHUNK", size)
        assert count_entries(path) == 500


# --- calibration ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document,outcome",
    [
        ({"target": {"target_qps": 100.5}}, "valid"),
        ({"target": {"target_latency_ms": 3}, "why": "p90 of trial_2"}, "valid"),
        ({"target": {"target_qps": 0}}, "failed"),
        ({"target": {"target_qps": "fast"}}, "failed"),
        ({"target": None, "why": "no trial was stable"}, "failed"),
        ([], "failed"),
    ],
)
def test_calibration(tmp_path: Path, document: object, outcome: str) -> None:
    wrap(tmp_path, mode="calibration")
    assert only(assess(tmp_path, {}), "failed").what == "calibration.json is missing"
    (tmp_path / "calibration.json").write_text(json.dumps(document), encoding="utf-8")
    verdict = assess(tmp_path, {})
    assert verdict.outcome == outcome
    assert not verdict.submittable
