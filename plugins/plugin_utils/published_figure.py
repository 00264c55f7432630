# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The figure that a round publishes, out of LoadGen's logs.

Which log field a round publishes was checked against the published tables of six rounds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from .loadgen_log import DetailLog, SummaryLog, scenario_name


class MetricError(Exception):
    """The logs hold no figure for this benchmark and scenario."""


@dataclass(frozen=True)
class Metric:
    """A performance figure as a round publishes it.

    ``field`` is the log field (or summary label) it comes from; ``unit`` is Samples/s, Queries/s,
    Tokens/s, ms, s or Streams (samples per query, the MultiStream figure until v1.0).
    """

    name: str
    value: float
    unit: str
    field: str


@dataclass(frozen=True)
class _Field:
    """A field of the detail log and the divisor that makes a ``name`` in ``unit`` of it."""

    field: str
    divisor: float
    name: str
    unit: str


_NS_PER_MS = 1e6
_TOKEN_MODELS = ("llama2-70b", "mixtral", "llama3.1-", "deepseek-r1", "gpt-oss")
_MULTISTREAM_SAMPLES = 8
"""Samples per query of MultiStream, by which a SingleStream latency is multiplied (mlperf.conf)."""


def _offline(model: str) -> list[_Field]:
    if model.startswith("gptj"):
        token = "result_inferred_tokens_per_second"
        return [_Field(token, 1, "tokens_per_second", "Tokens/s")]
    if model.startswith("whisper"):  # tokens, published under Samples/s in every round
        return [_Field("result_tokens_per_second", 1, "samples_per_second", "Samples/s")]
    if model.startswith(_TOKEN_MODELS):
        return [_Field("result_tokens_per_second", 1, "tokens_per_second", "Tokens/s")]
    return [_Field("result_samples_per_second", 1, "samples_per_second", "Samples/s")]


def _counts_completed(detail: DetailLog, summary: SummaryLog | None) -> bool:
    """Whether the round counts completed (v4.1 and later) or scheduled samples (v3.0 and before).

    The summary's own headline says so; without one, LoadGen's version does. v3.1 and v4.0 logs
    were not seen.
    """
    for label in summary.metrics if summary else ():
        if label in ("Completed samples per second", "Scheduled samples per second"):
            return label.startswith("Completed")
    match = re.match(r"v?(\d{1,4})\.", detail.text("loadgen_version") or "")
    return not match or int(match[1]) >= 4


def _server(model: str, completed: bool) -> list[_Field]:
    if model.startswith("gptj"):
        token = "result_inferred_completed_tokens_per_second"
        return [_Field(token, 1, "tokens_per_second", "Tokens/s")]
    if model.startswith(_TOKEN_MODELS):
        token = "result_completed_tokens_per_second"
        return [_Field(token, 1, "tokens_per_second", "Tokens/s")]
    first = "result_completed_samples_per_sec"
    second = "result_scheduled_samples_per_sec"
    if not completed:
        first, second = second, first
    return [_Field(name, 1, "queries_per_second", "Queries/s") for name in (first, second)]


def _single_stream(model: str) -> list[_Field]:
    percentile = "result_90.00_percentile_latency_ns"
    if model == "llama3.1-8b-edge":
        return [_Field(percentile, _NS_PER_MS, "latency", "ms")]
    if model.startswith("wan-2.2"):
        return [_Field("early_stopping_latency_ss", 1e9, "latency", "s")]
    names = ("early_stopping_latency_ss", percentile)  # no early stopping before v2.0
    return [_Field(name, _NS_PER_MS, "latency", "ms") for name in names]


def _multi_stream() -> list[_Field]:
    names = (
        "early_stopping_latency_ms",
        "result_99.00_percentile_per_query_latency_ns",
        "result_99.00_percentile_latency_ns",
    )
    return [_Field(name, _NS_PER_MS, "latency", "ms") for name in names]


