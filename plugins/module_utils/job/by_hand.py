# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a run to be started by a person, in a shell that has its environment and its command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from . import records, state, user_conf


def prepare(host_dir: Path, spec: dict[str, Any]) -> Path:
    """Write a cell's files to a folder of its own below `<host_dir>/debug` and return it.

    `shellrc` in it is a bash start-up file: it enters the folder, loads the environment and puts
    the exact command into the history. The target is the cell's own, or the one that its
    calibration found on this host; without either LoadGen's default counts.
    """
    cell = spec["cell"]
    name = "-".join(
        (
            cell["benchmark"],
            cell["implementation"],
            cell["scenario"],
            cell["mode"],
            spec["digest"][:8],
        )
    )
    folder = host_dir / "debug" / name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    records.write_inputs(folder, spec["files"])
    for path in spec.get("folders", ()):
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    records.make_links(folder, spec.get("links", {}))
    settings = spec["settings"]
    keys = user_conf.apply_target(settings["scenario"], settings["keys"], _target(host_dir, spec))
    text = user_conf.format_user_conf(settings["loadgen_model"], settings["scenario"], keys)
    (folder / "user.conf").write_text(text, encoding="utf-8")
    progress = folder / "progress"
    progress.write_bytes(b"\0" * records.STATUS_BYTES)
    command = command_in(folder, spec)
    env = records.fill(
        {**spec["env"], "BENCHFLEET_STATUS": str(progress)}, str(folder), str(progress)
    )
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in sorted(env.items()))
    shellrc = (
        "[ -f ~/.bashrc ] && . ~/.bashrc\n"
        f"cd {shlex.quote(str(folder))} || exit 1\n{exports}"
        f"history -s {shlex.quote(command)}\n"
        f"printf '%s\\n' 'The command (also the last in the history):' {shlex.quote(command)}\n"
    )
    (folder / "shellrc").write_text(shellrc, encoding="utf-8")
    script = f'#!/bin/sh\ncd "$(dirname "$0")" || exit 1\n{exports}exec {command}\n'
    (folder / "launch.sh").write_text(script, encoding="utf-8")
    (folder / "launch.sh").chmod(0o755)
    return folder


def command_in(folder: Path, spec: dict[str, Any]) -> str:
    """Return a cell's command for a shell, as it is run in a folder made by `prepare`."""
    argv = records.fill(spec["prefix"] + spec["argv"], str(folder), str(folder / "progress"))
    return " ".join(shlex.quote(part) for part in argv)


def _target(host_dir: Path, spec: dict[str, Any]) -> dict[str, float] | None:
    """The target to prepare with, None when none is known yet."""
    if spec.get("target") or not spec.get("calibration"):
        return spec.get("target")
    run = state.read(host_dir)["runs"].get(spec["calibration"])
    found = records.read_json(host_dir / "runs" / run / "calibration.json") if run else None
    return (found or {}).get("target")
