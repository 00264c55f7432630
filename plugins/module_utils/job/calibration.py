# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calibration: which target lets the real run last as long as it must.

LoadGen generates its queries before it starts, from the target and the minimum duration: twice
min_duration / target_latency queries in SingleStream and MultiStream, 1.1 x target_qps x
min_duration samples in Offline. A run that has answered them all too early is INVALID, so the
target errs on the side of more queries. In Server the target is the load itself.

Everything here decides and parses; running the trials is the supervisor's.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Mapping, Sequence, Union

from .user_conf import loadgen_scenario

MS = 1e-6  # nanoseconds to milliseconds
REPLACED = ("min_duration", "max_duration", "min_query_count", "max_query_count")
UNKNOWN_MODEL_LIMIT_NS = 10_000_000  # Server target_latency of a model mlperf.conf does not name
TOKEN_KEYS = ("use_token_latencies", "ttft_latency", "tpot_latency")
# Early stopping at the 99th percentile and 99 % confidence: 459 queries when none is late,
# 662 when one is (LoadGen 6.0.17).
SERVER_QUERIES = 1000
SERVER_QUERIES_LEAST = 662
AMPLE_QPS = 200.0  # at this rate a test has the queries it needs soon and may go easy on the host


@dataclass(frozen=True)
class Effort:
    """How much a calibration may cost and how bold its answer is."""

    stream_ms: tuple[int, ...]  # lengths of the SingleStream and MultiStream trials
    stream_factor: float  # of the smallest latency
    offline_s: float  # a trial this long is believed
    offline_trials: int
    offline_factor: float  # of the best rate
    offline_boost: float  # most that it may grow for CPU time that others took meanwhile
    server_ms: int
    server_trials: int
    server_factor: float  # of the best passing rate
    server_close: float  # stop when failing / passing rate is below this
    server_floor_ms: float  # least latency limit for a model that has none


EFFORTS = {
    "test": Effort((600,), 0.5, 0.5, 6, 1.5, 3.0, 700, 4, 0.5, 4.0, 50.0),
    "official": Effort((1000, 10000), 0.8, 10.0, 8, 1.2, 1.5, 20000, 10, 0.9, 1.05, 10.0),
}


@dataclass(frozen=True)
class Measured:
    """What LoadGen's detail log says of one trial. Latencies in ns (MultiStream: per query)."""

    valid: bool
    duration_s: float
    queries: int
    samples_per_s: float | None
    min_ns: float | None
    mean_ns: float | None
    p50_ns: float | None
    p90_ns: float | None
    p99_ns: float | None
    max_ns: float | None
    min_duration_met: bool
    constraints_met: bool | None
    limit_ns: float | None = None  # Server: the latency limit that LoadGen held the trial to


@dataclass(frozen=True)
class Trial:
    """One trial: the user.conf keys it ran with, what it measured, and in which company.

    ``foreign_share`` is the share of all CPU time, 0..1, that others took while it ran.
    """

    settings: dict[str, Any]
    measured: Measured
    foreign_share: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For calibration.json."""
        return asdict(self)


@dataclass(frozen=True)
class Hint:
    """What earlier calibrations of the same model on this host know."""

    latency_ns: float | None = None  # median of one sample at a time
    samples_per_s: float | None = None  # Offline


@dataclass(frozen=True)
class Problem:
    """What to calibrate: ``keys`` are the planned user.conf keys of the real run."""

    scenario: str
    duration: str  # "test" or "official"
    keys: Mapping[str, Any]
    hint: Hint = Hint()


@dataclass(frozen=True)
class Limit:
    """A Server latency limit: ms, None where LoadGen judges token latencies; chosen by us?"""

    ms: float | None
    chosen: bool = False


@dataclass(frozen=True)
class Next:
    """Run another trial with these user.conf keys."""

    settings: dict[str, Any]


@dataclass(frozen=True)
class Decision:
    """The end: a target for the real run, or None, and why in words."""

    target: dict[str, Any] | None
    why: str


Step = Union[Next, Decision]


def next_step(problem: Problem, trials: Sequence[Trial]) -> Step:
    """Decide from the trials so far. Raises ValueError for an unknown scenario or duration."""
    if problem.duration not in EFFORTS:
        raise ValueError(f"unknown duration {problem.duration!r}; valid: {', '.join(EFFORTS)}")
    effort = EFFORTS[problem.duration]
    scenario = loadgen_scenario(problem.scenario)
    if scenario == "Offline":
        return _offline(problem, effort, trials)
    if scenario == "Server":
        return _server(problem, effort, trials)
    return _stream(problem, effort, trials, multi=scenario == "MultiStream")


def _settings(problem: Problem, **own: Any) -> dict[str, Any]:
    """The planned keys with the trial's own length, count and target in their place."""
    kept = {key: value for key, value in problem.keys.items() if key not in REPLACED}
    if loadgen_scenario(problem.scenario) != "Server":
        kept.pop("target_latency", None)
    kept.pop("target_qps", None)
    kept.update(own)
    return kept