def _inferred(detail: DetailLog, logged: str, wanted: str) -> Metric | None:
    """The figure of a scenario that was not run but follows from SingleStream or MultiStream."""
    if (logged, wanted) == ("SingleStream", "Offline"):
        name = "result_qps_without_loadgen_overhead"
        value = detail.number(name)
        return None if value is None else Metric("samples_per_second", value, "Samples/s", name)
    if (logged, wanted) == ("SingleStream", "MultiStream"):
        name = "early_stopping_latency_ms"
        value = detail.number(name)
        if value is not None:
            return Metric("latency", value * _MULTISTREAM_SAMPLES / _NS_PER_MS, "ms", name)
    if (logged, wanted) == ("MultiStream", "Offline"):
        name = "result_mean_query_latency_ns"
        samples, mean = detail.number("effective_samples_per_query"), detail.number(name)
        if samples and mean and mean > 0:
            return Metric("samples_per_second", samples * 1e9 / mean, "Samples/s", name)
    return None


def _from_summary(summary: SummaryLog, wanted: str) -> Metric | None:
    """The figure of v0.5/v0.7, whose detail log is text, and of MultiStream until v1.0."""
    if wanted == "SingleStream":
        value = summary.percentiles.get("latency", {}).get("90.00")
        name = "90.00 percentile latency (ns)"
        return None if value is None else Metric("latency", value / _NS_PER_MS, "ms", name)
    for label, title, unit in {
        "Offline": [("Samples per second", "samples_per_second", "Samples/s")],
        "Server": [
            ("Completed samples per second", "queries_per_second", "Queries/s"),
            ("Scheduled samples per second", "queries_per_second", "Queries/s"),
        ],
        "MultiStream": [("Samples per query", "streams", "Streams")],
    }.get(wanted, []):
        if label in summary.metrics:
            return Metric(title, summary.metrics[label], unit, label)
    return None


def metric(
    detail: DetailLog | None,
    summary: SummaryLog | None,
    benchmark_checker_name: str,
    scenario_dir: str | None = None,
) -> Metric:
    """The figure that a round publishes for a performance run.

    ``benchmark_checker_name`` is the checker's name (``llama3_1-8b`` is understood too);
    ``scenario_dir`` the scenario it is published under, where that is not the one that ran
    (Offline or MultiStream inferred from SingleStream). MetricError: no such figure in the logs.
    """
    detail = detail or DetailLog()
    logged = scenario_name(detail.text("effective_scenario")) or (summary and summary.scenario)
    wanted = scenario_name(scenario_dir) or logged
    if not logged or not wanted:
        raise MetricError("the logs do not say which scenario ran")
    logged, wanted = (("Server" if s == "Interactive" else s) for s in (logged, wanted))
    found: Metric | None = None
    if logged != wanted:
        found = _inferred(detail, logged, wanted)
    elif wanted == "MultiStream" and summary and "Samples per query" in summary.metrics:
        found = _from_summary(summary, wanted)
    elif detail.form == "mllog":
        found = _first(detail, _fields(detail, summary, benchmark_checker_name, wanted))
    elif summary:
        found = _from_summary(summary, wanted)
    if found is None:
        raise MetricError(f"no {wanted} figure for {benchmark_checker_name} in a {logged} log")
    return found


def _fields(
    detail: DetailLog, summary: SummaryLog | None, benchmark: str, scenario: str
) -> list[_Field]:
    model = benchmark.lower().replace("llama3_1", "llama3.1")
    if scenario == "Offline":
        return _offline(model)
    if scenario == "Server":
        return _server(model, _counts_completed(detail, summary))
    return _single_stream(model) if scenario == "SingleStream" else _multi_stream()


def _first(detail: DetailLog, fields: list[_Field]) -> Metric | None:
    for item in fields:
        value = detail.number(item.field)
        if value is not None:
            return Metric(item.name, value / item.divisor, item.unit, item.field)
    return None
