# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Systems under test, as the inventory declares them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import BenchfleetError, nearest

SYSTEM_TYPES = ("edge", "datacenter", "datacenter,edge")
_KEYS = ("name", "members", "devices", "profile", "system_type", "device")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")


@dataclass(frozen=True)
class Sut:
    """One SUT: `members` are inventory hosts (the first one runs LoadGen), `devices` the
    accelerators used on each (empty: all), `profile` a power or partitioning profile such as MaxQ,
    `artifact_paths` the host's own copies of artifacts by name."""

    name: str
    members: tuple[str, ...]
    devices: tuple[str, ...] = ()
    profile: str = "default"
    system_type: str = "edge"
    device: str = "cpu"
    artifact_paths: Mapping[str, str] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """Return the host that runs the harness."""
        return self.members[0]


def declared(host: str, variables: Mapping[str, Any]) -> list[Sut]:
    """Return the SUTs of one inventory host: those in its `benchfleet_suts`, else one of its own
    name.

    Raises BenchfleetError naming the host and the key that is wrong.
    """
    defaults = {k: variables.get(f"benchfleet_{k}") for k in ("system_type", "device", "profile")}
    paths = variables.get("benchfleet_artifact_paths") or {}
    if not isinstance(paths, Mapping):
        raise BenchfleetError(f"{host}: benchfleet_artifact_paths must map artifacts to paths.")
    entries = variables.get("benchfleet_suts") or [{"name": host}]
    if not isinstance(entries, Sequence) or isinstance(entries, str):
        raise BenchfleetError(f"{host}: benchfleet_suts must be a list of SUTs, each with a name.")
    return [
        _sut(
            host,
            dict(entry) if isinstance(entry, Mapping) else {"name": str(entry)},
            defaults,
            {str(k): str(v) for k, v in paths.items()},
        )
        for entry in entries
    ]


def _sut(
    host: str, entry: dict[str, Any], defaults: Mapping[str, Any], paths: Mapping[str, str]
) -> Sut:
    for key in entry:
        if key not in _KEYS:
            raise BenchfleetError(
                f"{host}: benchfleet_suts: '{key}' is not a property of a SUT.{nearest(key, _KEYS)}"
            )
    merged = {k: v for k, v in defaults.items() if v} | entry
    name = str(merged.get("name") or host)
    if not _NAME.fullmatch(name):
        raise BenchfleetError(
            f"{host}: the SUT name '{name}' may hold letters, digits and _ . + - only."
        )
    system_type = str(merged.get("system_type") or "edge").replace(" ", "")
    if system_type == "edge,datacenter":
        system_type = "datacenter,edge"
    if system_type not in SYSTEM_TYPES:
        raise BenchfleetError(
            f"{host}: system_type={system_type} is not valid.{nearest(system_type, SYSTEM_TYPES)}"
        )
    return Sut(
        name=name,
        members=_strings(merged.get("members")) or (host,),
        devices=_strings(merged.get("devices")),
        profile=str(merged.get("profile") or "default"),
        system_type=system_type,
        device=str(merged.get("device") or "cpu"),
        artifact_paths=paths,
    )


def _strings(value: Any) -> tuple[str, ...]:
    if value in (None, "", "all"):
        return ()
    if isinstance(value, Sequence) and not isinstance(value, str):
        return tuple(str(v).strip() for v in value)
    return tuple(v.strip() for v in str(value).split(","))
