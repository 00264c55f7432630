# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MOST_REASONS = 10
_MOST_LINES = 60


def render(
    header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()
) -> list[str]:
    """Return the lines of a table; columns in `right` are right-aligned."""
    widths = [max(len(str(r[i])) for r in (header, *rows)) for i in range(len(header))]

    def line(cells: Sequence[str]) -> str:
        parts = [
            str(c).rjust(w) if i in right else str(c).ljust(w)
            for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        ]
        return "  ".join(parts).rstrip()

    return [line(header), line(["-" * w for w in widths]), *map(line, rows)]


def outcomes(found: Sequence[Mapping[str, Any]], root: Path) -> list[str]:
    """Return the closing table, and one screen of reasons for what is not valid."""
    header = ("SUT", "benchmark", "scenario", "mode", "result", "unit", "VALID", "accuracy", "run")
    shown = [o for o in found if o["outcome"] != "valid"][:_MOST_LINES]
    shown = list(found) if len(found) <= _MOST_LINES else shown
    lines = ["", *render(header, [_row(o) for o in shown], frozenset({4}))]
    if len(shown) < len(found):
        valid = sum(o["outcome"] == "valid" for o in found)
        lines.append(
            f"… {len(found)} cells in all, {valid} of them valid; all are in {root / 'outcomes'}."
        )
    groups = _by_reason(found)
    for same in groups[:_MOST_REASONS]:
        lines += _why(same, root)
    if len(groups) > _MOST_REASONS:
        lines.append(f"… and {len(groups) - _MOST_REASONS} more; all are in {root / 'outcomes'}.")
    counts = {
        n: sum(o["outcome"] == n for o in found) for n in dict.fromkeys(o["outcome"] for o in found)
    }
    lines += ["", f"{', '.join(f'{c} {n}' for n, c in counts.items())}. Results: {root}"]
    if found and not any(o["submittable"] for o in found):
        lines.append("None of these can be submitted: " + _not_submittable(found))
    return lines


def planned(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of a plan, why cells are left out, and the time and disk that it takes."""
    header = ("SUT", "benchmark", "implementation", "scenario", "mode", "expected", "needs")
    reasons: dict[str, int] = {}
    body = []
    for r in rows:
        needs = str(r["needs"])
        if r["action"] in ("refused", "skipped"):
            needs = f"{r['action']} ({reasons.setdefault(needs, len(reasons) + 1)})"
        first = (r["sut"], r["benchmark"], r["implementation"], r["scenario"], r["mode"])
        body.append((*first, duration(r["expected_s"]), needs))
    total: dict[str, float] = {}
    for r in rows:
        total[r["sut"]] = total.get(r["sut"], 0.0) + r["expected_s"]
    longest = max(total.values(), default=0.0)
    todo = sum(bool(r["todo"]) for r in rows)
    disk = {r["benchmark"]: r["disk_gb"] for r in rows if r["todo"] and r["disk_gb"]}
    room = f" Disk for models and data: {', '.join(f'{b} {gb:g} GB' for b, gb in disk.items())}."
    end = (
        f"{count(len(rows), 'cell')} on {count(len(total), 'SUT')}, {todo} to do;"
        f" about {duration(longest)} (SUTs work at the same time).{room if disk else ''}"
    )
    why = [f"({number}) {reason}" for reason, number in reasons.items()]
    return ["", *render(header, body, frozenset({5})), *([""] if why else []), *why, "", end]


def count(number: int, word: str) -> str:
    """Return a number with its noun: 1 run, 2 runs."""
    return f"{number} {word}" if number == 1 else f"{number} {word}s"


def duration(seconds: float) -> str:
    """Return a duration for people: 0 s, 42 s, 11 min, 3.5 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _row(o: Mapping[str, Any]) -> tuple[str, ...]:
    value = f"{o['value']:,.4g}" if o["value"] is not None and o["value"] < 100 else ""
    value = value or (f"{o['value']:,.0f}" if o["value"] is not None else "")
    accuracy = ", ".join(f"{k} {v:g}" for k, v in o["accuracy"].items())
    valid = {"valid": "yes"}.get(o["outcome"], o["outcome"].upper())
    run = o["run"].rsplit("/", 1)[-1] if o["run"] else ""
    return (
        o["sut"],
        o["benchmark"],
        o["scenario"],
        o["mode"],
        value,
        o["unit"] or "",
        valid,
        accuracy,
        run,
    )


def _by_reason(found: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Return what is not valid, cells with the same outcome and reason together."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for o in found:
        if o["outcome"] != "valid" and o["reasons"]:
            groups.setdefault((o["outcome"], o["reasons"][0]["what"]), []).append(o)
    return list(groups.values())


def _why(same: Sequence[Mapping[str, Any]], root: Path) -> list[str]:
    o = same[0]
    more = f" and {len(same) - 1} more" if len(same) > 1 else ""
    lines = ["", f"{o['outcome'].upper()}: {o['id']}{more}"]
    for reason in o["reasons"][:3]:
        lines.append(f"  {reason['what']}")
        if reason.get("where") and o["run"]:
            lines.append(f"    in {root / o['run'] / reason['where']}")
        if reason.get("do"):
            lines.append(f"    {reason['do']}")
    return lines


def _not_submittable(found: Sequence[Mapping[str, Any]]) -> str:
    if any(o["duration"] == "test" for o in found):
        return (
            "test-length runs (duration=official makes runs of the round's length),"
            " or no MLPerf benchmark."
        )
    return "not an MLPerf benchmark, or not valid."
