# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan: request + inventory + catalog become cells, before anything touches a host.

A cell is one SUT x benchmark x implementation x scenario x mode. Every combination that was asked
for becomes a cell: one that cannot run carries `skip` (nothing to do here, not a fault) or
`refuse`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .catalog import Catalog
from .errors import BenchfleetError, nearest
from .models import Model, models
from .needs import Lab, gates, need, source
from .recipe import TUNABLE, Recipe, recipe, runs, variants
from .request import MODES, SCENARIOS, Request
from .suts import Sut, declared

Cell = dict[str, Any]
OVERHEAD_S = 4.0
NOTHING_GIVEN = Lab({})
CALIBRATION_S = {"test": 6.0, "official": 220.0}


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
            able = _implementations(benchmark["name"], self.catalog)
            return None, (
                f"implementation {name} does not run {benchmark['name']}.{nearest(name, able)}"
            )
        asked: dict[str, Any] = {"backend": self.request.backend, "variant": self.variant}
        if self.of_benchmark:
            asked |= {n: getattr(self.request, n) for n in TUNABLE}
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


def plan(
    request: Request,
    hosts: Mapping[str, Mapping[str, Any]],
    catalog: Catalog,
    calibrate: bool = False,
    lab: Lab = NOTHING_GIVEN,
) -> list[Cell]:
    """Return the cells of `request` for the SUTs that `hosts` (name -> inventory variables)
    declare.

    `calibrate` asks for the calibration of each performance cell in place of its run; `lab`
    is what holds for all hosts.

    Raises BenchfleetError for a name that does not exist, with the valid ones and the nearest
    spelling.
    """
    round_ = catalog.get("rounds", request.round)
    chosen = _choose_suts(request, hosts)
    automatic = request.implementation == ("auto",)
    implementations = (
        [] if automatic else _names(request.implementation, catalog, "implementations")
    )
    benchmarks = _names(request.benchmark, catalog, "benchmarks")
    _check_words(request)
    cells: list[Cell] = []
    for sut in chosen:
        for name in benchmarks or _required_benchmarks(round_, sut, catalog):
            able = _implementations(name, catalog)
            for implementation in able[:1] if automatic else implementations or able:
                cells += _combination(
                    request,
                    round_,
                    sut,
                    name,
                    catalog.get("implementations", implementation),
                    catalog,
                    replace(lab, paths=sut.artifact_paths),
                )
    return [calibration_of(c) for c in cells if c["mode"] == "performance"] if calibrate else cells


