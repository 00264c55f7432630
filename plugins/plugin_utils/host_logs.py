# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ends of a host's own logs, brought to `<results>/logs/<host>/`."""

from __future__ import annotations

import posixpath
import shlex
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from .probe_script import Probe, is_name

MOST_BYTES = 1 << 20
MOST_LOGS = 20

Command = Callable[[str], tuple[int, str, str]]


def folder(results: Path, host: str) -> Path:
    """Return where a host's logs are kept on the controller."""
    return results / "logs" / quote(host, safe="")


def keep_one(command: Command, remote: str, home: str, where: Path) -> Path | None:
    """Bring the end of one log of the host's `<home>/logs`; return where it lies, None when it
    could not be had. What a host names elsewhere is not read."""
    name = posixpath.basename(remote)
    if remote != f"{home}/logs/{name}" or not is_name(name):
        return None
    return _keep(command, remote, where / name)


def keep_all(command: Command, probe: Probe, where: Path) -> list[Path]:
    """Bring the newest logs, the state file and the names of host and user."""
    _code, listed, _err = command(f"ls -t {shlex.quote(probe.home)}/logs 2>/dev/null")
    names = [n for n in listed.split() if is_name(n)][:MOST_LOGS]
    kept = [_keep(command, f"{probe.home}/logs/{n}", where / n) for n in names]
    kept.append(_keep(command, f"{probe.host_dir}/state.json", where / "state.json"))
    _code, names_of, _err = command('printf \'hostname=%s\\nuser=%s\\n\' "$(uname -n)" "$(id -un)"')
    _write(where / "about.txt", names_of)
    return [path for path in [*kept, where / "about.txt"] if path]


def _keep(command: Command, remote: str, local: Path) -> Path | None:
    code, text, _err = command(f"tail -c {MOST_BYTES} {shlex.quote(remote)}")
    if code:
        return None
    _write(local, text)
    return local


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
