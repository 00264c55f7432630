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
from dataclasses import replace
from typing import Any

from .catalog import Catalog
from .cell import Cell, Context, able_to_run, judged_by, make
from .errors import BenchfleetError, nearest
from .models import models
from .needs import Lab
from .recipe import variants
from .request import MODES, SCENARIOS, Request
from .suts import Sut, declared

NOTHING_GIVEN = Lab({})
CALIBRATION_S = {"test": 6.0, "official": 220.0}


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
    named = ("all",) if automatic else request.implementation
    implementations = _names(named, catalog, "implementations")
    benchmarks = _names(request.benchmark, catalog, "benchmarks")
    _check_words(request)
    cells: list[Cell] = []
    for sut in chosen:
        for name in benchmarks or _required_benchmarks(round_, sut, catalog):
            able = able_to_run(catalog.get("benchmarks", name), catalog)
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
    family = benchmark.get("reference", {}).get("variants", {})
    variant = cell.get("variant")
    usual = not variant or variant == next(iter(family), None)
    return judged_by(
        round_,
        benchmark,
        known[0] if known and usual else {},
        cell["scenario"],
        reference=cell["model"]["reference"],
        scores=family[variant]["accuracy"] if variant else None,
        own_loadgen=bool(cell.get("loadgen_source")),
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
    for member in _members(context):
        known, _why = member.recipe(benchmark["scenarios"][0], "performance")
        usual = (benchmark["model"] or {}).get("artifact")
        artifact = known.artifacts["model"] if known else usual
        for model in models(request, benchmark, artifact, lab, catalog):
            for scenario in _scenarios(request, sut, benchmark, member.rules):
                for mode in _modes(request, member.rules):
                    cell = make(member, model, scenario, mode)
                    cell["refuse"] = refuse or cell["refuse"] or model.refuse
                    yield cell


def _members(context: Context) -> Iterator[Context]:
    """Yield the context of each member of a family that was asked for; rules are the default's."""
    family = variants(context.implementation, context.benchmark)
    asked = context.request.variant
    members: Sequence[str | None] = family if asked == ("all",) else asked
    for name in members or [None]:
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