def _stream(problem: Problem, effort: Effort, trials: Sequence[Trial], multi: bool) -> Step:
    """SingleStream, MultiStream: the smallest latency seen, times a factor."""
    seen = [trial.measured.min_ns for trial in trials if trial.measured.min_ns]
    longest = max((trial.measured.duration_s for trial in trials), default=0.0)
    if len(trials) < len(effort.stream_ms) and longest * 1000 < effort.stream_ms[-1]:
        length = effort.stream_ms[len(trials)]
        # The first trial knows nothing: up to 120 or 200 thousand samples are generated.
        latency = min(seen) * MS * 0.5 if seen else (0.1 if multi else 0.01)
        return Next(
            _settings(
                problem,
                min_duration=length,
                max_duration=10 * length,
                min_query_count=3 if multi else 1,
                target_latency=max(0.001, round(latency, 6)),
            )
        )
    if not seen:
        return Decision(None, "no trial reported a latency")
    least = min(seen) * MS
    what = "the smallest latency"
    if problem.duration == "official":
        # Every query beyond those used costs memory, and over 600 s that is gigabytes.
        least, what = max(least, _pace_ms(trials)), "the quickest pace"
    target = max(0.001, round(effort.stream_factor * least, 6))
    queries = sum(trial.measured.queries for trial in trials)
    return Decision(
        {"target_latency_ms": target},
        f"{effort.stream_factor:g} x {least:.6g} ms, {what} of {queries} queries:"
        " too small only means that more queries are generated than used",
    )


def _pace_ms(trials: Sequence[Trial]) -> float:
    """Milliseconds from query to query in the quickest trial, less what neighbours cost at most."""
    paces = [
        t.measured.duration_s * 1000 / t.measured.queries * (1.0 - min(0.3, t.foreign_share))
        for t in trials
        if t.measured.queries and t.measured.duration_s
    ]
    return min(paces, default=0.0)


def _offline(problem: Problem, effort: Effort, trials: Sequence[Trial]) -> Step:
    """Offline: grow the query until it lasts long enough to believe its rate."""
    if not trials:
        return Next(_offline_trial(problem, effort, _offline_guess(problem, effort)))
    last = trials[-1]
    rates = [trial.measured.samples_per_s for trial in trials if trial.measured.samples_per_s]
    if not rates:
        return Decision(None, "no trial reported samples per second")
    enough = last.measured.duration_s >= effort.offline_s
    if not enough and len(trials) < effort.offline_trials:
        grown = min(1.3 * rates[-1] if rates else 0, 200 * last.settings["target_qps"])
        return Next(_offline_trial(problem, effort, max(grown, 2 * last.settings["target_qps"])))
    best = max(rates)
    # Others may be gone when the real run starts, which is then faster than any trial.
    boost = min(effort.offline_boost, 1 / max(0.01, 1 - last.foreign_share))
    target = float(f"{effort.offline_factor * boost * best:.6g}")
    company = f" x {boost:.3g} as others took {last.foreign_share:.0%} of the CPUs"
    doubt = "" if enough else f" (the longest of {len(trials)} trials is shorter than wanted)"
    return Decision(
        {"target_qps": target},
        f"{effort.offline_factor:g} x {best:.6g} samples/s, the best of {len(trials)} trials,"
        f" the last of {last.measured.duration_s:.2f} s{doubt}{company if boost > 1.05 else ''}",
    )


def _offline_guess(problem: Problem, effort: Effort) -> float:
    """A first rate: what is known, or four samples, as one may take minutes."""
    if problem.hint.samples_per_s:
        return 1.2 * problem.hint.samples_per_s
    if problem.hint.latency_ns:
        return 1.2e9 / problem.hint.latency_ns
    return 4 / (1.1 * effort.offline_s)


