# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calibration decides well on made-up machines, quiet and noisy ones."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import calibration as cal

SEEDS = range(20)


@dataclass
class Machine:
    """A latency model: one sample takes ``latency_s``; noise slows whole trials and single ones."""

    latency_s: float
    parallel: float = 1.0  # Offline rate x latency
    noise: float = 0.0  # up to this much slower for a whole trial
    seed: int = 0

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.spent_s = 0.0

    def slow(self) -> float:
        return 1 + self.random.random() * self.noise

    def measure(self, scenario: str, keys: dict[str, Any]) -> cal.Measured:
        if scenario == "Offline":
            samples = max(
                keys["min_query_count"], 1.1 * keys["target_qps"] * keys["min_duration"] / 1e3
            )
            duration = samples * self.latency_s / self.parallel * self.slow()
            return self.report(1, duration, duration, samples / duration)
        if scenario == "Server":
            return self.serve(keys)
        latency = self.latency_s * self.slow() * (8 if scenario == "MultiStream" else 1)
        length = keys["min_duration"] / 1e3
        pregenerated = 2 * length * 1e3 / keys["target_latency"]
        queries = max(keys["min_query_count"], min(pregenerated, length / latency))
        return self.report(int(queries), queries * latency, latency, None)

    def serve(self, keys: dict[str, Any]) -> cal.Measured:
        rate, length = keys["target_qps"], keys["min_duration"] / 1e3
        queries = min(keys["max_query_count"], max(keys["min_query_count"], rate * length))
        load = rate * self.latency_s / self.parallel * self.slow()
        latency = self.latency_s * self.slow()
        late = latency / (1 - load) if load < 1 else queries * latency
        return self.report(int(queries), max(length, queries / rate), latency, rate, p99=3 * late)

    def report(
        self, queries: int, duration: float, least: float, rate: float | None, p99: float = 0
    ) -> cal.Measured:
        self.spent_s += duration
        ns = least * 1e9
        worst = (p99 or 2 * least) * 1e9
        return cal.Measured(
            False, duration, queries, rate, ns, ns, ns * 1.1, ns * 1.5, worst, worst, True, None
        )

    def calibrate(
        self, scenario: str, duration: str = "test", hint: cal.Hint | None = None, **keys: Any
    ) -> tuple[cal.Decision, list[cal.Trial]]:
        planned = {"min_duration": 2000, **keys}
        problem = cal.Problem(scenario, duration, planned, hint or cal.Hint())
        trials: list[cal.Trial] = []
        step = cal.next_step(problem, trials)
        while isinstance(step, cal.Next):
            trials.append(cal.Trial(step.settings, self.measure(scenario, step.settings)))
            step = cal.next_step(problem, trials)
            assert len(trials) < 20
        return step, trials


@pytest.mark.parametrize("duration", ["test", "official"])
@pytest.mark.parametrize("scenario", ["SingleStream", "MultiStream"])
@pytest.mark.parametrize("latency_s", [2e-6, 80e-6, 5e-3, 3.0])
def test_streams_generate_enough_queries(scenario: str, latency_s: float, duration: str) -> None:
    for seed in SEEDS:
        machine = Machine(latency_s, noise=1.5, seed=seed)
        decision, _trials = machine.calibrate(scenario, duration)
        assert decision.target is not None
        fastest = latency_s * 1e3 * (8 if scenario == "MultiStream" else 1)
        # LoadGen generates twice as many queries as this target says
        assert decision.target["target_latency_ms"] / 2 <= max(fastest, 0.002)
        assert machine.spent_s <= 2 * 11 + 3 * 8 * 2.5 * latency_s


@pytest.mark.parametrize("rate", [0.2, 30, 20_000, 800_000])
def test_offline_finds_the_rate(rate: float) -> None:
    for seed in SEEDS:
        machine = Machine(1 / rate, noise=0.5, seed=seed)
        decision, trials = machine.calibrate("Offline")
        assert decision.target is not None
        assert decision.target["target_qps"] * 1.1 >= rate
        assert decision.target["target_qps"] <= 1.5 * rate * 1.001
        assert len(trials) <= 6
        assert machine.spent_s <= max(3, 8 / rate)


def test_offline_allows_for_neighbours_that_leave() -> None:
    problem = cal.Problem("Offline", "test", {})
    step = cal.next_step(problem, [])
    assert isinstance(step, cal.Next)
    measured = Machine(0.01).report(1, 0.8, 0.8, 100.0)
    for share, expected in ((0.0, 150.0), (0.5, 300.0), (0.95, 450.0)):
        decision = cal.next_step(problem, [cal.Trial(step.settings, measured, share)])
        assert isinstance(decision, cal.Decision)
        assert decision.target == {"target_qps": pytest.approx(expected)}
        assert ("others took" in decision.why) == (share > 0)


