# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one cell holds: how it is run, what it needs, its settings, and what it is judged by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .catalog import Catalog
from .derived import environments, with_sources
from .errors import BenchfleetError, nearest
from .models import Model
from .needs import Lab, gates, need, source
from .recipe import TUNABLE, Recipe, recipe, runs
from .request import MODES, Request
from .suts import Sut

Cell = dict[str, Any]
OVERHEAD_S = 4.0


@dataclass(frozen=True)
class Context:
    """What the cells of one SUT x benchmark x implementation have in common.

    `rules` are the round's for the benchmark, empty where it has none; `lab` is what the lab has
    given of its own.
    """

    request: Request
    round: Mapping[str, Any]
    sut: Sut
    benchmark: Mapping[str, Any]
    rules: Mapping[str, Any]
    implementation: Mapping[str, Any]
    catalog: Catalog
    lab: Lab
    variant: str | None = None

    @property
    def of_benchmark(self) -> bool:
        """Whether the benchmark's own section says how it is run, as for upstream's harnesses."""
        return "section" in self.implementation

    @property
    def device(self) -> str:
        """The device that was asked for, else the SUT's own."""
        return self.request.device or self.sut.device

    @property
    def min_duration_ms(self) -> int:
        """The shortest measurement: the round's at official length, else the benchmark's."""
        official: int = self.round["min_duration_ms"]
        test: int = self.benchmark["test"]["min_duration_ms"]
        return official if self.request.duration == "official" else test

    def recipe(self, scenario: str, mode: str) -> tuple[Recipe | None, str | None]:
        """Return how the cells of a scenario and mode are run, or why they cannot be."""
        name, benchmark = self.implementation["name"], self.benchmark
        if not runs(self.implementation, benchmark):
            able = able_to_run(benchmark, self.catalog)
            return None, (
                f"implementation {name} does not run {benchmark['name']}.{nearest(name, able)}"
            )
        asked: dict[str, Any] = {"backend": self.request.backend, "variant": self.variant}
        if self.of_benchmark:
            asked |= {n: getattr(self.request, n) for n in (*TUNABLE, "samples")}
        try:
            found = recipe(
                *(self.implementation, benchmark, self.device, scenario, mode),
                *(asked, self.catalog),
            )
        except BenchfleetError as e:
            return None, str(e)
        return found, None

    def latency_limit_ms(self, scenario: str) -> float | None:
        """The limit that was asked for, else the benchmark's, None where neither has one."""
        limit: float | None = self.benchmark.get("latency_limit_ms", {}).get(scenario)
        return self.request.latency_limit or limit


def able_to_run(benchmark: Mapping[str, Any], catalog: Catalog) -> list[str]:
    """Return the implementations of the catalog that run a benchmark, our own harness first,
    upstream's next; all of them where none does, so that each can say so and no cell is dropped."""
    every = sorted(catalog.names("implementations"), key=lambda n: (n != "onnx", n != "reference"))
    able = [n for n in every if runs(catalog.get("implementations", n), benchmark)]
    return able or every


def make(context: Context, model: Model, scenario: str, mode: str) -> Cell:
    """Return the cell of a model, scenario and mode; `refuse` or `skip` says why it is not run."""
    request, round_, benchmark = context.request, context.round, context.benchmark
    implementation = context.implementation
    member = [context.variant] if context.variant else []
    label = ".".join([benchmark["name"], *member, *([] if model.reference else [model.name])])
    how, unable = context.recipe(scenario, mode)
    resolved = _resolved(context, how) if how else None
    artifacts = _artifacts(context, how, resolved)
    if resolved and resolved["source"]:
        resolved["environments"] |= environments(artifacts)
    refuse, skip = _obstacles(context, how, artifacts, scenario, mode)
    seconds = context.min_duration_ms / 1000
    expected = benchmark["expected_s"].get("accuracy", 600.0) if mode == "accuracy" else seconds
    why_not = _why_not_submittable(request, benchmark, context.rules)
    own = [n for n in artifacts.values() if n] + [model.as_dict()]
    return _of_sut(context.sut) | {
        "id": "/".join((context.sut.name, label, implementation["name"], scenario, mode)),
        "device": context.device,
        "benchmark": label,
        "catalog_benchmark": benchmark["name"],
        "model": model.as_dict(),
        "dataset": artifacts["dataset"],
        "needs": {word: found for word, found in artifacts.items() if word != "dataset" and found},
        "implementation": implementation["name"],
        "recipe": resolved,
        "scenario": scenario,
        "mode": mode,
        "round": round_["name"],
        "division": request.division,
        "duration": request.duration,
        "submittable": why_not is None,
        "why_not_submittable": why_not,
        "options": _options(context, scenario),
        "keys": _keys(context, scenario),
        "loadgen_model": _loadgen_model(context, how, scenario),
        "loadgen_version": round_["loadgen"]["version"],
        "loadgen_source": request.loadgen_source or None,
        "target": _target(request, scenario),
        "run_prefix": request.run_prefix,
        "expected_s": expected + OVERHEAD_S,
        "time_limit_s": request.time_limit or max(600.0, expected * 4 + 300.0),
        "variant": how.variant if how else None,
        "rules": judged_by(
            *(round_, benchmark, context.rules, scenario),
            reference=model.reference,
            scores=how.scores if how else None,
            own_loadgen=bool(request.loadgen_source),
        ),
        "signature": (benchmark["model"] or {}).get("signature"),
        "metric": benchmark["metric"],
        "label_offset": benchmark.get("label_offset", 0),
        "resources": _resources(context, how, reference=model.reference),
        "gates": gates(benchmark, own, context.lab),
        "skip": skip,
        "refuse": unable or refuse,
    }


