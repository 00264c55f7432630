# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LoadGen logs of all rounds: what is read, what is refused, and the published figures."""

from __future__ import annotations

import csv
import json
import os
import time
from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import loadgen_log as logs
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import published_figure

DEEPSEEK = "v5.1/closed/NVIDIA/results/GB200-NVL72_GB200-186GB_aarch64x72_TRT/deepseek-r1/Server"
GPT_OSS = "v6.0/closed/AMD/results/8xMI355X_2xEPYC_9575F/gpt-oss-120b/Server"
YOLO = (
    "v6.0/closed/GATEOverflow/results/"
    "Lenovo_IdeaPad_Gaming_3_Ryzen_5_4600H-reference-gpu-pytorch_v2.5.0a0-cu126/yolo-95"
)
UNITS = {"Latency (ms)": "ms", "Latency (s)": "s"}


def record(key: str, value: object, error: bool = False, warning: bool = False) -> str:
    metadata = {"is_error": error, "is_warning": warning, "pid": 1, "tid": 1}
    fields = {"key": key, "value": value, "time_ms": 0.1, "metadata": metadata}
    return f":::MLLOG {json.dumps(fields)}\n"


def test_every_published_row_is_reproduced(published: Path) -> None:
    with (published / "ground_truth" / "expected_rows.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 27
    for row in rows:
        run = published / row["round"] / row["location"] / "performance" / "run_1"
        detail = logs.read_detail(run / "mlperf_log_detail.txt")
        summary = logs.read_summary(run / "mlperf_log_summary.txt")
        found = published_figure.metric(detail, summary, row["mlperf_model"], row["scenario"])
        expected = float(row["performance_result"])
        assert found.value == pytest.approx(expected, rel=1e-6), row["location"]
        unit = UNITS.get(row["performance_units"], row["performance_units"])
        assert found.unit == unit, row["location"]
        assert row["log_field"].startswith(found.field)


def test_every_published_log_is_understood(published: Path) -> None:
    for path in sorted(published.glob("v*/**/mlperf_log_detail.txt")):
        detail = logs.read_detail(path)
        assert detail.complete and not detail.broken, path
        assert detail.form == "mllog"
        summary = logs.read_summary(path.with_name("mlperf_log_summary.txt"))
        assert summary.num_errors == detail.error_count, path
        assert summary.num_warnings is not None
        if "result_validity" in detail.values:
            assert summary.validity == detail.values["result_validity"]
            assert summary.scenario == detail.values["effective_scenario"]
            flags = {
                "min_duration": "result_min_duration_met",
                "min_queries": "result_min_queries_met",
                "early_stopping": "early_stopping_met",
            }
            for flag, key in flags.items():
                assert summary.satisfied[flag] == detail.values[key], path


def test_summary_of_a_token_benchmark(published: Path) -> None:
    summary = logs.read_summary(published / DEEPSEEK / "performance/run_1/mlperf_log_summary.txt")
    assert summary.sut == "PySUT"
    assert (summary.scenario, summary.mode, summary.validity) == (
        "Server",
        "PerformanceOnly",
        "VALID",
    )
    assert set(summary.satisfied) == {
        "performance_constraints",
        "min_duration",
        "min_queries",
        "early_stopping",
    }
    assert summary.early_stopping == ["TTFT: Run successful.", "TPOT: Run successful."]
    assert summary.metrics == {
        "Completed samples per second": 44.76,
        "Completed tokens per second": 167578.06,
    }
    assert summary.stats["Scheduled samples per second"] == 45.06
    assert summary.percentiles["latency"]["99.90"] == 1249454682643
    assert summary.percentiles["ttft"]["99.00"] == 1245960713
    assert summary.percentiles["ttft"]["min"] == 144754048
    assert summary.percentiles["tpot"]["99.00"] == 64452775
    assert summary.percentiles["tpot"]["mean"] == 69572752
    assert summary.parameters["min_duration_ms"] == 600000
    assert summary.parameters["ttft_latency_ns"] == 2000000000
    assert summary.parameters["qsl_rng_seed"] == 1780908523862526354
    assert (summary.num_warnings, summary.num_errors) == (0, 0)


def test_renamed_token_latency_lines_of_newer_rounds(published: Path) -> None:
    summary = logs.read_summary(published / GPT_OSS / "performance/run_1/mlperf_log_summary.txt")
    assert summary.percentiles["tpot"]["max"] == 75446232


def test_early_stopping_text_of_a_stream_scenario(published: Path) -> None:
    run = published / YOLO / "multistream/performance/run_1"
    summary = logs.read_summary(run / "mlperf_log_summary.txt")
    assert "Early stopping 99.0th percentile estimate: 344438863" in summary.early_stopping
    assert summary.percentiles["latency"]["99.00"] == 343222368
    assert summary.parameters["accuracy_sample_count"] == 1525


def test_errors_and_warnings_have_lines(published: Path) -> None:
    path = published / GPT_OSS / "TEST07/performance/run_1/mlperf_log_detail.txt"
    detail = logs.read_detail(path)
    assert detail.error_count == 1
    assert (detail.errors[0].line, detail.errors[0].key) == (76, "error_runtime")
    assert "Max query count reached" in detail.errors[0].text
    assert detail.warning_count == 1


def test_repeated_keys_and_the_sample_list(published: Path) -> None:
    path = published / YOLO / "offline/accuracy/mlperf_log_detail.txt"
    detail = logs.read_detail(path)
    assert len(detail.all("generated_query_count")) == 24
    assert detail.values["generated_query_count"] == detail.all("generated_query_count")[-1]
    assert detail.all("qsl_reported_total_count") == [1525]
    assert "loaded_qsl_set" not in detail.values and "loaded_qsl_set" in detail.where
    kept = logs.read_detail(path, keep_qsl=True).all("loaded_qsl_set")
    assert sum(len(samples) for samples in kept if isinstance(samples, list)) == 1525


OLD_SUMMARY = """\
================================================
MLPerf Results Summary
================================================
SUT name : TFLite
Scenario : Single Stream
Mode     : Performance
90th percentile latency (ns) : 141426994
Result is : INVALID
  Min duration satisfied : NO
  Min queries satisfied : Yes
Recommendations:
 * Decrease the expected latency so the loadgen pre-generates more queries.

================================================
Additional Stats
================================================
QPS w/ loadgen overhead         : 7.72
Mean latency (ns)               : 129386553
99.90 percentile latency (ns)   : 206884343

================================================
Test Parameters Used
================================================
samples_per_query : 1
target_latency (ns): 0

2 warnings encountered. See detailed log.

1 ERROR encountered. See detailed log.
"""


def test_summary_of_the_first_rounds() -> None:
    summary = logs.parse_summary(OLD_SUMMARY)
    assert (summary.scenario, summary.mode) == ("SingleStream", "PerformanceOnly")
    assert summary.validity == "INVALID"
    assert summary.satisfied == {"min_duration": False, "min_queries": True}
    assert summary.lines == {"validity": 8, "min_duration": 9, "min_queries": 10}
    assert summary.recommendations[0].startswith("Decrease the expected latency")
    assert summary.percentiles["latency"] == {
        "90.00": 141426994,
        "mean": 129386553,
        "99.90": 206884343,
    }
    assert (summary.num_warnings, summary.num_errors) == (2, 1)
    found = published_figure.metric(None, summary, "resnet")
    assert (found.value, found.unit) == (141.426994, "ms")


def test_old_multistream_counts_streams() -> None:
    head = "Scenario : Multi Stream\nMode : Performance\nSamples per query : 56\n"
    found = published_figure.metric(None, logs.parse_summary(head), "resnet")
    assert (found.value, found.unit) == (56, "Streams")


def test_detail_text_of_the_first_rounds() -> None:
    detail = logs.parse_detail(
        [
            '"pid": 12, "tid": 12, "ts": 8233ns : version : 0.5a1\n',
            '"pid": 12, "tid": 12, "ts": 9000ns : qsl_reported_total_count : 50000\n',
            '"pid": 12, "tid": 13, "ts": 9001ns : ERROR : Ran out of queries\n',
            '"pid": 12, "tid": 13, "ts": 9002ns : Starting performance mode:\n',
        ]
    )
    assert detail.form == "text" and detail.complete
    assert detail.number("qsl_reported_total_count") == 50000
    assert detail.text("version") == "0.5a1"
    assert (detail.errors[0].line, detail.errors[0].text) == (3, "Ran out of queries")


def test_interleaved_and_cut_off_lines_are_listed() -> None:
    whole = record("num_errors", 0)
    cut = record("sut_name", "PySUT")[:40]
    detail = logs.parse_detail(
        [
            record("effective_scenario", "Offline"),
            cut + whole,
            "stray print of the harness\n",
            record("a", 1).rstrip() + record("b", 2),
            cut,
        ]
    )
    assert detail.values == {"effective_scenario": "Offline", "num_errors": 0, "a": 1, "b": 2}
    assert [message.line for message in detail.broken] == [2, 3, 4, 5]
    assert not detail.complete


def test_a_cut_off_error_still_counts_as_error() -> None:
    line = record("error_runtime", "Ending early", error=True)
    detail = logs.parse_detail([line.rstrip()[:-12]])
    assert detail.broken_count == 1
    assert detail.error_count == 1


def test_figures_that_are_no_numbers() -> None:
    line = record("result_samples_per_second", 1).replace('"value": 1', '"value": -nan')
    detail = logs.parse_detail([line, record("big", 10**400), record("flag", True)])
    assert not detail.broken
    assert detail.number("result_samples_per_second") is None
    assert detail.number("big") is None and detail.number("flag") is None
    with pytest.raises(published_figure.MetricError):
        published_figure.metric(detail, logs.parse_summary("Scenario : Offline\n"), "resnet")


@pytest.mark.parametrize("version,value", [("3.0 @ f536725011", 10.0), ("4.1 @ abc", 9.0)])
def test_server_counts_scheduled_samples_until_v3(version: str, value: float) -> None:
    detail = logs.parse_detail(
        [
            record("loadgen_version", version),
            record("effective_scenario", "Server"),
            record("result_scheduled_samples_per_sec", 10),
            record("result_completed_samples_per_sec", 9),
        ]
    )
    assert published_figure.metric(detail, None, "resnet").value == value


@pytest.mark.parametrize(
    "model,scenario,key,value,expected,unit",
    [
        ("gptj-99", "Offline", "result_inferred_tokens_per_second", 5, 5, "Tokens/s"),
        ("gptj-99", "Server", "result_inferred_completed_tokens_per_second", 5, 5, "Tokens/s"),
        ("wan-2.2-t2v-a14b", "SingleStream", "early_stopping_latency_ss", 2e9, 2, "s"),
        ("resnet", "SingleStream", "result_90.00_percentile_latency_ns", 3e6, 3, "ms"),
        ("llama3_1-8b", "Offline", "result_tokens_per_second", 7, 7, "Tokens/s"),
    ],
)
def test_metric_fields(
    model: str, scenario: str, key: str, value: float, expected: float, unit: str
) -> None:
    detail = logs.parse_detail([record("effective_scenario", scenario), record(key, value)])
    found = published_figure.metric(detail, None, model)
    assert (found.value, found.unit, found.field) == (expected, unit, key)


def test_offline_inferred_from_multistream() -> None:
    detail = logs.parse_detail(
        [
            record("effective_scenario", "MultiStream"),
            record("effective_samples_per_query", 8),
            record("result_mean_query_latency_ns", 4e6),
        ]
    )
    assert published_figure.metric(detail, None, "resnet", "offline").value == pytest.approx(2000)
    with pytest.raises(published_figure.MetricError, match="no Server figure"):
        published_figure.metric(detail, None, "resnet", "Server")


def test_limits(tmp_path: Path) -> None:
    path = tmp_path / "mlperf_log_detail.txt"
    path.write_text("short\n" + "x" * 100, encoding="utf-8")
    with pytest.raises(logs.LogError, match=r"mlperf_log_detail\.txt:2: line over 50 bytes"):
        list(logs.read_lines(path, max_line=50))
    with pytest.raises(logs.LogError, match="file over 20 bytes"):
        list(logs.read_lines(path, max_file=20))
    with pytest.raises(logs.LogError, match="different keys"):
        logs.parse_detail(record(f"key{n}", n) for n in range(logs.MAX_KEYS + 1))
    with pytest.raises(logs.LogError) as caught:
        logs.parse_detail(["\n", "y" * (logs.MAX_LINE + 1)])
    assert caught.value.line == 2
    assert logs.parse_detail([":::MLLOG " + "[" * 100_000]).broken_count == 1


def test_repeated_values_are_bounded() -> None:
    lines = (record("generated_query_count", n) for n in range(logs.MAX_KEPT + 50))
    detail = logs.parse_detail(lines)
    assert len(detail.all("generated_query_count")) == logs.MAX_KEPT
    assert detail.values["generated_query_count"] == logs.MAX_KEPT + 49


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    target = tmp_path / "real.txt"
    target.write_text("text", encoding="utf-8")
    link = tmp_path / "link.txt"
    link.symlink_to(target)
    with pytest.raises(logs.LogError, match="symbolic link"):
        logs.read_text(link)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(logs.LogError, match="not a regular file"):
        logs.read_text(tmp_path / "pipe")
    with pytest.raises(logs.LogError, match="missing"):
        logs.read_text(tmp_path / "absent")


def test_a_large_log_takes_little_time() -> None:
    samples = ",".join(str(n) for n in range(40_000))
    line = record("loaded_qsl_set", 0).replace('"value": 0', f'"value": [{samples}]')
    lines = [line] + [record(f"key{n % 200}", n) for n in range(1_400)]
    assert sum(map(len, lines)) > 400_000
    best = 1.0
    for _ in range(5):
        start = time.perf_counter()
        detail = logs.parse_detail(lines)
        best = min(best, time.perf_counter() - start)
    assert detail.complete and not detail.broken
    assert best < 0.05


@pytest.mark.parametrize("text,plain", [("\x1b[31mred\x1b[0m\x07", "red"), ("a\u202eb", "a b")])
def test_clean(text: str, plain: str) -> None:
    assert logs.clean(text) == plain
    assert len(logs.clean("x" * 500)) == 200
