# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of operating systems in the controller's store: a tree of files with all that they
depend on, for hosts of one system."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..module_utils.artifacts import archive
from ..module_utils.artifacts.store import Store
from .session import Session

TAG = "os-packages"
System = Mapping[str, str]  # id, version and machine (see module_utils.packages.system)


def label(system: System) -> str:
    """Return a system in words: debian-12-x86_64."""
    return "-".join(w for w in (system["id"], system["version"], system["machine"]) if w)


def find(store: Store, system: System, names: Iterable[str]) -> str | None:
    """Return the digest of the newest tree that has all these packages for a system."""
    trees = [r for r in store.records() if r.get("system") == dict(system)]
    fits = [r for r in trees if set(names) <= held(r) and store.has(r["digest"])]
    return max(fits, key=lambda r: str(r["obtained"]), default={"digest": None})["digest"]


def held(record: Mapping[str, Any]) -> set[str]:
    """Return the names of packages in a tree: those that were asked for, and those of its files."""
    return {*record["packages"], *(_name(file) for file in record["files"])}


def systems(store: Store, names: Iterable[str]) -> list[dict[str, str]]:
    """Return the systems for which the store has all these packages."""
    wanted = set(names)
    return [dict(r["system"]) for r in store.records() if "system" in r and wanted <= held(r)]


def lacking(session: Session) -> list[dict[str, str]]:
    """Return the systems of hosts without internet that lack packages, as build_facts found."""
    answers = (session.read(host, "build_facts") or {} for host in session.hosts())
    found = [a["system"] for a in answers if not a.get("internet") and a.get("missing_packages")]
    return [system for i, system in enumerate(found) if system not in found[:i]]


def keep(store: Store, packed: Path, system: System, names: list[str], host: str) -> str:
    """Publish a tar of package files that a host has collected; return the tree's digest.

    Raises ArtifactError.
    """
    files, _single = archive.unpack(store, packed, "tar", TAG)
    about = {
        "name": f"{TAG} {label(system)}",
        "type": "packages",
        "tags": [TAG, system["id"], system["version"], system["machine"]],
        "system": dict(system),
        "packages": sorted(names),
        "origin": {"host": host},
        "checked_by": "the package manager",
    }
    return store.add_tree(files, about)


def _name(file: str) -> str:
    """Return the package of a file: g++_4%3a12.2-3_amd64.deb, gcc-c++-11.4.1-3.el9.x86_64.rpm."""
    if file.endswith(".deb"):
        return file.partition("_")[0]
    found = re.match(r"(.+)-[^-]+-[^-]+$", file)
    return found[1] if found else file
