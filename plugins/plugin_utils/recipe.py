# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How an implementation runs a benchmark: command, environments, artifacts and source code.

The `onnx` harness takes every model the same way, so its file says all of that. The harnesses of
mlcommons/inference differ from one benchmark to the next, so what the `reference` implementation
does stands in each benchmark's file, in the section that carries its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .catalog import Catalog
from .errors import BenchfleetError, nearest

REFERENCE_LOCKS = "harness_reference"
TUNABLE = ("threads", "instances", "batch_size", "affinity")


@dataclass(frozen=True)
class Recipe:
    """What is started for one cell; words hold placeholders that the start of the job fills in.

    `modes` are words behind the command in one mode. `environments` and `artifacts` go from
    placeholder to lock (`<role>/<file>`) and to the name of the artifact. `source` is the tree of
    the harness (None: it is the role's own files), `wheels` the machine types with wheels (empty:
    as the locks say), `driver` the probe's fact that the device needs and `driver_minimum` its
    oldest version, `scores` and `resources` a variant's own accuracy and what it needs of a host
    (None: the benchmark's).
    """

    backend: str | None
    variant: str | None
    command: tuple[str, ...]
    variables: Mapping[str, str]
    environments: Mapping[str, str]
    artifacts: Mapping[str, str | None]
    modes: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    accuracy: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None
    loadgen_model: str | None = None
    scenarios: tuple[str, ...] = ()
    scores: tuple[Mapping[str, Any], ...] | None = None
    resources: Mapping[str, Any] | None = None
    driver: str | None = None
    driver_minimum: str | None = None
    wheels: tuple[str, ...] = ()
    why_not: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what a cell carries of it: all that is not said elsewhere in the cell."""
        plain = asdict(self)
        for name in ("scenarios", "scores", "resources", "loadgen_model", "why_not"):
            del plain[name]
        return plain


def runs(implementation: Mapping[str, Any], benchmark: Mapping[str, Any]) -> bool:
    """Return whether an implementation runs a benchmark at all."""
    if "section" in implementation:
        return implementation["section"] in benchmark
    return benchmark["name"] in implementation["benchmarks"]


def recipe(
    implementation: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    device: str,
    scenario: str,
    mode: str,
    asked: Mapping[str, Any],
    catalog: Catalog,
) -> Recipe:
    """Return how `implementation` runs `benchmark`.

    `asked` are the request's options by name (backend, threads …), None or '' where it has none.
    Raises BenchfleetError for a backend or an option that it does not have.
    """
    if "section" in implementation:
        return _from_benchmark(implementation, benchmark, device, scenario, mode, asked, catalog)
    for option in ("backend", "variant"):
        if asked.get(option):
            name = implementation["name"]
            raise BenchfleetError(f"implementation {name} has no option {option}.")
    setup = implementation["devices"][device]
    return Recipe(
        backend=None,
        variant=None,
        command=tuple(implementation["command"]),
        variables={k: v for k, v in implementation["environment"].items() if v is not None},
        environments={"python": setup["requirements"]},
        artifacts={part: (benchmark[part] or {}).get("artifact") for part in ("model", "dataset")},
        driver=setup.get("driver"),
        driver_minimum=setup.get("driver_minimum"),
        wheels=tuple(setup.get("wheels", ())),
    )


def _from_benchmark(
    implementation: Mapping[str, Any],
    benchmark: Mapping[str, Any],
    device: str,
    scenario: str,
    mode: str,
    asked: Mapping[str, Any],
    catalog: Catalog,
) -> Recipe:
    section = benchmark[implementation["section"]]
    variant = _variant(section, asked.get("variant"), benchmark["name"])
    name, backend = _backend(section, variant, asked.get("backend"), device, benchmark["name"])
    setup = backend["devices"][device]
    own = section.get("scenarios", {}).get(scenario, {})
    layers = [section, backend, variant or {}, setup, own]
    known = implementation["devices"].get(device, {})
    given = [{"variables": implementation["environment"]}, *layers]
    variables = _merged(given, "variables")
    arguments = (word for layer in layers[1:] for word in layer.get("arguments", ()))
    command = (*section["command"], *arguments)
    if asked.get("samples") and not any("{samples}" in w for w in (*command, *variables.values())):
        raise BenchfleetError(
            f"the reference harness of {benchmark['name']} counts the dataset itself: it has no"
            " option samples."
        )
    return Recipe(
        backend=name,
        variant=(variant or {}).get("name"),
        command=command,
        modes=section["modes"],
        variables=variables,
        values=_tuned(_merged(layers, "values"), asked, benchmark["name"]),
        environments=_environments(setup, section["accuracy"]),
        artifacts=_artifacts(section, backend, variant or {}, benchmark),
        links=_links(section),
        accuracy=_evaluation(section["accuracy"], scenario),
        source=source_tree(section, catalog),
        loadgen_model=section.get("loadgen_model"),
        scenarios=tuple(backend.get("scenarios", ())),
        scores=tuple(variant["accuracy"]) if variant else None,
        resources=(variant or {}).get("resources"),
        driver=known.get("driver"),
        driver_minimum=known.get("driver_minimum"),
        why_not=_why_not(setup, section["accuracy"], mode),
    )


def variants(implementation: Mapping[str, Any], benchmark: Mapping[str, Any]) -> list[str]:
    """Return the members of a benchmark's family that an implementation knows, the default first;
    none where there is no family."""
    section = benchmark.get(implementation.get("section", ""), {})
    return list(section.get("variants", {}))


def _variant(
    section: Mapping[str, Any], asked: str | None, benchmark: str
) -> dict[str, Any] | None:
    """Return the member of the family that was asked for, else the first; None without a family."""
    family = section.get("variants", {})
    if asked and asked not in family:
        raise BenchfleetError(
            f"variant={asked} is not one of {benchmark}'s.{nearest(asked, family)}"
        )
    name = asked or next(iter(family), None)
    return dict(family[name], name=name) if name else None


def _why_not(
    setup: Mapping[str, Any], evaluation: Mapping[str, Any] | None, mode: str
) -> str | None:
    """Return why this version does not run it, or does not compute its accuracy."""
    if setup["environment"] is None:
        return str(setup["why_not"])
    if mode == "accuracy" and evaluation and "why_not" in evaluation:
        return str(evaluation["why_not"])
    return None


def _environments(setup: Mapping[str, Any], evaluation: Mapping[str, Any] | None) -> dict[str, str]:
    """Return placeholder -> lock; a bare name is one of upstream's, others say their role."""
    locks = {
        "python": setup["environment"],
        "accuracy_python": (evaluation or {}).get("environment"),
    }
    return {
        word: f"{lock if '/' in lock else f'{REFERENCE_LOCKS}/{lock}'}.txt"
        for word, lock in locks.items()
        if lock
    }


