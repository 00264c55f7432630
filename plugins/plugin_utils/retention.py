# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which runs may go: by count, by age, and never what a result stands on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from .errors import BenchfleetError
from .evidence import MANIFEST, parse_manifest, verify
from .results import Results

_AGE = re.compile(r"(\d+)\s*([hdw])")
_UNITS = {"h": "hours", "d": "days", "w": "weeks"}
_STARTED = re.compile(r"\d{8}T\d{6}Z")

Rules = Callable[[Mapping[str, Any]], Mapping[str, Any]]


@dataclass(frozen=True)
class Rule:
    """What stays: the newest `keep` runs of a cell beside its newest valid one, and what is younger
    than `older_than`. None: that half of the rule spares nothing."""

    keep: int | None
    older_than: timedelta | None


@dataclass(frozen=True)
class Stored:
    """A run on this controller: its directory, and whether it is valid (None: it cannot be
    judged)."""

    path: Path
    valid: bool | None

    @property
    def started(self) -> datetime | None:
        """When the run began, as its name says."""
        found = _STARTED.match(self.path.name)
        if not found:
            return None
        return datetime.strptime(found.group(), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def rule(keep: str, older_than: str) -> Rule:
    """Read what a person typed, empty for nothing. Raises BenchfleetError."""
    if not keep and not older_than:
        raise BenchfleetError(
            "say what may go: -e keep=3 (the newest of each cell stay), -e older_than=30d, or both."
        )
    if keep and not keep.isdigit():
        raise BenchfleetError(f"keep={keep} is not a whole number.")
    age = _AGE.fullmatch(older_than.strip())
    if older_than and not age:
        raise BenchfleetError(f"older_than={older_than} is not an age such as 12h, 30d or 8w.")
    return Rule(
        int(keep) if keep else None,
        timedelta(**{_UNITS[age.group(2)]: int(age.group(1))}) if age else None,
    )


def removable(
    runs: Iterable[Stored], what: Rule, now: datetime, named: Callable[[str], bool]
) -> list[Stored]:
    """Return the runs that may go, oldest first in each cell.

    A cell's newest valid run stays, and so does one that `named` (of its name) says is referred to
    or that cannot be judged or dated.
    """
    cells: dict[Path, list[Stored]] = {}
    for run in runs:
        cells.setdefault(run.path.parent, []).append(run)
    return [run for own in cells.values() for run in _of_cell(own, what, now, named)]


def _of_cell(
    runs: Sequence[Stored], what: Rule, now: datetime, named: Callable[[str], bool]
) -> list[Stored]:
    ordered = sorted(runs, key=lambda run: run.path.name, reverse=True)
    best = next((run for run in ordered if run.valid), None)
    others = [run for run in ordered if run is not best]
    candidates = others[what.keep :] if what.keep is not None else others
    may_go = []
    for run in reversed(candidates):
        began = run.started
        if began is None or run.valid is None or named(run.path.name):
            continue
        if what.older_than is None or now - began > what.older_than:
            may_go.append(run)
    return may_go


def stored(results: Results, rules_of: Rules, host: str | None) -> list[Stored]:
    """Return the runs of a results folder, or those of one host, with what is thought of each now.

    All runs of a cell are of one host.
    """
    found = []
    for path in results.stored():
        try:
            cell = results.record(path)["cell"]
            if host in (None, cell["host"]):
                valid = results.verdict(path, rules_of(cell))["outcome"] == "valid"
                found.append(Stored(path, valid))
        except (BenchfleetError, KeyError):
            found.append(Stored(path, None))
    return found


def damage(run: Path) -> str | None:
    """Say why a stored run is no longer what its manifest says, None when every file is right."""
    try:
        manifest = parse_manifest((run / MANIFEST).read_bytes())
        problems = verify(run, manifest)
    except (BenchfleetError, OSError) as e:
        return f"this controller's copy is damaged: {e}"
    return f"this controller's copy is damaged: {problems[0]}" if problems else None


def references(root: Path) -> Callable[[str], bool]:
    """Return whether a run's name stands in an outcome file or a submission's manifest."""
    files = [*root.glob("outcomes/*.json"), *root.glob("submissions/*/*manifest*")]
    text = "\n".join(f.read_text(encoding="utf-8", errors="replace") for f in files if f.is_file())
    return lambda name: name in text
