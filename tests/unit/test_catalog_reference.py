# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What benchmark files say of upstream: whole in itself, and true of the pinned commit.

The comparison needs a clone of mlcommons/inference (a work tree or a bare one) that holds the
pinned commits: BENCHFLEET_INFERENCE_REPO=<its path> pytest tests/unit/test_catalog_reference.py.
Without it that half is skipped.
"""

from __future__ import annotations

import ast
import functools
import itertools
import math
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.accuracy import METRICS

ROOT = Path(__file__).resolve().parents[2]
CATALOG = ROOT / "catalog"
LOCKS = ROOT / "roles" / "harness_reference" / "files" / "requirements"
REPO = os.environ.get("BENCHFLEET_INFERENCE_REPO", "")
Tree = dict[str, Any]

needs_upstream = pytest.mark.skipif(
    not REPO,
    reason="BENCHFLEET_INFERENCE_REPO names no clone of mlcommons/inference to compare with",
)


def words(text: str) -> list[str]:
    return text.split()


def _read(folder: str) -> dict[str, Tree]:
    files = sorted((CATALOG / folder).glob("*.yml"))
    return {p.stem: yaml.safe_load(p.read_text(encoding="utf-8")) for p in files}


BENCHMARKS = _read("benchmarks")
ROUNDS = _read("rounds")
PINNED = ROUNDS[max(ROUNDS)]["inference_commit"]
REFERENCES = {name: b["reference"] for name, b in BENCHMARKS.items() if "reference" in b}
# Some benchmarks are run by other repositories, which the clone does not hold.
UPSTREAM = {name: r for name, r in REFERENCES.items() if "repository" not in r}
ARTIFACTS = {
    f"{name}/{artifact}": spec
    for name, benchmark in BENCHMARKS.items()
    for artifact, spec in benchmark["artifacts"].items()
}
each_benchmark = pytest.mark.parametrize("name", BENCHMARKS)
each_reference = pytest.mark.parametrize("name", REFERENCES)
each_upstream = pytest.mark.parametrize("name", UPSTREAM)
each_artifact = pytest.mark.parametrize("name", ARTIFACTS)

# Buckets and names of the MLCommons store that inference benchmarks use.
STORE = {
    "inference": words(
        """
        deepseek-r1 deepseek-r1-datasets-fp8-eval dlrm-v2-model-weights
        dlrm-v2-preprocessed-dataset dlrm-v3-checkpoint dlrm-v3-dataset
        frames-benchmark-dataset intfloat_e5-base-v2 colbert-ir_colbertv2.0 gpt-oss-model
        gpt-oss-20B gpt-oss-data edge_agentic_perf edge_agentic_accuracy
        edge_agentic_calibration gpt-j-model-checkpoint llama-2-70b-open-orca-dataset
        llama3-1-405b-calibration-dataset-512 llama3-1-405b-dataset-8313
        llama3-1-8b-cnn-eval llama3-1-8b-sample-cnn-eval-5000
        llama3-1-8b-cnn-dailymail-calibration mixtral-8x7b-model-checkpoint
        mixtral-8x7b-validation-dataset mixtral-8x7b-calibration-dataset rgat-model
        stable-diffusion-xl-1-0-fp32-checkpoint stable-diffusion-xl-1-0-fp16-checkpoint
        T2V-data T2V-model T2V-vbench VLM-data VLM-model Shopify-product-catalogue-8k
        whisper-model whisper-dataset YOLO-COCO2017-dataset
        """
    ),
    "llama2": ["llama-2-7b-chat-hf", "llama-2-70b-chat-hf"],
    "llama3-1": ["llama3-1-405b-instruct", "llama3-1-8b-instruct"],
    "waymo": ["dataset-model", "dataset", "calibration-dataset", "model"],
    "yolo": ["YOLO-model"],
}
MEMBERS_ONLY = set(STORE) - {"inference"}
PRIVATE_HOSTS = {"armi.in", "www.dropbox.com", "drive.google.com", "cknowledge.org"}
WORDS = set(
    words(
        """
        python accuracy_python tree folder out user_conf scenario scenario_lower samples
        cache shims token_dtype model dataset
        """
    )
)
# Read by the runtimes, not by upstream's code.
RUNTIME_VARIABLES = re.compile(
    r"CUDA_VISIBLE_DEVICES|HOME|LD_PRELOAD|NLTK_DATA|PYTHONPATH|https?_proxy"
    r"|(OMP|TORCH|HF|VLLM|KMP|YOLO)_\w+"
)


def nodes(value: Any) -> Iterator[Tree]:
    """Yield each mapping inside a value, itself included."""
    if isinstance(value, dict):
        yield value
    for item in value.values() if isinstance(value, dict) else value:
        if isinstance(item, (dict, list)):
            yield from nodes(item)


def derived(benchmark: Tree) -> list[Tree]:
    return [a["derive"] for a in benchmark["artifacts"].values() if "derive" in a]


def argvs(name: str) -> list[list[str]]:
    """Return each program of a benchmark with every word that it may get."""
    reference = REFERENCES[name]
    run = list(reference["command"])
    for node in nodes({k: v for k, v in reference.items() if k != "accuracy"}):
        run += node.get("arguments", [])
    run += [word for mode in reference["modes"].values() for word in mode]
    accuracy = reference["accuracy"] or {"command": []}
    score = list(accuracy["command"])
    for node in nodes(accuracy):
        score += node.get("arguments", [])
    return [run, score, *(d["command"] for d in derived(BENCHMARKS[name]))]


def variables(name: str) -> dict[str, str | None]:
    places = [REFERENCES[name], *derived(BENCHMARKS[name])]
    return {
        k: v for place in places for n in nodes(place) for k, v in n.get("variables", {}).items()
    }


def in_rounds(benchmark: Tree) -> dict[str, list[Tree]]:
    """Return what each round says of a benchmark, the lower target first."""
    return {
        r: [rules["benchmarks"][n] for n in benchmark["checker_names"] if n in rules["benchmarks"]]
        for r, rules in ROUNDS.items()
    }


def targets(entry: Tree) -> Tree:
    """Return the least and the highest figure of each metric."""
    return {
        a["metric"]: [round(a.get(key) or math.inf, 8) for key in ("target", "upper")]
        for a in entry["accuracy"]
    }


@each_artifact
def test_a_null_has_its_reason(name: str) -> None:
    artifact = ARTIFACTS[name]
    reasons = artifact.get("unpublished", {})
    for key in ("bytes", "licence"):
        assert (artifact[key] is None) == (key in reasons), key
    bare = [o for o in artifact["origins"] if "url" in o and not {"md5", "sha256"} & set(o)]
    if bare and "sha256" not in artifact:
        assert "checksum" in reasons


@each_artifact
def test_gates_fit_origins(name: str) -> None:
    artifact = ARTIFACTS[name]
    gate = artifact["gate"] or {"how": None}
    buckets = {
        urlsplit(o["mlcommons"]).netloc.partition(".")[0]
        for o in artifact["origins"]
        if "mlcommons" in o
    }
    if gate["how"] == "own-copy" and "layout" not in artifact:
        assert artifact["unpublished"]["checksum"]
    if not artifact["origins"]:
        assert gate["how"] == "own-copy" or "derive" in artifact
    if buckets and buckets <= MEMBERS_ONLY:
        assert gate["how"] is not None


@each_artifact
def test_origins_are_public_ones(name: str) -> None:
    for origin in ARTIFACTS[name]["origins"]:
        if "mlcommons" in origin:
            parts = urlsplit(origin["mlcommons"])
            bucket, file = parts.netloc.partition(".")[0], PurePosixPath(parts.path)
            assert file.stem in STORE[bucket], origin
        if "url" in origin:
            assert urlsplit(origin["url"]).netloc.lower() not in PRIVATE_HOSTS


def test_an_artifact_is_the_same_in_each_file() -> None:
    seen: Tree = {}
    for name, spec in ARTIFACTS.items():
        content = {key: spec.get(key) for key in ("type", "origins", "sha256", "layout", "derive")}
        content["gate"] = (spec["gate"] or {}).get("name")
        assert seen.setdefault(name.partition("/")[2], content) == content, name


@each_reference
def test_devices_have_an_environment_or_say_why_not(name: str) -> None:
    reference = REFERENCES[name]
    accuracy = reference["accuracy"] or {}
    assert (accuracy.get("environment", "the run's") is None) == ("why_not" in accuracy)
    for backend, how in reference["backends"].items():
        for device, needs in how["devices"].items():
            assert (needs["environment"] is None) == ("why_not" in needs), (backend, device)
    places = [n for place in (reference, *derived(BENCHMARKS[name])) for n in nodes(place)]
    named = {n["environment"] for n in places if n.get("environment")}
    if LOCKS.is_dir():
        assert named <= {p.stem for p in LOCKS.glob("*.txt")}


@each_reference
def test_variants_name_backends_or_say_why_not(name: str) -> None:
    reference = REFERENCES[name]
    for variant in reference.get("variants", {}).values():
        assert set(variant["backends"]) <= set(reference["backends"])
        assert (not variant["backends"]) == ("why_not" in variant)


@each_reference
def test_placeholders_are_known(name: str) -> None:
    reference, benchmark = REFERENCES[name], BENCHMARKS[name]
    known = WORDS | set(reference.get("uses", {}))
    known |= {key for node in nodes(reference) for key in node.get("values", {})}
    known |= {word for d in derived(benchmark) for word in d["from"]}
    texts = [w for argv in argvs(name) for w in argv] + [v for v in variables(name).values() if v]
    texts += reference.get("aliases", {}).values()
    texts += (reference["accuracy"] or {}).get("links", {}).values()
    used = {word for text in texts for word in re.findall(r"\{(\w+)\}", text)}
    assert used <= known


@each_benchmark
def test_official_benchmarks_are_whole(name: str) -> None:
    benchmark = BENCHMARKS[name]
    entries = [benchmark, *benchmark.get("reference", {}).get("variants", {}).values()]
    assert {a["metric"] for entry in entries for a in entry["accuracy"]} <= set(METRICS)
    if benchmark["kind"] == "mlperf":
        assert {"reference", "resources"} <= set(benchmark)
        assert benchmark["expected_s"]["accuracy"] > 0
        # upstream's harness of yolo overwrites the duration that it is given
        usual = 600000 if name == "yolo" else 10000
        assert benchmark["test"]["min_duration_ms"] == usual


@each_benchmark
def test_numbers_are_those_of_the_rounds(name: str) -> None:
    benchmark = BENCHMARKS[name]
    for round_, entries in in_rounds(benchmark).items():
        scenarios = {
            s for e in entries for k in ("required", "one_of", "optional")
            for names in e.get(k, {}).values() for s in names
        }  # fmt: skip
        assert scenarios <= set(benchmark["scenarios"]), round_
        # Of the two targets of one benchmark (99 % and 99.9 %) the file holds either.
        assert not entries or any(targets(r) == targets(benchmark) for r in entries), round_
        for rules in entries[:1]:
            assert benchmark["performance_sample_count"] == rules["performance_sample_count"]
            counts = [rules["performance_sample_count"], rules["accuracy_sample_count"]]
            assert benchmark["dataset"]["samples"] in counts
            assert benchmark["loadgen_model"] == rules["loadgen_name"]
            if not rules["use_token_latencies"]:
                for scenario, limit in rules.get("latency_limit_ms", {}).items():
                    assert benchmark["latency_limit_ms"][scenario] == limit


@each_benchmark
def test_the_last_round_is_the_last_one_that_has_it(name: str) -> None:
    benchmark = BENCHMARKS[name]
    having = [r for r, entries in in_rounds(benchmark).items() if entries]
    if having:
        assert benchmark.get("last_round", max(ROUNDS)) == max(having)
    elif "last_round" in benchmark:
        assert benchmark["last_round"] < min(ROUNDS)


def test_each_benchmark_of_the_rounds_has_one_file() -> None:
    named = {n for rules in ROUNDS.values() for n in rules["benchmarks"]}
    have = [n for b in BENCHMARKS.values() for n in b["checker_names"]]
    assert len(have) == len(set(have))
    assert not named - set(have)


def test_each_patch_is_used() -> None:
    used = {p["file"] for r in REFERENCES.values() for p in r.get("patches", ())}
    assert used == {p.name for p in (CATALOG / "patches").glob("*")}


def git(*words: str) -> str:
    command = ["git", "-C", REPO, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def commit_of(name: str) -> str:
    return str(UPSTREAM[name].get("commit", PINNED))


@functools.cache
def entries(commit: str) -> dict[str, str]:
    """Return {path: mode} of a commit, folders included."""
    lines = git("ls-tree", "-r", "-t", commit).splitlines()
    return {path: head.split()[0] for head, path in (line.split("\t", 1) for line in lines)}


@functools.cache
def source(commit: str, path: str) -> str:
    return git("show", f"{commit}:{path}")


def paths_in(name: str, text: str) -> list[str]:
    """Return the files and folders of the tree that a word names."""
    roots = {"folder": UPSTREAM[name]["folder"] + "/", "tree": ""}
    found = re.findall(r"\{(folder|tree)\}/([\w.+/-]*[\w+])", text)
    return [roots[root] + path for root, path in found]


def flags_of(code: str) -> dict[str, set[str] | None]:
    """Return the flags that a Python program defines, with their choices where it limits them."""
    module = ast.parse(code)
    keys = {
        target.id: {k.value for k in node.value.keys if isinstance(k, ast.Constant)}
        for node in module.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    found: dict[str, set[str] | None] = {}
    for call in (n for n in ast.walk(module) if isinstance(n, ast.Call)):
        function = ast.unparse(call.func).rpartition(".")[2]
        lists = [k.value.elts for k in call.keywords if k.arg == "arg_names"]
        names = [
            a.value
            for a in (*call.args, *(name for names in lists for name in names))
            if isinstance(a, ast.Constant)
        ]
        limits = next((k.value for k in call.keywords if k.arg == "choices"), None)
        choices = None
        if isinstance(limits, (ast.List, ast.Tuple, ast.Set)):
            choices = {str(c.value) for c in limits.elts if isinstance(c, ast.Constant)}
        elif limits is not None:
            choices = keys.get(ast.unparse(limits).removesuffix(".keys()"))
        if function == "add_argument" or lists:
            found |= {str(n): choices for n in names if str(n).startswith("-")}
        elif function.startswith("DEFINE_") and names:
            found[f"--{names[0]}"] = None
    return found


def known_flags(commit: str, script: str) -> dict[str, set[str] | None]:
    """Return the flags of a program and of the modules beside it that it imports."""
    if script.endswith(".sh"):
        return dict.fromkeys(re.findall(r"--?[\w-]+(?=\s*[|)])", source(commit, script)))
    found, seen, todo = {}, set(), [script]
    while todo:
        path = todo.pop()
        seen.add(path)
        code = source(commit, path)
        found |= flags_of(code)
        for module in re.findall(r"^\s*(?:from|import)\s+([\w.]+)", code, re.M):
            beside = str(PurePosixPath(script).parent / (module.replace(".", "/") + ".py"))
            if beside in entries(commit) and beside not in seen:
                todo.append(beside)
    return found


def given_flags(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """Yield each flag of an argv with its value where that is in the next word or after a =."""
    for word, after in itertools.pairwise([*words, "-"]):
        if word.startswith("-"):
            flag, equals, value = word.partition("=")
            yield flag, value if equals else None if after.startswith("-") else after


@needs_upstream
@each_upstream
def test_paths_exist_upstream(name: str) -> None:
    reference, tree = UPSTREAM[name], entries(commit_of(name))
    wanted = [reference["folder"], *reference.get("paths", ())]
    links = [*reference.get("links", ())]
    links += [link for d in derived(BENCHMARKS[name]) for link in d.get("links", ())]
    wanted += [f"{reference['folder']}/{link}" for link in links]
    texts = [w for argv in argvs(name) for w in argv] + [v for v in variables(name).values() if v]
    wanted += [path for text in texts for path in paths_in(name, text)]
    inside = tuple(f"{s}/" for s in reference.get("submodules", ()))
    assert not [p for p in wanted if p not in tree and not (inside and p.startswith(inside))]


@needs_upstream
@each_upstream
def test_submodules_exist_upstream(name: str) -> None:
    modules = re.findall(r"path = (\S+)", source(commit_of(name), ".gitmodules"))
    for path in UPSTREAM[name].get("submodules", ()):
        assert path in modules
        assert entries(commit_of(name))[path] == "160000"


@needs_upstream
@each_upstream
def test_flags_exist_upstream(name: str) -> None:
    for argv in argvs(name):
        scripts = [
            (i, path)
            for i, word in enumerate(argv)
            for path in paths_in(name, word)
            if word.startswith("{") and path.endswith((".py", ".sh"))
        ]
        for i, script in scripts[:1]:
            known = known_flags(commit_of(name), script)
            for flag, value in given_flags(argv[i + 1 :]):
                assert flag in known, f"{script} has no {flag}"
                choices = known[flag]
                if choices and value is not None and "{" not in value:
                    assert value in choices, f"{script} {flag}"


@needs_upstream
@each_upstream
def test_variables_are_read_upstream(name: str) -> None:
    commit, reference = commit_of(name), UPSTREAM[name]
    folders = [reference["folder"], *reference.get("paths", ())]
    for variable in variables(name):
        if RUNTIME_VARIABLES.fullmatch(variable):
            continue
        reads = rf"""environ[^=]*["']{variable}["']|getenv\(["']{variable}|\${{?{variable}\b"""
        files = [p for p in entries(commit) if p.startswith(tuple(f"{f}/" for f in folders))]
        codes = (source(commit, p) for p in files if p.endswith((".py", ".sh")))
        assert any(re.search(reads, code) for code in codes), variable


@needs_upstream
@each_upstream
def test_patches_apply(name: str, tmp_path: Path) -> None:
    for patch in UPSTREAM[name].get("patches", ()):
        file = CATALOG / "patches" / patch["file"]
        touched = re.findall(r"^\+\+\+ b/(\S+)", file.read_text(encoding="utf-8"), re.M)
        for path in touched:
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(source(commit_of(name), path), encoding="utf-8")
        assert touched
        subprocess.run(["git", "apply", str(file)], cwd=tmp_path, check=True)
        assert all(
            (tmp_path / p).read_text(encoding="utf-8") != source(commit_of(name), p)
            for p in touched
        )
