# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifacts that a program of upstream's makes on the host: what that takes, said as needs.

The sources of a derived artifact are needs of the cell like any other, under the artifact's own
word and their placeholder ("dataset.raw"), and its environment is one of the cell's
("dataset.python"). So they are looked for, brought, built and counted with the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .catalog import Catalog
from .needs import Lab, need
from .recipe import REFERENCE_LOCKS

Need = dict[str, Any]


def with_sources(
    found: Mapping[str, Need | None], benchmark: Mapping[str, Any], lab: Lab, catalog: Catalog
) -> dict[str, Need | None]:
    """Return needs by word, those behind the derived ones with them.

    A derived artifact whose sources cannot be had has a `refuse` that says why.
    """
    whole = dict(found)
    for word, what in found.items():
        if what is None or what["origin"] != "derived":
            continue
        for placeholder, name in what["derive"]["from"].items():
            source = need(benchmark, name, "", lab, catalog)
            whole[f"{word}.{placeholder}"] = source
            refuse = _source_refuses(what["name"], name, source)
            if refuse and not what.get("refuse"):
                whole[word] = what | {"refuse": refuse}
    return whole


def environments(found: Mapping[str, Need | None]) -> dict[str, str]:
    """Return the locks of the programs' environments by word."""
    return {
        f"{word}.python": f"{REFERENCE_LOCKS}/{what['derive']['environment']}.txt"
        for word, what in found.items()
        if what and what["origin"] == "derived" and what["derive"]["environment"]
    }


def for_host(
    needs: Mapping[str, Need | None],
    places: Mapping[str, Mapping[str, Any]],
    envs: Mapping[str, Mapping[str, Any]],
    folder: str,
) -> list[dict[str, Any]]:
    """Return what a host must derive, as module provision takes it.

    `places` say by word where the needs lie there, `envs` are a payload's environments by word,
    `folder` is the harness's in its source tree.
    """
    return [
        {
            "identity": places[word]["identity"],
            "name": what["name"],
            "type": what["type"],
            "derive": what["derive"],
            "layout": what["layout"],
            "sources": {p: places[f"{word}.{p}"]["identity"] for p in what["derive"]["from"]},
            "tree": places["tree"]["identity"],
            "folder": folder,
            "env": envs[f"{word}.python"]["name"],
        }
        for word, what in needs.items()
        if what and what["origin"] == "derived"
    ]


def _source_refuses(name: str, source_name: str, source: Need | None) -> str | None:
    """Return why the source of an artifact stands in its way, None when it does not."""
    why = (source or {}).get("refuse")
    if source and source["origin"] == "derived" and not why:
        why = f"{source_name} is itself made from others; make it by hand and give it."
    return f"{name} is made from {source_name}. {why}" if why else None
