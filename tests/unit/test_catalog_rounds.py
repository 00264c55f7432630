# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rounds of the catalog: well formed, and the same as the pinned checker and LoadGen.

The comparison needs a clone of mlcommons/inference (a work tree or a bare one) that holds the
pinned commit: BENCHFLEET_INFERENCE_REPO=<its path> pytest tests/unit/test_catalog_rounds.py.
Without it that half is skipped. A difference is accepted only where the file itself lists it under
`disagreements`, with the value of the other side; an entry there that is no difference fails too.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

CATALOG = Path(__file__).resolve().parents[2] / "catalog"
ROUNDS = sorted(p.stem for p in (CATALOG / "rounds").glob("*.yml"))
CATEGORIES = {
    "datacenter": "datacenter",
    "edge": "edge",
    "datacenter,edge": "datacenter-edge",
}
TESTS = ("TEST01", "TEST04", "TEST06", "TEST07", "TEST08", "TEST09")
CHECKER = "tools/submission/submission_checker"
REPO = os.environ.get("BENCHFLEET_INFERENCE_REPO", "")
# Keys that the checker does not state: ours alone, or mlperf.conf's.
OWN_KEYS = {
    "loadgen_name",
    "loadgen_name_interactive",
    "offline_min_samples_reason",
    "use_token_latencies",
    "equal_issue",
    "scenarios",
}

needs_upstream = pytest.mark.skipif(
    not REPO,
    reason="BENCHFLEET_INFERENCE_REPO names no clone of mlcommons/inference to compare with",
)
each_round = pytest.mark.parametrize("name", ROUNDS)
Tree = dict[str, Any]
Where = tuple[str, ...]


@functools.cache
def read(name: str) -> Tree:
    """Return one round file as it stands."""
    content: Tree = yaml.safe_load((CATALOG / "rounds" / f"{name}.yml").read_text(encoding="utf-8"))
    return content


