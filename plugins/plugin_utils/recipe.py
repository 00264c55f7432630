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
_TUNABLE = ("threads", "instances", "batch_size", "affinity")


@dataclass(frozen=True)
class Recipe:
    """What is started for one cell; words hold placeholders that the start of the job fills in.

    `environments` and `artifacts` go from placeholder to lock (`<role>/<file>`) and to the name of
    the artifact. `source` is the tree of the harness (None: it is the role's own files), `wheels`
    the machine types with wheels for everything, `driver` the probe's fact that the device needs.
    """

    backend: str | None
    command: tuple[str, ...]
    variables: Mapping[str, str]
    environments: Mapping[str, str]
    artifacts: Mapping[str, str | None]
    values: Mapping[str, Any] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    accuracy: Mapping[str, Any] | None = None
    source: Mapping[str, Any] | None = None
    loadgen_model: str | None = None
    scenarios: tuple[str, ...] = ()
    driver: str | None = None
    wheels: tuple[str, ...] = ()
    why_not: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return what a cell carries of it: all that is not said elsewhere in the cell."""
        plain = asdict(self)
        for name in ("scenarios", "loadgen_model", "why_not"):
            del plain[name]
        return plain


def runs(implementation: Mapping[str, Any], benchmark: Mapping[str, Any]) -> bool:
    """Return whether an implementation runs a benchmark at all."""
    if "section" in implementation:
        return implementation["section"] in benchmark
    return benchmark["name"] in implementation["benchmarks"]


def devices(implementation: Mapping[str, Any], benchmark: Mapping[str, Any]) -> list[str]:
    """Return the devices that an implementation can use for a benchmark."""
    if "section" not in implementation:
        return list(implementation["devices"])
    section = benchmark.get(implementation["section"], {})
    return sorted({d for b in section.get("backends", {}).values() for d in b["devices"]})


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
        return _from_benchmark(
            implementation, benchmark, device, scenario, mode, asked, catalog
        )
    if asked.get("backend"):
        raise BenchfleetError(f"implementation {implementation['name']} has no option backend.")
    setup = implementation["devices"][device]
    return Recipe(
        backend=None,
        command=tuple(implementation["command"]),
        variables={k: v for k, v in implementation["environment"].items() if v is not None},
        environments={"python": setup["requirements"]},
        artifacts={
            part: (benchmark[part] or {}).get("artifact") for part in ("model", "dataset")
        },
        driver=setup.get("driver"),
        wheels=tuple(setup["wheels"]),
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
    name, backend = _backend(section, asked.get("backend"), device, benchmark["name"])
    setup = backend["devices"][device]
    layers = [section, backend, setup, section.get("scenarios", {}).get(scenario, {})]
    evaluation = section["accuracy"]
    environments = {"python": setup["environment"]}
    if evaluation and evaluation.get("environment"):
        environments["accuracy_python"] = evaluation["environment"]
    known = implementation["devices"].get(device, {})
    return Recipe(
        backend=name,
        command=(
            *section["command"],
            *(word for layer in layers[1:] for word in layer.get("arguments", ())),
            *section["modes"]["accuracy" if mode == "accuracy" else "performance"],
        ),
        variables=_merged(
            [{"variables": implementation["environment"]}, *layers], "variables"
        ),
        values=_tuned(_merged(layers, "values"), asked, benchmark["name"]),
        environments={
            word: f"{REFERENCE_LOCKS}/{lock}.txt" for word, lock in environments.items() if lock
        },
        artifacts={
            "model": backend["model"],
            "dataset": backend.get("dataset") or (benchmark["dataset"] or {}).get("artifact"),
            **section.get("uses", {}),
        },
        links={name: f"{{folder}}/{name}" for name in section.get("links", ())},
        accuracy=_evaluation(evaluation, scenario),
        source=_source(section, catalog),
        loadgen_model=section.get("loadgen_model"),
        scenarios=tuple(backend.get("scenarios", ())),
        driver=known.get("driver"),
        wheels=tuple(known.get("wheels", ())),
        why_not=setup.get("why_not") if setup["environment"] is None else None,
    )


def _backend(
    section: Mapping[str, Any], asked: str | None, device: str, benchmark: str
) -> tuple[str, Mapping[str, Any]]:
    """Return the backend that was asked for, else the first one for this device."""
    backends = section["backends"]
    if asked and asked not in backends:
        raise BenchfleetError(
            f"backend={asked} is not one of {benchmark}'s.{nearest(asked, backends)}"
        )
    able = [n for n, b in backends.items() if device in b["devices"]]
    name = asked or (able[0] if able else "")
    if name not in able:
        raise BenchfleetError(
            f"{benchmark}: backend {name or 'of any kind'} does not run on device={device}."
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
    given = {n: asked[n] for n in _TUNABLE if asked.get(n) is not None}
    for name in given:
        if name not in values:
            raise BenchfleetError(
                f"the reference harness of {benchmark} has no option {name}."
                f"{nearest(name, [v for v in values if v in _TUNABLE])}"
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
    }


def _source(section: Mapping[str, Any], catalog: Catalog) -> dict[str, Any]:
    """Return the source tree: repository, commit (None: the round's), folder, paths …, patches."""
    patches = [
        {
            "file": p["file"],
            "because": p["because"],
            "sha256": hashlib.sha256(catalog.data(f"patches/{p['file']}").read_bytes()).hexdigest(),
        }
        for p in section.get("patches", ())
    ]
    return {
        "repository": section.get("repository"),
        "commit": section.get("commit"),
        "folder": section["folder"],
        "paths": list(section.get("paths", [section["folder"]])),
        "submodules": list(section.get("submodules", ())),
        "patches": patches,
    }