def _offline_trial(problem: Problem, effort: Effort, rate: float) -> dict[str, Any]:
    return _settings(
        problem,
        min_duration=int(effort.offline_s * 1000),
        min_query_count=1,
        target_qps=float(f"{rate:.6g}"),
    )


def _server(problem: Problem, effort: Effort, trials: Sequence[Trial]) -> Step:
    """Server: look at single queries, then search for the highest rate within the limit."""
    probes = [trial for trial in trials if trial.settings.get("max_query_count") == PROBE_QUERIES]
    search = [trial for trial in trials if trial not in probes]
    latency = problem.hint.latency_ns or (probes[0].measured.p50_ns if probes else None)
    if not probes and (latency is None or not problem.keys.get("target_latency")):
        return Next(_probe(problem))
    if latency is None:
        return Decision(None, "the first trial reported no latency")
    builtin = probes[0].measured.limit_ns if probes else None
    limit = server_limit(problem, effort, latency, builtin)
    if limit.ms is not None and latency * MS > limit.ms:
        return Decision(
            None,
            f"one query takes {latency * MS:.4g} ms, the latency limit is {limit.ms:.4g} ms:"
            " no rate can meet it",
        )
    passing = [trial for trial in search if passes(trial, limit.ms)]
    failing = [trial for trial in search if not passes(trial, limit.ms)]
    low = max((rate_of(trial) for trial in passing), default=0.0)
    high = min((rate_of(trial) for trial in failing if rate_of(trial) > low), default=math.inf)
    first = (problem.hint.samples_per_s or 1e9 / latency) * 0.5
    if search and (_found(effort, low, high, first) or len(search) >= effort.server_trials):
        return _server_decision(problem, effort, search, limit)
    rate = first if not search else _between(low, high)
    return Next(_server_trial(problem, effort, rate, limit))


PROBE_QUERIES = 8


def _probe(problem: Problem) -> dict[str, Any]:
    """A handful of queries far apart: the latency of one at a time, whatever the model's speed."""
    return _settings(
        problem,
        min_duration=1,
        min_query_count=PROBE_QUERIES,
        max_query_count=PROBE_QUERIES,
        target_qps=20.0,
    )


def server_limit(
    problem: Problem, effort: Effort, latency_ns: float, builtin_ns: float | None
) -> Limit:
    """The plan's latency limit, or LoadGen's own for the models it knows (``builtin_ns``).

    A model without a limit gets ten times its latency, but at least a floor that the scheduling
    of a shared machine leaves in peace.
    """
    planned = problem.keys.get("target_latency")
    if planned:
        return Limit(float(planned))
    if any(problem.keys.get(key) for key in TOKEN_KEYS) or builtin_ns == 0:
        return Limit(None)
    if builtin_ns is not None and builtin_ns != UNKNOWN_MODEL_LIMIT_NS:
        return Limit(builtin_ns * MS)
    return Limit(max(effort.server_floor_ms, round(10 * latency_ns * MS, 3)), chosen=True)


def _server_trial(problem: Problem, effort: Effort, rate: float, limit: Limit) -> dict[str, Any]:
    """A trial of a fixed length; slow models get five queries at least and no more than needed."""
    rate = float(f"{rate:.6g}")
    least = max(5, min(100, int(rate * 5)))
    own: dict[str, Any] = {
        "min_duration": effort.server_ms,
        "min_query_count": least,
        "max_query_count": max(least, math.ceil(1.5 * rate * effort.server_ms / 1000)) + 9,
        "target_qps": rate,
    }
    if limit.chosen:
        own["target_latency"] = limit.ms
    return _settings(problem, **own)


def rate_of(trial: Trial) -> float:
    """The load that a Server trial asked for, in queries per second."""
    return float(trial.settings["target_qps"])


def passes(trial: Trial, limit: float | None) -> bool:
    """Whether a Server trial kept its limit; too few queries for early stopping do not count."""
    measured = trial.measured
    if not measured.min_duration_met:
        return False
    if limit is None:
        return bool(measured.constraints_met)
    return measured.p99_ns is not None and measured.p99_ns * MS <= limit


def _found(effort: Effort, low: float, high: float, first: float) -> bool:
    """Close enough. A test run stays far below the limit, so its first pass may do."""
    if effort.server_close >= 2 and low >= first > 0:
        return True
    return low > 0 and high / low < effort.server_close


def _between(low: float, high: float) -> float:
    if low == 0:
        return high / 4
    return low * 1.5 if math.isinf(high) else math.sqrt(low * high)