def test_offline_starts_from_what_is_known() -> None:
    hint = cal.Hint(latency_ns=80e3)
    _decision, trials = Machine(80e-6).calibrate("Offline", hint=hint)
    assert len(trials) == 1


@pytest.mark.parametrize("latency_s", [80e-6, 2e-3, 0.2])
def test_server_stays_within_its_limit(latency_s: float) -> None:
    for seed in SEEDS:
        machine = Machine(latency_s, noise=0.3, seed=seed)
        decision, trials = machine.calibrate("Server")
        assert decision.target is not None
        assert decision.target["target_qps"] <= 0.6 / latency_s
        assert decision.target["server_latency_ms"] >= max(50, 10 * latency_s * 1e3)
        assert len(trials) <= 5


def test_server_official_searches_close_to_the_limit() -> None:
    machine = Machine(1e-3, parallel=4)
    hint = cal.Hint(latency_ns=1e6, samples_per_s=4000)
    decision, trials = machine.calibrate("Server", "official", hint, target_latency=15)
    assert decision.target is not None
    assert "server_latency_ms" not in decision.target
    # 3 ms / (1 - load) <= 15 ms at a load of 0.8: 3200 queries/s
    assert 0.85 * 3200 <= decision.target["target_qps"] <= 0.9 * 3200
    assert len(trials) <= 10
    assert "queries/s, the highest" in decision.why


def test_server_says_when_no_rate_can_do() -> None:
    decision, _trials = Machine(0.1).calibrate("Server", target_latency=15)
    assert decision.target is None
    assert "one query takes" in decision.why


def test_server_trials_are_bounded_for_slow_models() -> None:
    machine = Machine(2.0)
    decision, trials = machine.calibrate("Server")
    assert decision.target is not None
    assert sum(trial.measured.queries for trial in trials) < 60


def test_token_models_are_judged_by_loadgen() -> None:
    keys = {"use_token_latencies": 1}
    problem = cal.Problem("Interactive", "test", keys, cal.Hint(1e8, 20.0))
    trials: list[cal.Trial] = []
    for _look in ("one at a time", "under load"):
        step = cal.next_step(problem, trials)
        assert isinstance(step, cal.Next)
        assert "target_latency" not in step.settings
        measured = Machine(0.1).measure("Server", step.settings)
        trials.append(cal.Trial(step.settings, replace(measured, constraints_met=True)))
    decision = cal.next_step(problem, trials)
    assert isinstance(decision, cal.Decision)
    assert decision.target is not None
    assert decision.target["target_qps"] == 5.0


def test_a_limit_that_loadgen_knows_is_kept() -> None:
    problem = cal.Problem("Server", "official", {}, cal.Hint(1e6, 4000.0))
    probe = cal.next_step(problem, [])
    assert isinstance(probe, cal.Next)
    assert "target_latency" not in probe.settings
    measured = Machine(1e-3).measure("Server", probe.settings)
    for builtin, chosen in ((15e6, None), (10e6, 10.0), (0, None)):
        first = cal.Trial(probe.settings, replace(measured, limit_ns=builtin))
        step = cal.next_step(problem, [first])
        assert isinstance(step, cal.Next)
        assert step.settings.get("target_latency") == chosen


def test_planned_lengths_never_reach_a_trial() -> None:
    keys = {"min_query_count": 24576, "max_duration": 10**7, "performance_sample_count_override": 5}
    step = cal.next_step(cal.Problem("Offline", "test", keys), [])
    assert isinstance(step, cal.Next)
    assert step.settings["min_query_count"] == 1
    assert step.settings["performance_sample_count_override"] == 5
    assert "max_duration" not in step.settings


def test_unknown_words_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown duration 'short'"):
        cal.next_step(cal.Problem("Offline", "short", {}), [])
    with pytest.raises(ValueError, match="unknown scenario"):
        cal.next_step(cal.Problem("Ofline", "test", {}), [])


def detail(**values: Any) -> str:
    lines = [":::MLLOG " + json.dumps({"key": key, "value": values[key]}) for key in values]
    return "something else\n:::MLLOG {broken\n" + "\n".join(lines)


def test_logs_are_read() -> None:
    assert cal.parse_detail(detail(result_query_count=3)) is None
    offline = cal.parse_detail(
        detail(
            result_validity="INVALID",
            result_samples_per_second=100.0,
            generated_samples_per_query=250,
            result_query_count=1,
        )
    )
    assert offline is not None
    assert (offline.duration_s, offline.valid) == (2.5, False)
    values = {
        "result_validity": "VALID",
        "result_mean_query_latency_ns": 8,
        "result_min_query_latency_ns": 7,
        "result_min_latency_ns": 1,
        "power_begin": "11-23-2026 21:47:42.759",
        "power_end": "11-23-2026 21:47:43.359",
    }
    multi = cal.parse_detail(detail(**values))
    assert multi is not None
    assert (multi.min_ns, multi.duration_s, multi.valid) == (7, 0.6, True)
