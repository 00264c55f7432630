# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the fleet keeps, for people: one line for each thing, with the places that have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..module_utils.artifacts.base import size
from .table import count, render

CONTROLLER = "controller"
_MOST_PLACES = 3

Listed = Mapping[str, Mapping[str, Any]]


def listed(found: Listed) -> list[str]:
    """Return the table of what each place keeps: {place: result of artifact_info}."""
    same: dict[tuple[str, str, str], dict[str, Any]] = {}
    for place, result in found.items():
        for e in result.get("entries", ()):
            row = same.setdefault((e["type"], e["name"], e["digest"] or ""), {**e, "places": []})
            row["places"].append(place)
            row["note"] = row.get("note") or _note(e, place)
    header = ("type", "name", "size", "tags", "digest", "on", "note")
    rows = [
        (
            kind,
            name,
            size(e["bytes"]),
            ",".join(e["tags"]),
            digest[:12],
            _places(e["places"]),
            e["note"],
        )
        for (kind, name, digest), e in sorted(same.items())
    ]
    total = sum(int(r.get("bytes", 0)) for r in found.values())
    things = f"{count(len(rows), 'thing')}, {size(total)} on {count(len(found), 'store')}."
    return ["", *render(header, rows, frozenset({2})), *_faults(found), "", things]


def removed(found: Listed, check: bool) -> list[str]:
    """Return the table of what was removed where: {place: result of artifact}."""
    places: dict[str, list[str]] = {}
    for place, result in found.items():
        for name in result.get("removed", ()):
            places.setdefault(name, []).append(place)
    rows = [(name, _places(where)) for name, where in sorted(places.items())]
    notes = [f"{p}: {n}" for p, r in found.items() for n in r.get("notes", ())]
    total = sum(int(r.get("freed", 0)) for r in found.values())
    word = "would be freed" if check else "freed"
    body = render(("removed", "on"), rows) if rows else ["Nothing fits what was asked for."]
    return ["", *body, *_faults(found), *notes, "", f"{size(total)} {word}."]


def _note(entry: Mapping[str, Any], place: str) -> str:
    about = entry["about"]
    if entry.get("problems"):
        return f"DAMAGED on {place}: {entry['problems'][0]}"
    if about.get("in_place"):
        return f"stays at {about['in_place']}"
    if about.get("unverified"):
        return f"{about['unverified']} files unverified"
    return f"used by {entry['used_by'][0]}" if entry["used_by"] else ""


def _places(places: Sequence[str]) -> str:
    if len(places) <= _MOST_PLACES:
        return ", ".join(places)
    return f"{', '.join(places[:_MOST_PLACES])} and {len(places) - _MOST_PLACES} more"


def _faults(found: Listed) -> list[str]:
    """Return a line for each place of which nothing is known."""
    lines = []
    for place, result in found.items():
        if result.get("unreachable"):
            lines.append(f"{place}: UNREACHABLE")
        elif result.get("failed"):
            lines.append(f"{place}: FAILED: {result.get('msg', 'no reason given')}")
    return ["", *lines] if lines else []
