# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""job.json as records that have been checked once, where the job begins."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple, Type, Union

from . import lock

Json = Dict[str, Any]
Kind = Union[Type[Any], Tuple[Type[Any], ...]]
NUMBER = (int, float)


@dataclass(frozen=True)
class Cell:
    """One cell of a job, as planned; times in seconds."""

    digest: str
    attempt: int
    cell: Json
    argv: list[str]
    prefix: list[str]
    env: dict[str, str]
    files: Json
    digests: Json
    model: str
    scenario: str
    keys: Json
    target: Json | None
    calibration: str | None
    expected_s: float
    time_limit_s: float
    min_free_bytes: int
    links: dict[str, str]  # names in the run directory -> what they lead to while the harness runs
    folders: list[str]  # made before the run, kept after it
    accuracy: Json | None  # {"argv", "env", "links"} of the script that reads the accuracy log
    log_limit: int  # bytes of an accuracy log above which its two ends go home

    @property
    def mode(self) -> str:
        """performance, accuracy, calibration or a compliance test."""
        return str(self.cell.get("mode"))

    @property
    def what(self) -> str:
        """The cell in a few words, for people who wait for it."""
        names = ("benchmark", "implementation", "scenario", "mode")
        return " ".join(str(self.cell[name]) for name in names if self.cell.get(name))


@dataclass(frozen=True)
class Job:
    """A job: one host's list of cells and how to go about them."""

    job_id: str
    controller: str | None
    host_dir: Path
    boot_id: str
    on_busy: str
    wait_limit_s: float
    quiet_host: str
    fingerprint: Json
    cells: list[Cell]
    lock_name: str


def read_job(data: Mapping[str, Any]) -> Job:
    """Check job.json. Raises ValueError that names the field that is missing or wrong."""
    if data.get("format") != 1:
        raise ValueError(f"job.json: format {data.get('format')!r}, this supervisor reads 1")
    cells = _field(data, "cells", list)
    return Job(
        job_id=_field(data, "job_id", str),
        controller=data.get("controller"),
        host_dir=Path(_field(data, "host_dir", str)),
        boot_id=_field(data, "boot_id", str),
        on_busy=_choice(data, "on_busy", ("wait", "fail")),
        wait_limit_s=_field(data, "wait_limit_s", NUMBER),
        quiet_host=_choice(data, "quiet_host", ("warn", "require", "off")),
        fingerprint=data.get("fingerprint") or {},
        cells=[_cell(cell, f"cells[{index}].") for index, cell in enumerate(cells)],
        lock_name=data.get("lock") or lock.NAME,
    )


def _cell(data: Mapping[str, Any], where: str) -> Cell:
    settings = _field(data, "settings", dict, where)
    inside = f"{where}settings."
    return Cell(
        digest=_field(data, "digest", str, where),
        attempt=data.get("attempt") or 1,
        cell=_field(data, "cell", dict, where),
        argv=_words(data, "argv", where),
        prefix=_words(data, "prefix", where) if data.get("prefix") else [],
        env={str(name): str(value) for name, value in (data.get("env") or {}).items()},
        files=data.get("files") or {},
        digests=data.get("digests") or {},
        model=_field(settings, "loadgen_model", str, inside),
        scenario=_field(settings, "scenario", str, inside),
        keys=settings.get("keys") or {},
        target=data.get("target"),
        calibration=data.get("calibration"),
        expected_s=_field(data, "expected_s", NUMBER, where),
        time_limit_s=_field(data, "time_limit_s", NUMBER, where),
        min_free_bytes=data.get("min_free_bytes") or 0,
        links=data.get("links") or {},
        folders=data.get("folders") or [],
        accuracy=_accuracy(data.get("accuracy"), where),
        log_limit=data.get("log_limit") or sys.maxsize,
    )


def _accuracy(data: Json | None, where: str) -> Json | None:
    if not data:
        return None
    argv = _words(data, "argv", f"{where}accuracy.")
    return {"argv": argv, "env": data.get("env") or {}, "links": data.get("links") or {}}


def _field(data: Mapping[str, Any], name: str, kind: Kind, where: str = "") -> Any:
    value = data.get(name) if isinstance(data, Mapping) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"job.json: {where}{name} is {value!r}")
    return value


def _choice(data: Mapping[str, Any], name: str, valid: tuple[str, ...]) -> str:
    value = data.get(name, valid[0])
    if value not in valid:
        raise ValueError(f"job.json: {name} is {value!r}; valid: {', '.join(valid)}")
    return str(value)


def _words(data: Mapping[str, Any], name: str, where: str) -> list[str]:
    value = _field(data, name, list, where)
    if not value or not all(isinstance(word, str) for word in value):
        raise ValueError(f"job.json: {where}{name} is not a list of words")
    return list(value)
