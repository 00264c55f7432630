# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The results folder: run directories are the truth, `index.sqlite` is a cache of what they say."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from .assess import assess
from .digest import canonical
from .errors import BenchfleetError

_JUDGES = ("assess.py", "loadgen_log.py", "published_figure.py", "accuracy.py")
_COLUMNS = (
    *("path", "sut", "benchmark", "model", "implementation", "scenario", "mode", "round"),
    *("division", "duration", "digest", "started", "outcome", "metric", "value", "unit"),
    *("accuracy", "submittable", "judged_with", "verdict"),
)
# What says nothing about the index itself: somebody writes it, or the disk does not take it.
_NOT_DAMAGED = (
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN),
)
_SCHEMA = (
    f"CREATE TABLE IF NOT EXISTS runs ({', '.join(_COLUMNS)}, PRIMARY KEY (path)) WITHOUT ROWID"
)


class Results:
    """The folder `benchfleet_results` on the controller."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root).expanduser().absolute()
        self.index = self.root / "index.sqlite"

    def check_writable(self) -> None:
        """Raise BenchfleetError unless results can be written here; creates nothing."""
        folder = self.root
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise BenchfleetError(f"{self.root} cannot be written (benchfleet_results).")

    def folder(self, cell: Mapping[str, Any], mode: str | None = None) -> Path:
        """Return the folder that holds a cell's runs (absolute)."""
        parts = (
            cell["sut"],
            cell["benchmark"],
            cell["implementation"],
            cell["scenario"],
            mode or cell["mode"],
        )
        return self.root.joinpath("runs", *parts)

    def find(self, cell: Mapping[str, Any], digest: str, mode: str | None = None) -> list[Path]:
        """Return the stored runs of a cell with this run digest, oldest first."""
        try:
            runs = list(self.folder(cell, mode).iterdir())
        except FileNotFoundError:
            return []
        return sorted(run for run in runs if run.name.endswith(f"-{digest[:8]}"))

    def verdict(self, run: Path, rules: Mapping[str, Any]) -> dict[str, Any]:
        """Return the assessment of a stored run under `rules`, from the index where it holds it."""
        return self.cached(run, rules) or assess(run, dict(rules)).to_json()

    def cached(self, run: Path, rules: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the indexed verdict on a run, None when there is none for these rules."""
        if not self.index.exists():
            return None
        try:
            with closing(
                sqlite3.connect(f"{self.index.as_uri()}?mode=ro", uri=True, timeout=10)
            ) as db:
                row = db.execute(
                    "SELECT judged_with, verdict FROM runs WHERE path = ?", (self._key(run),)
                ).fetchone()
        except sqlite3.DatabaseError:
            return None
        if row is None or row[0] != _judged_with(rules):
            return None
        verdict: dict[str, Any] = json.loads(row[1])
        return verdict

    def add(self, entries: list[tuple[Path, Mapping[str, Any], dict[str, Any]]]) -> None:
        """Index runs given as (run, rules, verdict). A damaged index is set aside and begun
        anew.

        Raises BenchfleetError when the disk does not take it, or somebody holds it for a minute.
        """
        if not entries:
            return
        rows = [self._row(*entry) for entry in entries]
        self.root.mkdir(parents=True, exist_ok=True)
        try:
            self._insert(rows)
        except sqlite3.DatabaseError as e:
            if getattr(e, "sqlite_errorcode", 0) & 0xFF in _NOT_DAMAGED:
                raise BenchfleetError(f"{self.index} cannot be written: {e}.") from None
            self.index.replace(self.index.with_suffix(".damaged"))
            self._drop_journal()
            self._insert(rows)

    def _drop_journal(self) -> None:
        """Remove what SQLite would otherwise play into the next index of this name."""
        self.index.with_name(f"{self.index.name}-journal").unlink(missing_ok=True)

    def _insert(self, rows: list[tuple[Any, ...]]) -> None:
        marks = ", ".join("?" * len(_COLUMNS))
        db = sqlite3.connect(self.index, timeout=60)
        with closing(db), db:
            db.execute(_SCHEMA)
            db.executemany(f"INSERT OR REPLACE INTO runs VALUES ({marks})", rows)

    def _row(self, run: Path, rules: Mapping[str, Any], verdict: dict[str, Any]) -> tuple[Any, ...]:
        record = _record(run)
        cell = record["cell"]
        model = cell["model"]["name"] if isinstance(cell.get("model"), dict) else cell.get("model")
        values = dict(
            cell,
            path=self._key(run),
            model=model,
            digest=record["digest"],
            started=record.get("created"),
        )
        values |= {
            "outcome": verdict["outcome"],
            "metric": verdict["metric_name"],
            "value": verdict["metric_value"],
        }
        values |= {
            "unit": verdict["metric_unit"],
            "accuracy": json.dumps(verdict.get("accuracy") or {}),
        }
        values |= {
            "submittable": int(bool(verdict.get("submittable"))),
            "judged_with": _judged_with(rules),
        }
        values["verdict"] = json.dumps(verdict)
        return tuple(values.get(c) for c in _COLUMNS)

    def stored(self) -> Iterator[Path]:
        """Yield every run directory."""
        for manifest in sorted((self.root / "runs").glob("*/*/*/*/*/*/manifest.json")):
            yield manifest.parent

    def record(self, run: Path) -> dict[str, Any]:
        """Return a run's run.json. Raises BenchfleetError when it is damaged."""
        return _record(run)

    def remove(self, runs: list[Path]) -> None:
        """Remove stored runs, and what the index says of them.

        Each is renamed out of the runs first, so that an interrupted removal leaves no half of one.
        """
        aside = self.root / "removed"
        for run in runs:
            aside.mkdir(exist_ok=True)
            run.replace(aside / f"{os.getpid()}-{run.name}")
            shutil.rmtree(aside / f"{os.getpid()}-{run.name}")
        if runs and self.index.exists():
            db = sqlite3.connect(self.index, timeout=60)
            with closing(db), db:
                keys = [(self._key(run),) for run in runs]
                db.executemany("DELETE FROM runs WHERE path = ?", keys)
        shutil.rmtree(aside, ignore_errors=True)

    def rebuild(self, rules_of: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> int:
        """Assess every stored run again and make the index anew; return how many runs it holds.

        `rules_of` gives the rules for the cell in a run.json. Run directories are only read.
        """
        entries = []
        for run in self.stored():
            rules = rules_of(_record(run)["cell"])
            entries.append((run, rules, assess(run, dict(rules)).to_json()))
        self.index.unlink(missing_ok=True)
        self._drop_journal()
        self.add(entries)
        return len(entries)

    def _key(self, run: Path) -> str:
        return str(run.relative_to(self.root))


def _record(run: Path) -> dict[str, Any]:
    path = run / "run.json"
    try:
        record: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(record["cell"], dict) and isinstance(record["digest"], str):
            return record
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise BenchfleetError(f"{path} is damaged or missing; move {run} out of the results folder.")


def _judged_with(rules: Mapping[str, Any]) -> str:
    return canonical({"assessor": _assessor(), "rules": dict(rules)})


@functools.cache
def _assessor() -> str:
    """Return the digest of the code that judges: a verdict of other code is not taken from the
    index."""
    here = Path(__file__).parent
    return canonical([hashlib.sha256((here / name).read_bytes()).hexdigest() for name in _JUDGES])
