# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One artifact asked for by itself, in the words that cells say their needs in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from . import needs, payload, supply
from .catalog import Catalog
from .derived import environments, with_sources
from .digest import canonical
from .errors import BenchfleetError, nearest
from .recipe import patch, source_tree

WORD = "artifact"  # under which the one that was asked for stands among its sources


@dataclass(frozen=True)
class Single:
    """An artifact with what it is made of: needs by word, environments of programs by word, and
    the folder of the harness in its source tree. `commit` is that of a source tree."""

    needs: dict[str, dict[str, Any]]
    envs: dict[str, dict[str, Any]] = field(default_factory=dict)
    folder: str = ""
    commit: str | None = None


def single(given: Mapping[str, Any], catalog: Catalog, lab: needs.Lab) -> Single:
    """Return what the options of module artifact ask for.

    Raises BenchfleetError for a name that the catalog does not have, or for what cannot be had.
    """
    found = _of_benchmark(given, catalog, lab) if given["benchmark"] else _own(given, catalog)
    for what in found.needs.values():
        if what["origin"] == "catalog":
            what["sha256"] = supply.catalog_file(what)
    refuse = found.needs[WORD].get("refuse")
    if refuse:
        raise BenchfleetError(refuse)
    return found


def usual(benchmark: Mapping[str, Any], part: str, backend: str) -> str:
    """Return the name of a benchmark's model or dataset, that of a backend of upstream's harness
    if one is named. Raises BenchfleetError when there is none."""
    name = (benchmark[part] or {}).get("artifact")
    if backend:
        backends = benchmark.get("reference", {}).get("backends", {})
        if backend not in backends:
            raise BenchfleetError(
                f"backend={backend} is not one of {benchmark['name']}'s."
                f"{nearest(backend, backends)}"
            )
        name = backends[backend].get(part) or (None if part == "model" else name)
    if not name:
        of = f"{benchmark['name']}{f' on {backend}' if backend else ''}"
        raise BenchfleetError(f"{of} has no {part} of one name: name the artifact.")
    return str(name)


def _of_benchmark(given: Mapping[str, Any], catalog: Catalog, lab: needs.Lab) -> Single:
    benchmark = catalog.get("benchmarks", given["benchmark"])
    name = given["name"] or usual(benchmark, given["type"], given["backend"])
    if name not in benchmark["artifacts"]:
        hint = nearest(name, benchmark["artifacts"])
        raise BenchfleetError(f"{benchmark['name']} has no artifact {name}.{hint}")
    what = needs.need(benchmark, name, "", lab, catalog)
    whole = with_sources({WORD: what}, benchmark, lab, catalog)
    found = {word: one for word, one in whole.items() if one}
    if found[WORD]["origin"] != "derived" or found[WORD].get("refuse"):
        return Single(found)
    source = source_tree(benchmark["reference"], catalog)
    source["commit"] = source["commit"] or _commit(given["round"], catalog)
    found["tree"] = needs.source({"source": source}, "", lab)
    envs = {word: payload.environment([lock]) for word, lock in environments(found).items()}
    return Single(found, envs, source["folder"])


def _own(given: Mapping[str, Any], catalog: Catalog) -> Single:
    """Return an artifact by its own origins."""
    sha256, layout = given["sha256"] or None, given["layout"]
    if not given["origins"]:
        raise BenchfleetError(f"nothing says where {given['name']} comes from: give origins.")
    what = {"name": given["name"], "sha256": sha256, "layout": layout}
    path = next((o["path"] for o in given["origins"] if "path" in o), None)
    if path:
        return Single({WORD: what | {"origin": "path", "where": path}})
    commit = None
    origins = [dict(o) for o in given["origins"]]
    for origin in origins:
        if "git" in origin:
            commit = origin["commit"] = origin.get("commit") or _commit(given["round"], catalog)
    patches = [[file, patch(file, catalog)] for file in given["patches"]]
    names = ("name", "type", "bytes", "tags")
    spec = {**{n: given[n] for n in names}, "origins": origins, "sha256": sha256}
    where = canonical([origins, patches])
    what |= {"origin": "store", "where": where, "artifact": spec, "patches": given["patches"]}
    return Single({WORD: what}, commit=commit)


def _commit(round_: str, catalog: Catalog) -> str:
    if not round_:
        raise BenchfleetError("a git origin needs a commit, or the round that names one.")
    commit: str = catalog.get("rounds", round_)["inference_commit"]
    return commit
