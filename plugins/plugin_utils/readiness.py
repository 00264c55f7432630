# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What provisioning made ready for a session's cells, and what stands in the way of the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..module_utils import python_env
from ..module_utils.artifacts.base import size
from .session import Session
from .table import count, render

_HEADER = ("SUT", "what", "name", "state", "size")
_MOST_LINES = 60


class Row(NamedTuple):
    """One environment or artifact of a SUT. `state` is 'ready' (it was there), 'built', 'brought'
    or 'made' (by this call), 'missing'; `size` is in words, '' where nobody knows it."""

    sut: str
    what: str
    name: str
    state: str
    size: str


def rows(session: Session) -> list[Row]:
    """Return what the cells that have to run need, each once a SUT."""
    found: dict[Row, None] = {}
    for host in session.hosts():
        ready = session.read(host, "provision") or {}
        for item in _items(session, host):
            payload = session.common()["payloads"][item["cell"]["payload"]]
            found |= dict.fromkeys(_environments(item["cell"]["sut"], payload, ready))
            found |= dict.fromkeys(_artifacts(item, ready))
    return list(found)


def unready(session: Session) -> dict[str, list[str]]:
    """Return why hosts are not ready, each reason once; hosts that are have no entry."""
    found: dict[str, list[str]] = {}
    for host in session.hosts():
        stages = {n: session.read(host, n) or {} for n in ("probe", "preflight", "provision")}
        why = [str(s["fault"]) for s in stages.values() if s.get("fault")]
        lacking = stages["provision"].get("missing_packages")
        if lacking:
            why.append(f"packages are missing: {' '.join(lacking)}")
        work = session.work(host)
        if work is None and not why:
            why.append("the host was not reached")
        why += [str(i["reason"]) for i in work or () if i["action"] == "refuse"]
        if why:
            found[host] = list(dict.fromkeys(why))
    return found


def places(session: Session) -> dict[str, dict[str, dict[str, str]]]:
    """Return host -> cell -> placeholder -> path on the host, as far as it is there."""
    found: dict[str, dict[str, dict[str, str]]] = {}
    for host in session.hosts():
        there = (session.read(host, "provision") or {}).get("artifacts", {})
        for item in _items(session, host):
            found.setdefault(host, {})[item["cell"]["id"]] = {
                word: there[place["identity"]]["path"]
                for word, place in item["places"].items()
                if place["identity"] in there
            }
    return found


def lines(found: list[Row], why: Mapping[str, list[str]]) -> list[str]:
    """Return the table for the terminal, then what is not ready and why."""
    table = ["", *render(_HEADER, found[:_MOST_LINES], frozenset({4}))] if found else []
    if len(found) > _MOST_LINES:
        table.append(f"… {len(found)} in all.")
    for host, reasons in why.items():
        table += ["", f"NOT READY: {host}", *(f"  {reason}" for reason in reasons)]
    suts = count(len({row.sut for row in found}), "SUT")
    told = f"{count(len(found), 'part')} on {suts}" if found else "nothing has to run"
    return [*table, "", f"{told}; {count(len(why), 'host')} not ready."]


def _items(session: Session, host: str) -> list[dict[str, Any]]:
    return [i for i in session.work(host) or () if i["action"] == "run"]


def _environments(sut: str, payload: Mapping[str, Any], ready: Mapping[str, Any]) -> Iterator[Row]:
    for env in payload["envs"].values():
        state = "built" if env["name"] in ready.get("built", ()) else "ready"
        if env["name"] in ready.get("waiting", [env["name"]]):
            state = "missing"
        megabytes = sum(python_env.read(text).disk_mb for text in env["requirements"].values())
        yield Row(sut, "environment", env["name"], state, f"about {size(megabytes * 1e6)}")


def _artifacts(item: Mapping[str, Any], ready: Mapping[str, Any]) -> Iterator[Row]:
    cell = item["cell"]
    needs = {"model": cell["model"], "dataset": cell["dataset"], **cell["needs"]}
    for word, place in item["places"].items():
        there = ready.get("artifacts", {}).get(place["identity"])
        what = "source" if word == "tree" else word.partition(".")[0]
        state = "missing"
        if there:
            new = "made" if needs[word]["origin"] == "derived" else "brought"
            state = new if there["new"] else "ready"
        known = (there or {}).get("bytes")
        yield Row(cell["sut"], what, needs[word]["name"], state, size(known) if known else "")
