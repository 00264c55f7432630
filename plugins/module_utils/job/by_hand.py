# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Prepare a run to be started by a person, in a shell that has its environment and its command."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any, Dict

from . import records, user_conf


def prepare(host_dir: Path, spec: Dict[str, Any]) -> Path:
    """Write a cell's files to a folder of its own below `<host_dir>/debug` and return it.

    `shellrc` in it is a bash start-up file: it enters the folder, loads the environment and puts
    the exact command into the history. Without a target the settings hold none, so LoadGen's
    default counts.
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
    settings = spec["settings"]
    keys = user_conf.apply_target(settings["scenario"], settings["keys"], spec.get("target"))
    text = user_conf.format_user_conf(settings["loadgen_model"], settings["scenario"], keys)
    (folder / "user.conf").write_text(text, encoding="utf-8")
    command = " ".join(shlex.quote(part) for part in spec["prefix"] + spec["argv"])
    exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in sorted(spec["env"].items()))
    shellrc = (
        "[ -f ~/.bashrc ] && . ~/.bashrc\n"
        f"cd {shlex.quote(str(folder))} || exit 1\n{exports}"
        f"history -s {shlex.quote(command)}\n"
        f"printf '%s\\n' {shlex.quote('The command (also the last in the history):')} {shlex.quote(command)}\n"
    )
    (folder / "shellrc").write_text(shellrc, encoding="utf-8")
    script = f'#!/bin/sh\ncd "$(dirname "$0")" || exit 1\n{exports}exec {command}\n'
    (folder / "launch.sh").write_text(script, encoding="utf-8")
    (folder / "launch.sh").chmod(0o755)
    return folder