def _artifacts(
    section: Mapping[str, Any],
    backend: Mapping[str, Any],
    variant: Mapping[str, Any],
    benchmark: Mapping[str, Any],
) -> dict[str, str | None]:
    usual = backend.get("dataset") or (benchmark["dataset"] or {}).get("artifact")
    return {
        "model": backend["model"] or variant.get("model"),
        "dataset": variant.get("dataset", usual),
        **section.get("uses", {}),
    }


def _links(section: Mapping[str, Any]) -> dict[str, str]:
    """Return what the harness looks for in its working directory: name there -> path."""
    own = {path.rpartition("/")[2]: f"{{folder}}/{path}" for path in section.get("links", ())}
    return own | dict(section.get("aliases", {}))


def _backend(
    section: Mapping[str, Any],
    variant: Mapping[str, Any] | None,
    asked: str | None,
    device: str,
    benchmark: str,
) -> tuple[str, Mapping[str, Any]]:
    """Return the backend that was asked for, else the first one for this device and variant."""
    backends = section["backends"]
    if asked and asked not in backends:
        raise BenchfleetError(
            f"backend={asked} is not one of {benchmark}'s.{nearest(asked, backends)}"
        )
    if variant and not variant["backends"]:
        raise BenchfleetError(f"{benchmark} {variant['name']}: {variant['why_not']}.")
    of_variant = variant["backends"] if variant else list(backends)
    able = [n for n in of_variant if device in backends[n]["devices"]]
    name = asked or (able[0] if able else "")
    if name not in able:
        what = f"{benchmark} {variant['name']}" if variant else benchmark
        raise BenchfleetError(
            f"{what}: backend {name or 'of any kind'} does not run on device={device}."
            f" Backends for it: {', '.join(able) or 'none'}."
        )
    return name, backends[name]


def _merged(layers: Iterable[Mapping[str, Any]], key: str) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for layer in layers:
        merged.update(layer.get(key, {}))
    return {name: value for name, value in merged.items() if value is not None}


def _tuned(values: dict[str, Any], asked: Mapping[str, Any], benchmark: str) -> dict[str, Any]:
    """Put the request's options over the defaults of the same names."""
    given = {n: asked[n] for n in TUNABLE if asked.get(n) is not None}
    for name in given:
        if name not in values:
            raise BenchfleetError(
                f"the reference harness of {benchmark} has no option {name}."
                f"{nearest(name, [v for v in values if v in TUNABLE])}"
            )
    return values | given


def _evaluation(section: Mapping[str, Any] | None, scenario: str) -> dict[str, Any] | None:
    if section is None:
        return None
    own = section.get("scenarios", {}).get(scenario, {})
    return {
        "command": [*section["command"], *own.get("arguments", ())],
        "variables": section.get("variables", {}),
        "values": own.get("values", {}),
        "links": section.get("links", {}),
    }


def patch(file: str, catalog: Catalog) -> str:
    """Return the sha256 of a patch of the catalog. Raises BenchfleetError when there is none."""
    return hashlib.sha256(catalog.data(f"patches/{file}").read_bytes()).hexdigest()


def source_tree(section: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Return the source tree: repository, commit (None: the round's), folder, paths …, patches."""
    patches = [dict(p, sha256=patch(p["file"], catalog)) for p in section.get("patches", ())]
    return {
        "repository": section.get("repository"),
        "commit": section.get("commit"),
        "folder": section["folder"],
        "paths": list(section.get("paths", [section["folder"]])),
        "submodules": list(section.get("submodules", ())),
        "patches": patches,
    }
