# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consents to licences: who agreed to what and when, recorded once in the results folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .catalog import Catalog
from .errors import BenchfleetError, nearest

NAME = "consents.json"
Gate = Mapping[str, Any]


def given(results: str | Path) -> dict[str, dict[str, Any]]:
    """Return the consents of a results folder: name -> {by, at (UTC), where, terms}.

    Raises BenchfleetError when the file is damaged, since nobody's word may be lost in silence.
    """
    path = Path(results).expanduser() / NAME
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        found: dict[str, dict[str, Any]] = value["consents"]
        return dict(found)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, TypeError):
        raise BenchfleetError(
            f"{path} is damaged; mend it, or move it away and give the consents again."
        ) from None


def gates(catalog: Catalog) -> dict[str, Gate]:
    """Return what the catalog's artifacts ask a consent for: name -> {name, where, terms}."""
    found: dict[str, Gate] = {}
    for name in catalog.names("benchmarks"):
        for artifact in catalog.get("benchmarks", name).get("artifacts", {}).values():
            gate = artifact.get("gate")
            if gate and gate["how"] != "own-copy":
                found.setdefault(gate["name"], gate)
    return found


def entry(name: str, by: str, asked: Mapping[str, Gate], now: datetime) -> dict[str, str]:
    """Return the record of a consent. Raises BenchfleetError for a name that nothing asks for, or
    when nobody says who agrees."""
    if name not in asked:
        raise BenchfleetError(f"consent={name} is not asked for.{nearest(name, asked)}")
    if not by.strip():
        raise BenchfleetError('say who agrees: -e consent_by="Jane Doe, Acme".')
    gate = asked[name]
    at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"by": by.strip(), "at": at, "where": gate["where"], "terms": gate["terms"]}


def record(results: str | Path, name: str, given_now: Mapping[str, str]) -> None:
    """Add a consent to those of a results folder; one that was given before stays as it is."""
    path = Path(results).expanduser() / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    every = {name: dict(given_now)} | given(results)
    partial = path.with_suffix(".partial")
    text = json.dumps({"format": 1, "consents": every}, indent=1, sort_keys=True) + "\n"
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
