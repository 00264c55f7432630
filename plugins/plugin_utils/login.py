# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One look at a host's clock, and at how long its login shell took before it ran our command.

The shell's time is the host's own word, so that no round trip of the connection is in it: what the
host's uptime was when the command began, less when the process that ssh made for it had started.
The kernel counts such starts in hundredths of a second.
"""

from __future__ import annotations

import re
import shlex

# The login shell becomes our sh where it can (a simple command), or stays as its parent.
_SCRIPT = r"""
read -r up rest < /proc/uptime
read -r own < "/proc/$$/stat"
read -r parent < "/proc/$PPID/stat"
printf '\nbenchfleet-clock %s %s\n%s\n%s\n' "$up" "$(date +%s.%N)" "$own" "$parent"
"""
COMMAND = shlex.join(["/bin/sh", "-c", _SCRIPT])
_START_FIELD = 22  # of /proc/<pid>/stat, in ticks since boot
_TICKS = 100.0  # per second; fixed for user space on every Linux
_SHELLS = ("sh", "bash", "dash", "zsh", "fish", "ksh", "tcsh", "csh", "ash", "busybox")
_ANSWER = re.compile(r"benchfleet-clock ([\d.]+) (\d+)\.(\S+)\n(.*)\n(.*)\n")


def read(out: str, before: float, after: float) -> dict[str, float | None] | None:
    """Return {offset_s (host ahead: above zero), uncertainty_s, shell_s (None: not known)} of a
    look between two times of this controller, None when the host gave no such answer."""
    found = _ANSWER.search(out.replace("\r\n", "\n"))
    if not found:
        return None
    uptime, seconds, fraction, own, parent = found.groups()
    # A date that knows no nanoseconds leaves the whole second open.
    precise = fraction.isdigit()
    there = float(f"{seconds}.{fraction}") if precise else float(seconds) + 0.5
    return {
        "offset_s": there - (before + after) / 2,
        "uncertainty_s": (after - before) / 2 + (0.0 if precise else 0.5),
        "shell_s": _shell(float(uptime), own, parent),
    }


def _shell(uptime: float, own: str, parent: str) -> float | None:
    name = own.partition("(")[2].rpartition(")")[0]
    above = parent.partition("(")[2].rpartition(")")[0]
    process = parent if above.lstrip("-") in _SHELLS else own
    fields = process.rpartition(")")[2].split()
    if not name or len(fields) <= _START_FIELD - 3 or not fields[_START_FIELD - 3].isdigit():
        return None
    return max(0.0, uptime - int(fields[_START_FIELD - 3]) / _TICKS)