def _resolved(context: Context, how: Recipe) -> dict[str, Any]:
    """Return the recipe as the cell carries it: the source at a commit, the number of samples, and
    of GPUs where the SUT names its devices."""
    plain = how.as_dict()
    if plain["source"]:
        commit = plain["source"]["commit"] or context.round["inference_commit"]
        plain["source"]["commit"] = commit
    dataset = context.benchmark["dataset"]
    values = dict(
        plain["values"], samples=context.request.samples or (dataset or {}).get("samples") or 0
    )
    if "gpus" in values and context.sut.devices:
        values["gpus"] = len(context.sut.devices)
    plain["values"] = values
    return plain


def _resources(
    context: Context, how: Recipe | None, *, reference: bool
) -> Mapping[str, Any] | None:
    """Return the least that a host needs, None where nobody has stated it.

    The catalog states it for the reference model and dataset: it knows nothing of a model of the
    user's own, nor of the disk space for a dataset of theirs.
    """
    stated: Mapping[str, Any] | None = context.benchmark.get("resources")
    if not stated or not reference:
        return None
    if how and how.resources:
        return how.resources
    return dict(stated, disk_gb=None) if context.request.dataset_path else stated


def _loadgen_model(context: Context, how: Recipe | None, scenario: str) -> str:
    """Return the name under which LoadGen looks the run's settings up."""
    interactive = context.rules.get("loadgen_name_interactive")
    name: str = context.benchmark["loadgen_model"]
    if scenario == "Interactive" and interactive:
        name = interactive
    return (how.loadgen_model if how else None) or name


def _artifacts(
    context: Context, how: Recipe | None, resolved: Mapping[str, Any] | None
) -> dict[str, dict[str, Any] | None]:
    """Return what a run needs beside its model, by placeholder; 'dataset' is always there."""
    benchmark, catalog, lab = context.benchmark, context.catalog, context.lab
    names = dict(how.artifacts) if how else {"dataset": None}
    names.pop("model", None)
    if not context.of_benchmark:
        # This harness reads arrays, so a lab's copy of the raw dataset is of no use to it.
        lab = replace(lab, paths={})
    given = context.request.dataset_path
    found = {
        word: need(benchmark, name, given if word == "dataset" else "", lab, catalog)
        for word, name in names.items()
    }
    if resolved and resolved["source"]:
        found["tree"] = source(resolved, context.request.source_override, lab)
        found = with_sources(found, benchmark, lab, catalog)
    return found


def _of_sut(sut: Sut) -> Cell:
    return {
        "host": sut.host,
        "sut": sut.name,
        "members": list(sut.members),
        "devices": list(sut.devices),
        "profile": sut.profile,
        "system_type": sut.system_type,
    }


def _obstacles(
    context: Context,
    how: Recipe | None,
    artifacts: Mapping[str, dict[str, Any] | None],
    scenario: str,
    mode: str,
) -> tuple[str | None, str | None]:
    """Return why a cell is refused and why it is skipped, None for each that does not apply."""
    benchmark = context.benchmark
    skip = None
    refuse = _lacking(context, artifacts)
    valid = list(how.scenarios) if how and how.scenarios else benchmark["scenarios"]
    if scenario not in valid:
        refuse = f"{benchmark['name']} has no {scenario} scenario.{nearest(scenario, valid)}"
    if how and how.why_not:
        refuse = f"{benchmark['name']} on {how.backend}, device {context.device}: {how.why_not}"
    if mode == "accuracy" and benchmark["dataset"] is None:
        skip = "accuracy needs a dataset with known answers; generated inputs have none"
    if mode not in MODES:
        skip = f"the round requires compliance test {mode}; this version does not run those yet"
    return refuse, skip


