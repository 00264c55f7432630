# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill the controller's store with all that a request needs, for hosts and controllers without
internet, and tell of each thing what became of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..module_utils.artifacts.base import Access, Say, size
from ..module_utils.artifacts.store import Store
from . import os_packages, supply, wheelhouse
from .catalog import Catalog
from .delivery import Goods
from .errors import BenchfleetError
from .needs import Lab, refusal
from .table import count, render
from .wheelhouse import Target

HAD, FETCHED, TO_FETCH, REFUSED, FAILED = "had it", "fetched", "to fetch", "refused", "failed"
_WIDEST = 60  # characters of an address in the table


@dataclass(frozen=True)
class Row:
    """One thing: `bytes` None where they are not known, `source` where it came from, `why` it is
    refused or has failed."""

    name: str
    type: str
    state: str
    bytes: int | None = None
    source: str = ""
    why: str = ""

    def as_dict(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Filler:
    """Brings things into a store; with `check` it only looks."""

    store: Store
    catalog: Catalog
    lab: Lab
    access: Access
    say: Say = field(repr=False)
    check: bool = False

    def artifacts(
        self, cells: Iterable[Mapping[str, Any]], paths: Mapping[str, str]
    ) -> Iterator[Row]:
        """Bring each artifact that the cells need; `paths` are the lab's own copies that lie on
        this controller, by digest."""
        seen = set()
        for cell in cells:
            benchmark = self.catalog.get("benchmarks", cell["catalog_benchmark"])
            for what in (cell["model"], cell["dataset"], *cell["needs"].values()):
                if what and what["origin"] != "none" and (what["name"], what["where"]) not in seen:
                    seen.add((what["name"], what["where"]))
                    yield self._artifact(what, benchmark, paths)

    def wheels(self, env: Mapping[str, Any], target: Target) -> Row:
        """Bring the wheels of an environment."""
        name = f"{env['name']} for {target}"
        why = target.why_not(env)
        if why:
            return Row(name, "wheels", REFUSED, why=why)
        digest = wheelhouse.find(self.store, env, target)
        if digest:
            return self._row(name, "wheels", HAD, digest)
        if self.check:
            return Row(name, "wheels", TO_FETCH)
        try:
            digest, new = wheelhouse.have(self.store, env, target, self.access, self.say)
        except BenchfleetError as e:
            return Row(name, "wheels", FAILED, why=str(e))
        return self._row(name, "wheels", FETCHED if new else HAD, digest)

    def packages(self, answers: Mapping[str, Mapping[str, Any]]) -> Iterator[Row]:
        """Tell of each host without internet (its answer by name) whose missing packages nobody has
        collected."""
        for host, answer in answers.items():
            missing = answer.get("missing_packages")
            if not missing or answer["internet"]:
                continue
            digest = os_packages.find(self.store, answer["system"], missing)
            if digest is None:
                system = os_packages.label(answer["system"])
                why = (
                    f"{host} lacks {' '.join(missing)}; name a connected host with {system}:"
                    " -e mirror_packages_from=<inventory host>"
                )
                yield Row(f"{os_packages.TAG} {system}", "packages", REFUSED, why=why)

    def collected(self, answer: Mapping[str, Any]) -> Iterator[Row]:
        """Tell what package_archive has done (its result)."""
        if answer.get("failed") or answer.get("unreachable"):
            yield Row(os_packages.TAG, "packages", FAILED, why=str(answer.get("msg")))
        elif answer.get("digest"):
            name = f"{os_packages.TAG} {os_packages.label(answer['system'])}"
            yield self._row(
                name, "packages", FETCHED if answer["changed"] else HAD, answer["digest"]
            )
        elif answer.get("changed"):
            yield Row(
                f"{os_packages.TAG} {os_packages.label(answer['system'])}", "packages", TO_FETCH
            )

    def _artifact(
        self, what: Mapping[str, Any], benchmark: Mapping[str, Any], paths: Mapping[str, str]
    ) -> Row:
        name, where = str(what["name"]), str(what["where"])
        spec = what.get("artifact")
        if what["origin"] == "catalog":
            return Row(name, "file", HAD, Path(where).stat().st_size, "the catalog")
        if not spec:
            if where in paths:
                return self._row(name, "own copy", HAD, paths[where])
            return Row(name, "own copy", REFUSED, None, where, "it is to lie there on the SUT")
        digest = supply.held(what, self.store)
        if digest:
            return self._row(name, spec["type"], HAD, digest)
        own = benchmark["artifacts"].get(name)
        why = refusal(name, own, self.lab) if own else None
        if why:
            return Row(name, spec["type"], REFUSED, spec.get("bytes"), _source(spec), why)
        if self.check:
            return Row(name, spec["type"], TO_FETCH, spec.get("bytes"), _source(spec))
        try:
            digest = supply.bring(what, Goods(self.store), self.catalog, self.access, self.say)
        except BenchfleetError as e:
            return Row(name, spec["type"], FAILED, spec.get("bytes"), _source(spec), str(e))
        return self._row(name, spec["type"], FETCHED, digest)

    def _row(self, name: str, kind: str, state: str, digest: str) -> Row:
        record = self.store.record(digest) or {}
        source = record.get("in_place") or _source({"origins": [record.get("origin") or {}]})
        return Row(name, kind, state, record.get("bytes"), source)


def unknown(host: str, answer: Mapping[str, Any] | None, targets: Sequence[Target]) -> list[Row]:
    """Return rows for what a host's answer leaves open: environments that cannot be built there, or
    no answer at all, unless `targets` were named for such hosts."""
    if answer and "targets" in answer:
        faults = answer["faults"].items()
        return [Row(f"{env} for {host}", "wheels", REFUSED, why=why) for env, why in faults]
    if targets:
        return []
    reason = (answer or {}).get("fault") or (answer or {}).get("away") or "it did not answer"
    why = f"{reason.rstrip('.')}. Name its Python and machine: -e mirror_targets=cp311-x86_64"
    return [Row(f"wheels for {host}", "wheels", REFUSED, why=why)]


def table(rows: Sequence[Row], root: Path) -> list[str]:
    """Return the closing table, and the reasons for what is not there."""
    header = ("what", "type", "size", "from", "state")
    body = [
        (r.name, r.type, "" if r.bytes is None else size(r.bytes), r.source[:_WIDEST], r.state)
        for r in rows
    ]
    reasons = {f"{r.state.upper()}: {r.name}\n  {r.why}": None for r in rows if r.why}
    told = [line for text in reasons for line in ["", *text.splitlines()]]
    there = [r for r in rows if r.state in (HAD, FETCHED)]
    total = size(sum(r.bytes or 0 for r in there))
    end = f"{count(len(there), 'thing')} of {len(rows)} in {root}, {total}."
    return ["", *render(header, body, frozenset({2})), *told, "", end]


def _source(about: Mapping[str, Any]) -> str:
    """Return where the first origin of something is, as far as it has one."""
    origin: Mapping[str, Any] = next(iter(about["origins"]), {})
    kinds = ("url", "mlcommons", "hf", "git", "path", "mirror", "host")
    return next((str(origin[k]) for k in kinds if k in origin), "")
