# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""user.conf: the only way settings reach LoadGen.

LoadGen ignores a key it does not know without a word, so a typing error would measure something
else than was asked for; here an unknown key is an error.
"""

from __future__ import annotations

import math
from typing import Any, Mapping

# LoadGen 6.0.17, TestSettings::FromConfig, for a configuration file of the user's kind.
COMMON_KEYS = frozenset(
    {
        "min_duration",
        "max_duration",
        "min_query_count",
        "max_query_count",
        "performance_sample_count_override",
        "accuracy_sample_count_override",
        "sample_concatenate_permutation",
        "performance_issue_unique",
        "performance_issue_same",
        "performance_issue_same_index",
        "print_timestamps",
        "accuracy_log_rng_seed",
        "accuracy_log_probability",
        "accuracy_log_sampling_target",
        "use_token_latencies",
        "infer_token_latencies",
        "token_latency_scaling_factor",
        "ttft_latency",
        "tpot_latency",
        "target_latency_percentile",
    }
)
SCENARIO_KEYS = {
    "SingleStream": frozenset({"target_latency"}),
    "MultiStream": frozenset({"target_latency", "samples_per_query"}),
    "Offline": frozenset({"target_qps"}),
    "Server": frozenset({"target_qps", "target_latency", "coalesce_queries", "max_async_queries"}),
}
LOADGEN_SCENARIO = {"Interactive": "Server"}  # LoadGen has no Interactive of its own


def loadgen_scenario(scenario: str) -> str:
    """The name LoadGen knows a scenario by. Raises ValueError for a scenario it does not have."""
    name = LOADGEN_SCENARIO.get(scenario, scenario)
    if name not in SCENARIO_KEYS:
        valid = ", ".join(sorted([*SCENARIO_KEYS, *LOADGEN_SCENARIO]))
        raise ValueError(f"unknown scenario {scenario!r}; valid: {valid}")
    return name


def format_user_conf(model: str, scenario: str, keys: Mapping[str, Any]) -> str:
    """Write ``<model>.<Scenario>.<key> = value`` lines, sorted. Times are milliseconds.

    Raises ValueError for a key that LoadGen would ignore, a value that is not a finite number,
    or a model name that does not fit the format.
    """
    if not model or any(letter in model for letter in ". =#\n"):
        raise ValueError(f"{model!r} is not a model name that a user.conf can carry")
    name = loadgen_scenario(scenario)
    valid = COMMON_KEYS | SCENARIO_KEYS[name]
    unknown = sorted(set(keys) - valid)
    if unknown:
        raise ValueError(
            f"LoadGen would ignore {', '.join(unknown)} for {name};"
            f" valid: {', '.join(sorted(valid))}"
        )
    return "".join(f"{model}.{name}.{key} = {_number(key, keys[key])}\n" for key in sorted(keys))


def apply_target(
    scenario: str, keys: Mapping[str, Any], target: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Merge a target into the planned keys.

    A target is ``{"target_latency_ms": x}`` (SingleStream, MultiStream), ``{"target_qps": x}``,
    for Server with ``server_latency_ms`` (used where the plan has no limit of its own) and
    ``min_query_count`` (a lower bound). Raises ValueError for a target of another scenario.
    """
    merged = dict(keys)
    if not target:
        return merged
    name = loadgen_scenario(scenario)
    if "target_latency_ms" in target:
        if name not in ("SingleStream", "MultiStream"):
            raise ValueError(f"target_latency_ms is no target of {scenario}")
        merged["target_latency"] = target["target_latency_ms"]
    if "target_qps" in target:
        merged["target_qps"] = target["target_qps"]
    if target.get("server_latency_ms") is not None and name == "Server":
        merged.setdefault("target_latency", target["server_latency_ms"])
    if target.get("min_query_count") is not None:
        planned = merged.get("min_query_count", 0)
        merged["min_query_count"] = max(planned, target["min_query_count"])
    return merged


def _number(key: str, value: Any) -> str:
    """Numbers as LoadGen's parser reads them: no exponent, booleans as 0 and 1."""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float) and not math.isnan(value) and abs(value) < 1e15:
        text = f"{value:.9f}".rstrip("0").rstrip(".")
        return text if text not in ("-0", "") else "0"
    raise ValueError(f"{key} = {value!r} is not a number that LoadGen reads")