def _server_decision(
    problem: Problem, effort: Effort, search: Sequence[Trial], limit: Limit
) -> Decision:
    passing = [trial for trial in search if passes(trial, limit.ms)]
    bound = "the token latency limits" if limit.ms is None else f"the limit of {limit.ms:.4g} ms"
    if not passing:
        lowest = min(search, key=rate_of)
        figure = (lowest.measured.p99_ns or 0) * MS
        said = f"no rate of {len(search)} met {bound}; at {rate_of(lowest):.4g} queries/s p99 was"
        if effort.server_close < 2:
            return Decision(None, f"{said} {figure:.4g} ms")
        return Decision(
            _server_target(problem, rate_of(lowest) / 4, limit),
            f"{said} {figure:.4g} ms; a quarter of that rate, on the chance that the host was busy",
        )
    best = max(passing, key=rate_of)
    if limit.ms is not None and limit.chosen and effort.server_close >= 2:
        worst = round(3 * (best.measured.max_ns or 0) * MS, 3)
        limit = Limit(max(limit.ms, worst), chosen=True)
    factor = effort.server_factor
    if effort.server_close >= 2 and factor * rate_of(best) >= 2 * AMPLE_QPS:
        factor /= 2
    return Decision(
        _server_target(problem, factor * rate_of(best), limit),
        f"{factor:g} x {rate_of(best):.6g} queries/s, the highest of"
        f" {len(search)} rates whose p99 ({(best.measured.p99_ns or 0) * MS:.4g} ms) met {bound}",
    )


def _server_target(problem: Problem, rate: float, limit: Limit) -> dict[str, Any]:
    """The target, with the query count that early stopping needs where the time allows it."""
    rate = float(f"{rate:.6g}")
    target: dict[str, Any] = {"target_qps": rate}
    if limit.chosen:
        target["server_latency_ms"] = limit.ms
    planned_s = problem.keys.get("min_duration", 600000) / 1000
    for count, patience_s in ((SERVER_QUERIES, 20), (SERVER_QUERIES_LEAST, 120)):
        if rate * planned_s < count <= rate * max(patience_s, planned_s):
            target["min_query_count"] = count
            break
    return target


def parse_detail(text: str) -> Measured | None:
    """Read a trial's figures from mlperf_log_detail.txt; None when it has no result."""
    found: dict[str, Any] = {}
    for line in text.splitlines():
        if not line.startswith(":::MLLOG "):
            continue
        try:
            entry = json.loads(line[9:])
        except ValueError:
            continue
        found[str(entry.get("key"))] = entry.get("value")
    if "result_validity" not in found:
        return None
    return _measured(found)


def _measured(found: Mapping[str, Any]) -> Measured:
    multi = "result_mean_query_latency_ns" in found
    middle, per = ("_query", "_per_query") if multi else ("", "")
    queries = int(found.get("result_query_count") or 0)
    rate = found.get("result_samples_per_second") or found.get("result_completed_samples_per_sec")
    duration = _wall_s(found)
    if found.get("result_samples_per_second"):  # Offline: finer than the clock of the log
        samples = queries * int(found.get("generated_samples_per_query") or 1)
        duration = samples / float(found["result_samples_per_second"])
    return Measured(
        valid=found["result_validity"] == "VALID",
        duration_s=round(duration, 6),
        queries=queries,
        samples_per_s=rate,
        min_ns=found.get(f"result_min{middle}_latency_ns"),
        mean_ns=found.get(f"result_mean{middle}_latency_ns"),
        p50_ns=found.get(f"result_50.00_percentile{per}_latency_ns"),
        p90_ns=found.get(f"result_90.00_percentile{per}_latency_ns"),
        p99_ns=found.get(f"result_99.00_percentile{per}_latency_ns"),
        max_ns=found.get(f"result_max{middle}_latency_ns"),
        min_duration_met=bool(found.get("result_min_duration_met")),
        constraints_met=found.get("result_perf_constraints_met"),
        limit_ns=found.get("effective_target_latency_ns"),
    )


def _wall_s(found: Mapping[str, Any]) -> float:
    """Seconds between LoadGen's power_begin and power_end stamps (local time); 0 without them."""
    moments = []
    for key in ("power_begin", "power_end"):
        try:
            moments.append(datetime.strptime(str(found.get(key)), "%m-%d-%Y %H:%M:%S.%f"))
        except ValueError:
            return 0.0
    return max(0.0, (moments[1] - moments[0]).total_seconds())
