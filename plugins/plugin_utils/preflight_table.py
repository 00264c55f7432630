# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of a preflight."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .table import count, render

_HEADER = ("SUT", "check", "state", "found", "wanted", "remedy")
_MOST_LINES = 40
_ORDER = {"fail": 0, "warn": 1, "ok": 2}


def lines(
    found: Mapping[str, Mapping[str, Any]],
    suts: Mapping[str, Mapping[str, str]],
    everything: bool,
    report: Path,
) -> list[str]:
    """Return the table of what is not well, or of `everything`; nothing when all is well.

    `found` is what the stage recorded by host, `suts` digest -> SUT of each host's items.
    """
    rows = [
        (_sut(host, check["digests"], suts[host]), check)
        for host, record in found.items()
        for check in record.get("checks", ())
        if everything or check["state"] != "ok"
    ]
    if not rows:
        return []
    rows.sort(key=lambda row: _ORDER[row[1]["state"]])
    body = [
        (sut, *(str(check[n]) for n in ("name", "state", "found", "wanted", "remedy")))
        for sut, check in rows[:_MOST_LINES]
    ]
    table = ["", "Preflight:", *render(_HEADER, body)]
    if len(rows) > _MOST_LINES:
        table.append(f"… {count(len(rows), 'row')} in all; they are in {report}.")
    return [*table, ""]


def _sut(host: str, digests: Sequence[str], suts: Mapping[str, str]) -> str:
    """Name the SUTs that a check concerns; a host that declares several, when it is all of
    them."""
    names = list(dict.fromkeys(suts[d] for d in digests if d in suts))
    every = set(suts.values())
    return names[0] if len(names) == 1 else host if set(names) == every else ",".join(names)
