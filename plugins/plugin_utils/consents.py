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


def record(
    results: str | Path, name: str, by: str, gates: Mapping[str, Gate], now: datetime
) -> bool:
    """Record a consent to one of the catalog's `gates`; return whether it is new.

    One that was given stays as it is. Raises BenchfleetError for a name that asks for no consent.
    """
    before = given(results)
    if name in before:
        return False
    if name not in gates:
        raise BenchfleetError(f"consent={name} is not asked for.{nearest(name, gates)}")
    if not by.strip():
        raise BenchfleetError('consent_by must say who agrees: -e consent_by="Jane Doe, Acme".')
    gate = gates[name]
    at = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    entry = {"by": by.strip(), "at": at, "where": gate["where"], "terms": gate["terms"]}
    path = Path(results).expanduser() / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": 1, "consents": before | {name: entry}}, indent=1) + "\n"
    partial = path.with_suffix(".partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return True