@functools.cache
def upstream(commit: str, path: str) -> str:
    """Return a file of mlcommons/inference at `commit`.

    Raises CalledProcessError when the clone lacks it.
    """
    command = ["git", "-C", REPO, "show", f"{commit}:{path}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@functools.cache
def constants(commit: str) -> Tree:
    """Return the names that the checker's constants.py defines (literals and arithmetic only)."""
    names: Tree = {}
    exec(upstream(commit, f"{CHECKER}/constants.py"), names)
    return names


@functools.cache
def mlperf_conf(commit: str) -> dict[str, float]:
    """Return mlperf.conf as {"model.scenario.key": value}; times in ms."""
    lines = (line.split("#")[0] for line in upstream(commit, "loadgen/mlperf.conf").splitlines())
    pairs = (line.split("=") for line in lines if "=" in line)
    return {key.strip(): float(value) for key, value in pairs}


def metrics(flat: tuple[Any, ...] | None, bound: str) -> Tree:
    """Turn ("acc", 75.7, "F1", 90) into {"acc": {bound: 75.7}, "F1": {bound: 90}}."""
    flat = flat or ()
    return {metric: {bound: value} for metric, value in zip(flat[::2], flat[1::2], strict=True)}


def merged(a: Tree, b: Tree) -> Tree:
    return {key: {**a.get(key, {}), **b.get(key, {})} for key in (*a, *b)}


def named(value: Any) -> Any:
    """Replace lists of metrics by mappings keyed by the metric, at any depth."""
    if isinstance(value, dict):
        return {str(key): named(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return {item["metric"]: {k: v for k, v in item.items() if k != "metric"} for item in value}
    return value


def leaves(value: Any, where: Where = ()) -> dict[Where, Any]:
    """Return {path: scalar or list} of a nested mapping."""
    if not isinstance(value, dict):
        return {where: value}
    return {
        path: leaf
        for key, item in value.items()
        for path, leaf in leaves(item, (*where, str(key))).items()
    }


def dig(tree: Any, where: list[str]) -> Any:
    """Return what stands at a path, None when nothing does."""
    for key in where:
        tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def same(a: Any, b: Any) -> bool:
    """Compare leaves: numbers up to rounding, lists of names in any order."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, sorted(a), sorted(b)))
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return (
            a == b
            if isinstance(a, int) and isinstance(b, int)
            else math.isclose(a, b, rel_tol=1e-9)
        )
    return bool(a == b)


def allowed(benchmark: Tree) -> set[str]:
    """Return the scenarios that a benchmark may run in any system type."""
    lists = [benchmark.get(key, {}) for key in ("required", "one_of", "optional")]
    return {scenario for by_type in lists for names in by_type.values() for scenario in names}


def checker_scenarios(config: Tree, benchmark: str) -> Tree:
    """Return required, one_of and optional as loader.py reads the tables.

    Where Server and Interactive are both optional, one of them is demanded.
    """
    found: Tree = {"required": {}, "one_of": {}, "optional": {}}
    for category, suffix in CATEGORIES.items():
        if benchmark in config[f"required-scenarios-{suffix}"]:
            found["required"][category] = config[f"required-scenarios-{suffix}"][benchmark]
        extra = set(config[f"optional-scenarios-{suffix}"].get(benchmark, ()))
        pair = {"Server", "Interactive"} & extra if {"Server", "Interactive"} <= extra else set()
        for key, names in (("one_of", pair), ("optional", extra - pair)):
            if names:
                found[key][category] = sorted(names)
    return found


def checker_accuracy(config: Tree, benchmark: str) -> Tree:
    """Return accuracy and, where a scenario has its own target, accuracy_by_scenario."""
    target = config["accuracy-target"][benchmark]
    upper = metrics(config["accuracy-upper-limit"].get(benchmark), "upper")
    if not isinstance(target, dict):
        return {"accuracy": merged(metrics(target, "target"), upper)}
    own = {s: t for s, t in target.items() if t != target["Offline"]}
    return {
        "accuracy": merged(metrics(target["Offline"], "target"), upper),
        "accuracy_by_scenario": {s: merged(metrics(t, "target"), upper) for s, t in own.items()},
    }


def checker_latencies(known: Tree, config: Tree, benchmark: str, scenarios: set[str]) -> Tree:
    """Return the latency limits in ms; constants.py has ns."""
    tokens = known["LLM_LATENCY_LIMITS"].get(benchmark, {})
    return {
        "latency_limit_ms": {
            s: ns / 10**6 for s, ns in config["latency-constraint"].get(benchmark, {}).items()
        },
        "token_latency_ms": {
            s: {key: ns / 10**6 for key, ns in limits.items()}
            for s, limits in tokens.items()
            if s in scenarios
        },
    }


def checker_results(known: Tree, name: str, benchmark: str, scenarios: set[str]) -> Tree:
    """Return result_fields: Interactive logs say Server, so Server's field is read."""
    fields = dict(known["RESULT_FIELD_BENCHMARK_OVERWRITE"][name].get(benchmark, {}))
    if "Server" in fields:
        fields["Interactive"] = fields["Server"]
    return {"result_fields": {s: field for s, field in fields.items() if s in scenarios}}


def checker_view(name: str, commit: str) -> Tree:
    """Return the round as the checker has it, in the shape of our file."""
    known = constants(commit)
    config = known["MODEL_CONFIG"][name]
    exempt = re.search(
        r"if self\.model in \(([^)]*)\)", upstream(commit, f"{CHECKER}/checks/performance_check.py")
    )
    assert exempt, "performance_check.py no longer names the benchmarks without a least duration"
    view: Tree = {
        "seeds": config["seeds"],
        "min_duration_ms": known["TEST_DURATION_MS"],
        "benchmarks": {},
    }
    for benchmark in config["models"]:
        scenarios = checker_scenarios(config, benchmark)
        entry = {
            **scenarios,
            **checker_accuracy(config, benchmark),
            **checker_latencies(known, config, benchmark, allowed(scenarios)),
            **checker_results(known, name, benchmark, allowed(scenarios)),
            "performance_sample_count": config["performance-sample-count"][benchmark],
            "accuracy_sample_count": config["accuracy-sample-count"].get(
                benchmark, config["dataset-size"][benchmark]
            ),
            "offline_min_samples": known["OFFLINE_MIN_SPQ_SINCE_V4"].get(benchmark),
            "compliance": [test for test in TESTS if benchmark in config.get(f"models_{test}", ())],
        }
        files = known["REQUIRED_ACC_BENCHMARK"].get(benchmark, {}).get(name, {})
        entry["accuracy_files"] = {kind: [int(i) for i in ids] for kind, ids in files.items()}
        if "TEST09" in entry["compliance"]:
            entry["compliance_bounds"] = {"TEST09": [known["TEST09_LOW"], known["TEST09_HIGH"]]}
        if f'"{benchmark}"' in exempt[1]:
            entry["min_duration_ms"] = 0
        view["benchmarks"][benchmark] = entry
    return view


def conf_benchmark(conf: dict[str, float], entry: Tree) -> Tree:
    """Return what LoadGen has built in for one benchmark, in the shape of our file."""
    lg = entry["loadgen_name"]
    names = {"Server": lg, "Interactive": entry.get("loadgen_name_interactive", lg)}
    view: Tree = {
        "performance_sample_count": conf.get(f"{lg}.*.performance_sample_count_override") or None,
        "accuracy_sample_count": conf.get(f"{lg}.*.accuracy_sample_count_override"),
        "offline_min_samples": conf.get(f"{lg}.Offline.min_query_count"),
        "use_token_latencies": bool(conf.get(f"{lg}.*.use_token_latencies")),
        "equal_issue": bool(conf.get(f"{lg}.*.sample_concatenate_permutation")),
        "min_duration_ms": conf["*.Offline.min_duration"],
        "scenarios": {
            "SingleStream": {"percentile": conf.get(f"{lg}.SingleStream.target_latency_percentile")}
        },
    }
    if view["use_token_latencies"]:
        view["token_latency_ms"] = {
            s: {key: conf.get(f"{key_of}.Server.{key}_latency") for key in ("ttft", "tpot")}
            for s, key_of in names.items()
        }
    else:
        view["latency_limit_ms"] = {
            s: conf.get(f"{key_of}.Server.target_latency") for s, key_of in names.items()
        }
    return view


def conf_view(ours: Tree) -> Tree:
    """Return the round as mlperf.conf has it, in the shape of our file; None: it says nothing."""
    conf = mlperf_conf(ours["inference_commit"])
    scenarios = {
        s: {
            "percentile": conf[f"*.{entry['loadgen_scenario']}.target_latency_percentile"],
            "samples_per_query": conf.get(f"*.{entry['loadgen_scenario']}.samples_per_query"),
        }
        for s, entry in ours["scenarios"].items()
    }
    scenarios["MultiStream"]["min_queries"] = conf["*.MultiStream.min_query_count"]
    return {
        "min_duration_ms": conf["*.Server.min_duration"],
        "scenarios": scenarios,
        "benchmarks": {b: conf_benchmark(conf, entry) for b, entry in ours["benchmarks"].items()},
    }


def listed(ours: Tree, key: str) -> set[Where]:
    """Return the paths whose disagreement gives `key` another value than ours."""
    return {
        tuple(entry["path"])
        for entry in ours["disagreements"]
        if key in entry and not same(entry[key], entry["enforced"])
    }


@each_round
def test_fits_schema(name: str) -> None:
    schema = json.loads((CATALOG / "schema" / "round.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    found = [
        f"{e.json_path}: {e.message}"
        for e in jsonschema.Draft202012Validator(schema).iter_errors(read(name))
    ]
    assert not found
    assert read(name)["name"] == name


def test_exactly_one_round_is_current() -> None:
    assert [name for name in ROUNDS if read(name)["status"] == "current"] == [max(ROUNDS)]


@each_round
def test_benchmarks_hold_together(name: str) -> None:
    for benchmark, entry in read(name)["benchmarks"].items():
        scenarios = allowed(entry)
        limits = entry.get("token_latency_ms", {})
        served = {"Server", "Interactive"} & scenarios
        assert ("Interactive" in scenarios) == ("loadgen_name_interactive" in entry), benchmark
        assert (entry["offline_min_samples"] is None) == ("offline_min_samples_reason" in entry), (
            benchmark
        )
        assert ("TEST09" in entry["compliance"]) == ("compliance_bounds" in entry), benchmark
        assert set(limits) == (served if entry["use_token_latencies"] else set()), benchmark
        assert all(a.get("upper", math.inf) > (a["target"] or 0) for a in entry["accuracy"]), (
            benchmark
        )


@each_round
def test_disagreements_state_what_the_file_holds(name: str) -> None:
    tree = named({key: item for key, item in read(name).items() if key != "disagreements"})
    paths = [tuple(entry["path"]) for entry in read(name)["disagreements"]]
    assert len(paths) == len(set(paths))
    for entry in read(name)["disagreements"]:
        others = [entry[key] for key in ("checker", "mlperf_conf", "rules") if key in entry]
        assert same(dig(tree, entry["path"]), entry["enforced"]), entry["path"]
        assert not all(same(other, entry["enforced"]) for other in others), (
            f"no difference: {entry['path']}"
        )


@needs_upstream
@each_round
def test_agrees_with_the_checker(name: str) -> None:
    ours = read(name)
    theirs = leaves(checker_view(name, ours["inference_commit"]))
    kept = {key: named(ours[key]) for key in ("seeds", "min_duration_ms")}
    kept["benchmarks"] = {
        b: {key: item for key, item in named(entry).items() if key not in OWN_KEYS}
        for b, entry in ours["benchmarks"].items()
    }
    mine = leaves(kept)
    differ = {path for path in {*mine, *theirs} if not same(mine.get(path), theirs.get(path))}
    assert differ == listed(ours, "checker")


@needs_upstream
@each_round
def test_agrees_with_loadgen(name: str) -> None:
    ours = read(name)
    mine = leaves(named({key: ours[key] for key in ("min_duration_ms", "scenarios", "benchmarks")}))
    theirs = {path: value for path, value in leaves(conf_view(ours)).items() if value is not None}
    differ = {
        path for path, value in theirs.items() if path in mine and not same(mine[path], value)
    }
    assert differ == listed(ours, "mlperf_conf")


@needs_upstream
@each_round
def test_disagreements_quote_upstream(name: str) -> None:
    ours = read(name)
    checker, conf = checker_view(name, ours["inference_commit"]), conf_view(ours)
    for entry in ours["disagreements"]:
        assert same(dig(checker, entry["path"]), entry["checker"]), entry["path"]
        if "mlperf_conf" in entry:
            assert same(dig(conf, entry["path"]), entry["mlperf_conf"]), entry["path"]


@needs_upstream
@each_round
def test_scenarios_and_tree_are_the_checkers(name: str) -> None:
    ours = read(name)
    known = constants(ours["inference_commit"])
    for entry in ours["scenarios"].values():
        assert entry["result_field"] == known["RESULT_FIELD_NEW"][name][entry["loadgen_scenario"]]
    tree = ours["tree"]
    assert f"{tree['performance']}/mlperf_log_detail.txt" == known["PERFORMANCE_LOG_PATH"][name]
    assert f"{tree['accuracy']}/accuracy.txt" == known["ACCURACY_RESULT_PATH"][name]
    assert tree["power"] == known["POWER_DIR_PATH"][name]
    assert tree["systems"] == known["SYSTEM_PATH"][name]
    assert tree["code"] == known["SRC_PATH"][name]
    assert tree["measurements"] == known["MEASUREMENTS_PATH"][name].replace(
        "{file}", "{system}.json"
    )
    assert tree["compliance"] == known["COMPLIANCE_PATH"][name] + "{test}"
    assert {tree["user_conf"], tree["readme"]} == {
        str(Path(tree["measurements"]).with_name(file)) for file in known["REQUIRED_MEASURE_FILES"]
    }


@needs_upstream
@each_round
def test_metrics_are_the_checkers_patterns(name: str) -> None:
    patterns = constants(read(name)["inference_commit"])["ACC_PATTERN"]
    for entry in read(name)["benchmarks"].values():
        assert {a["metric"] for a in entry["accuracy"]} <= set(patterns)