def rules_of(cell: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Return the rules that a stored run's cell is assessed by, from the catalog as it is now."""
    benchmark = catalog.get("benchmarks", cell["catalog_benchmark"])
    round_ = catalog.get("rounds", cell["round"])
    known = [
        round_["benchmarks"][n] for n in benchmark["checker_names"] if n in round_["benchmarks"]
    ]
    return _judged_by(
        round_, benchmark, known[0] if known else {}, cell["model"]["reference"], cell["scenario"]
    )


def calibration_of(cell: Cell) -> Cell:
    """Return the cell that finds the target of a performance cell."""
    return dict(
        cell,
        id=f"{cell['id'].rpartition('/')[0]}/calibration",
        mode="calibration",
        target=None,
        submittable=False,
        expected_s=CALIBRATION_S[cell["duration"]],
        time_limit_s=max(cell["time_limit_s"], CALIBRATION_S[cell["duration"]] * 10),
    )


def _names(asked: Sequence[str], catalog: Catalog, kind: str) -> list[str]:
    """Return the names that were asked for, none for 'all'."""
    if tuple(asked) == ("all",):
        return []
    for name in asked:
        catalog.get(kind, name)
    return list(asked)


def _implementations(benchmark: str, catalog: Catalog) -> list[str]:
    """Return what `implementation=all` means: each one of the catalog that runs the benchmark, our
    own harness first, upstream's next."""
    every = sorted(catalog.names("implementations"), key=lambda n: (n != "onnx", n != "reference"))
    what = catalog.get("benchmarks", benchmark)
    able = [n for n in every if runs(catalog.get("implementations", n), what)]
    # Where none does, each refuses the cell and says what it runs: no cell is dropped.
    return able or every


def _check_words(request: Request) -> None:
    for name, asked, valid in (
        ("scenario", request.scenario, SCENARIOS),
        ("mode", request.mode, MODES),
    ):
        for word in asked:
            if word != "all" and word not in valid:
                raise BenchfleetError(
                    f"{name}={word} does not exist.{nearest(word, (*valid, 'all'))}"
                )


def _choose_suts(request: Request, hosts: Mapping[str, Mapping[str, Any]]) -> list[Sut]:
    suts: dict[str, Sut] = {}
    for host, variables in hosts.items():
        for sut in declared(host, variables):
            other = suts.setdefault(sut.name, sut)
            if other != sut:
                raise BenchfleetError(
                    f"the SUT name '{sut.name}' is declared twice, by {other.host} and {sut.host}."
                )
    for sut in suts.values():
        if sut.host not in hosts:
            raise BenchfleetError(
                f"SUT {sut.name}: its first member '{sut.host}' is not a host of this play."
                f"{nearest(sut.host, hosts)}"
            )
    if request.sut == ("all",):
        return list(suts.values())
    for name in request.sut:
        if name not in suts:
            raise BenchfleetError(
                f"sut={name} does not exist among the hosts of this play.{nearest(name, suts)}"
            )
    return [suts[name] for name in request.sut]


def not_in_catalog(round_: Mapping[str, Any], types: Iterable[str], catalog: Catalog) -> list[str]:
    """Return the benchmarks of the round for systems of these types that the catalog lacks."""
    wanted = {n for n, b in round_["benchmarks"].items() if set(types) & set(b["required"])}
    files = (catalog.get("benchmarks", name) for name in catalog.names("benchmarks"))
    return sorted(wanted - {name for benchmark in files for name in benchmark["checker_names"]})


def _required_benchmarks(round_: Mapping[str, Any], sut: Sut, catalog: Catalog) -> list[str]:
    """Return what `benchmark=all` means: each benchmark of the catalog that the round has for this
    system."""
    wanted = {
        n
        for n, b in round_["benchmarks"].items()
        if b["required"].get(sut.system_type) or not b["required"]
    }
    return [
        name
        for name in catalog.names("benchmarks")
        if wanted & set(catalog.get("benchmarks", name)["checker_names"])
    ]


def _combination(
    request: Request,
    round_: Mapping[str, Any],
    sut: Sut,
    name: str,
    implementation: Mapping[str, Any],
    catalog: Catalog,
    lab: Lab,
) -> Iterator[Cell]:
    benchmark = catalog.get("benchmarks", name)
    rules, refuse = _rules(request, round_, sut, benchmark)
    context = Context(request, round_, sut, benchmark, rules, implementation, catalog, lab)
    if context.device not in implementation["devices"]:
        raise BenchfleetError(
            f"device={context.device} is not one of {implementation['name']}'s."
            f"{nearest(context.device, implementation['devices'])}"
        )
    if len(sut.members) > 1:
        refuse = (
            f"SUT {sut.name} spans {len(sut.members)} hosts;"
            " runs over several hosts are not built yet"
        )
    refuse = _overridden(request, implementation) or refuse
    for context in _members(context):
        known, _why = context.recipe(benchmark["scenarios"][0], "performance")
        artifact = known.artifacts["model"] if known else (benchmark["model"] or {}).get("artifact")
        for model in models(request, benchmark, artifact, lab, catalog):
            for scenario in _scenarios(request, sut, benchmark, context.rules):
                for mode in _modes(request, context.rules):
                    cell = _cell(context, model, scenario, mode)
                    cell["refuse"] = refuse or cell["refuse"] or model.refuse
                    yield cell


def _members(context: Context) -> Iterator[Context]:
    """Yield the context of each member of a family that was asked for; rules are the default's."""
    family = variants(context.implementation, context.benchmark)
    asked = context.request.variant
    for name in (family if asked == ("all",) else asked) or [None]:
        usual = not name or name == next(iter(family), None)
        yield replace(context, variant=name, rules=context.rules if usual else {})


def _overridden(request: Request, implementation: Mapping[str, Any]) -> str | None:
    """Return why a cell on the lab's own source may not run."""
    own = [n for n in ("source_override", "loadgen_source") if getattr(request, n)]
    if own and request.division != "open":
        return f"{own[0]}: division {request.division} takes the round's own source only"
    if request.source_override and "section" not in implementation:
        return f"source_override: implementation {implementation['name']} is not built from a tree"
    return None


def _modes(request: Request, rules: Mapping[str, Any]) -> list[str]:
    """Return what `mode=all` means: outside the open division the round's compliance tests too."""
    if request.mode != ("all",):
        return list(request.mode)
    return [*MODES, *(rules.get("compliance", ()) if request.division != "open" else ())]


def _rules(
    request: Request, round_: Mapping[str, Any], sut: Sut, benchmark: Mapping[str, Any]
) -> tuple[Mapping[str, Any], str | None]:
    """Return the round's rules for a benchmark, and why a cell may not run in this division."""
    for name in benchmark["checker_names"]:
        rules = round_["benchmarks"].get(name)
        if rules:
            refuse = None
            if request.division != "open" and not rules["required"].get(sut.system_type):
                refuse = (
                    f"round {round_['name']} has no {name} for {sut.system_type} systems"
                    f" in division {request.division}"
                )
            return rules, refuse
    if request.division != "open" and benchmark["kind"] != "mlperf":
        return {}, (
            f"{benchmark['name']} is not an MLPerf benchmark:"
            f" division {request.division} cannot hold it"
        )
    if benchmark["kind"] == "mlperf":
        last = benchmark.get("last_round")
        if request.division == "open" and (last or "open_as" in benchmark):
            return {}, None
        gone = f"; the last round that had it is {last}" if last else ""
        return {}, f"round {round_['name']} does not have {benchmark['name']}{gone}"
    return {}, None


def _scenarios(
    request: Request, sut: Sut, benchmark: Mapping[str, Any], rules: Mapping[str, Any]
) -> list[str]:
    if request.scenario != ("all",):
        return list(request.scenario)
    if not rules:
        return list(benchmark["scenarios"])
    required = list(rules["required"].get(sut.system_type) or benchmark["scenarios"])
    either = rules.get("one_of", {}).get(sut.system_type) or []
    if either and not set(either) & set(required):
        required.append(either[0])
    return [s for s in SCENARIOS if s in required]


def _cell(context: Context, model: Model, scenario: str, mode: str) -> Cell:
    request, round_, benchmark = context.request, context.round, context.benchmark
    implementation = context.implementation
    member = [context.variant] if context.variant else []
    label = ".".join([benchmark["name"], *member, *([] if model.reference else [model.name])])
    how, unable = context.recipe(scenario, mode)
    resolved = _resolved(context, how) if how else None
    artifacts = _artifacts(context, how, resolved)
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
        "rules": _judged_by(
            round_, benchmark, context.rules, model.reference, scenario, how and how.scores
        ),
        "signature": (benchmark["model"] or {}).get("signature"),
        "metric": benchmark["metric"],
        "label_offset": benchmark.get("label_offset", 0),
        "resources": benchmark.get("resources"),
        "gates": gates(benchmark, own, context.lab),
        "skip": skip,
        "refuse": unable or refuse,
    }


def _resolved(context: Context, how: Recipe) -> dict[str, Any]:
    """Return the recipe as the cell carries it: the source at a commit, the number of samples."""
    plain = how.as_dict()
    if plain["source"]:
        commit = plain["source"]["commit"] or context.round["inference_commit"]
        plain["source"]["commit"] = commit
    dataset = context.benchmark["dataset"]
    plain["values"] = dict(
        plain["values"], samples=context.request.samples or (dataset or {}).get("samples") or 0
    )
    return plain


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
    if reads_arrays and (dataset is None or dataset["origin"] == "store"):
        return (
            f"{benchmark['name']} needs the lab's own copy of {benchmark['dataset']['name']}:"
            " -e dataset_path=<folder of .npy files, or .npz, on the SUT>"
        )
    return next((n["refuse"] for n in artifacts.values() if n and n.get("refuse")), None)


def _judged_by(
    round_: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    rules: Mapping[str, Any],
    reference: bool,
    scenario: str,
    scores: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return what a run is assessed by; `scores` are those of a member of a family. A model of the user's own has no accuracy target to
    reach."""
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
        "loadgen_version": round_["loadgen"]["version"],
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