def _lacking(context: Context, artifacts: Mapping[str, dict[str, Any] | None]) -> str | None:
    """Return which artifact cannot be had, and what to do."""
    benchmark, dataset = context.benchmark, artifacts["dataset"]
    reads_arrays = not context.of_benchmark and benchmark["dataset"] is not None
    if reads_arrays and (dataset is None or dataset["origin"] in ("store", "derived")):
        return (
            f"{benchmark['name']} needs the lab's own copy of {benchmark['dataset']['name']}:"
            " -e dataset_path=<folder of .npy files, or .npz, on the SUT>"
        )
    return next((n["refuse"] for n in artifacts.values() if n and n.get("refuse")), None)


def judged_by(
    round_: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    rules: Mapping[str, Any],
    scenario: str,
    *,
    reference: bool,
    scores: Sequence[Mapping[str, Any]] | None,
    own_loadgen: bool,
) -> dict[str, Any]:
    """Return what a run is assessed by.

    `scores` are those of a member of a family. A model of the user's own (not `reference`) has no
    accuracy target to reach, and the user's own LoadGen none of the round's versions.
    """
    targets = (
        rules.get("accuracy_by_scenario", {}).get(scenario)
        or rules.get("accuracy")
        or (benchmark["accuracy"] if scores is None else scores)
    )
    accuracy = [{k: t[k] for k in ("metric", "target", "upper") if k in t} for t in targets]
    if not reference:
        accuracy = [{"metric": t["metric"], "target": 0.0} for t in accuracy]
    names = benchmark["checker_names"]
    return {
        "checker_name": names[0] if names else benchmark["name"],
        "accuracy": accuracy,
        **({} if own_loadgen else {"loadgen_version": round_["loadgen"]["version"]}),
        "seeds": round_["seeds"],
    }


def _why_not_submittable(
    request: Request, benchmark: Mapping[str, Any], rules: Mapping[str, Any]
) -> str | None:
    if benchmark["kind"] != "mlperf":
        return f"{benchmark['name']} is not an MLPerf benchmark"
    if not rules:
        return f"round {request.round} does not have {benchmark['name']}"
    for option in ("source_override", "loadgen_source"):
        if getattr(request, option):
            return f"{option}: not the round's own source"
    if request.duration == "test":
        return "a test-length run"
    return None


def _options(context: Context, scenario: str) -> dict[str, Any]:
    request = context.request
    if context.of_benchmark:
        return {}  # what it takes stands in its command
    chosen = {n: getattr(request, n) for n in context.implementation["options"]}
    chosen["input_shapes"] = dict(request.input_shapes) or None
    chosen["samples"] = request.samples
    limit = context.latency_limit_ms(scenario)
    chosen["latency_limit_ms"] = limit if scenario in ("Server", "Interactive") else None
    return chosen


def _keys(context: Context, scenario: str) -> dict[str, Any]:
    """Return the user.conf keys of one run (units as LoadGen's: ms).

    An MLPerf benchmark at official length gets none: LoadGen's built-in mlperf.conf holds the
    rules.
    """
    request, benchmark = context.request, context.benchmark
    keys: dict[str, Any] = {}
    if benchmark["kind"] != "mlperf":
        keys["performance_sample_count_override"] = (
            request.samples or benchmark["performance_sample_count"]
        )
        keys["min_duration"] = context.min_duration_ms
    elif request.duration == "test":
        keys["min_duration"] = context.min_duration_ms
    if request.duration == "test" and scenario == "Offline":
        # mlperf.conf asks for up to 788,379 samples in one query; a test is not submittable anyhow.
        keys["min_query_count"] = 1
    limit = context.latency_limit_ms(scenario)
    if scenario in ("Server", "Interactive") and limit and not context.rules:
        keys["target_latency"] = limit
    return keys


def _target(request: Request, scenario: str) -> dict[str, float] | None:
    """Return the target that the user gave, None where calibration has to find it."""
    if scenario in ("SingleStream", "MultiStream"):
        return {"target_latency_ms": request.target_latency} if request.target_latency else None
    return {"target_qps": request.target_qps} if request.target_qps else None
