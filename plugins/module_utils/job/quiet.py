# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is the host quiet? A short look before a run, and one figure after it; facts, no verdict."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Dict

SAMPLE_S = 0.2
FOREIGN_CPU_LIMIT = 0.05  # share of all CPUs; half a core of a 10-core host
MEMORY_LIMIT = 0.10  # share of MemTotal that should be available

Figures = Dict[str, Any]


def sample(seconds: float = SAMPLE_S, root: Path = Path("/")) -> Figures:
    """Look at the host for ``seconds`` and return figures with their warnings.

    {foreign_cpu_share 0..1 of all CPUs, steal_share, load_1m, memory_available_bytes,
    memory_total_bytes, throttle_events (since boot; None: the CPU does not count), warnings}.
    """
    before = cpu_times(_read(root / "proc/stat"))
    time.sleep(seconds)
    after = cpu_times(_read(root / "proc/stat"))
    busy, steal = shares(before, after)
    memory = memory_figures(_read(root / "proc/meminfo"))
    figures: Figures = {
        "foreign_cpu_share": round(busy, 4),
        "steal_share": round(steal, 4),
        "load_1m": _load(_read(root / "proc/loadavg")),
        "memory_available_bytes": memory.get("MemAvailable"),
        "memory_total_bytes": memory.get("MemTotal"),
        "throttle_events": throttle_events(root),
    }
    figures["warnings"] = warnings(figures, os.cpu_count() or 1)
    return figures


def warnings(figures: Figures, cpus: int) -> list[str]:
    """What in the figures may disturb a measurement, in words with numbers."""
    found = []
    share = figures["foreign_cpu_share"]
    if share > FOREIGN_CPU_LIMIT:
        found.append(
            f"other processes use {share:.0%} of the CPUs ({share * cpus:.1f} of {cpus},"
            f" quiet is up to {FOREIGN_CPU_LIMIT:.0%})"
        )
    if figures["steal_share"] > FOREIGN_CPU_LIMIT:
        found.append(f"the hypervisor takes {figures['steal_share']:.0%} of the CPU time")
    available, total = figures["memory_available_bytes"], figures["memory_total_bytes"]
    if available is not None and total and available < MEMORY_LIMIT * total:
        found.append(
            f"only {available / 2**30:.1f} of {total / 2**30:.1f} GiB of memory are available"
        )
    return found


def throttled(before: int | None, root: Path = Path("/")) -> tuple[int | None, list[str]]:
    """Thermal throttling since ``before``: (events during the run or None, warnings)."""
    now = throttle_events(root)
    if before is None or now is None:
        return None, []
    events = max(0, now - before)
    if not events:
        return 0, []
    return events, [f"the CPUs slowed down for heat {events} times during the run"]


def throttle_events(root: Path = Path("/")) -> int | None:
    """Thermal throttle events of all cores and packages since boot; None: not counted here."""
    values = []
    for path in (root / "sys/devices/system/cpu").glob("cpu*/thermal_throttle/*_throttle_count"):
        text = _read(path).strip()
        if text.isdigit():
            values.append(int(text))
    return sum(values) if values else None


def cpu_times(stat: str) -> tuple[int, int, int]:
    """(busy, steal, total) ticks of all CPUs from the text of /proc/stat; zeros without it."""
    for line in stat.splitlines():
        if line.startswith("cpu "):
            ticks = [int(field) for field in line.split()[1:9]] + [0] * 8
            idle, steal = ticks[3] + ticks[4], ticks[7]
            total = sum(ticks[:8])
            return total - idle - steal, steal, total
    return 0, 0, 0


def shares(before: tuple[int, int, int], after: tuple[int, int, int]) -> tuple[float, float]:
    """(busy share, steal share) of all CPU time between two looks."""
    total = after[2] - before[2]
    if total <= 0:
        return 0.0, 0.0
    return max(0, after[0] - before[0]) / total, max(0, after[1] - before[1]) / total


def all_cpu_s(root: Path = Path("/")) -> tuple[float, float]:
    """(used or stolen, all) CPU seconds of the host since boot."""
    busy, steal, total = cpu_times(_read(root / "proc/stat"))
    ticks = os.sysconf("SC_CLK_TCK")
    return (busy + steal) / ticks, total / ticks


def foreign_share(before: tuple[float, float], after: tuple[float, float], own_s: float) -> float:
    """Share of all CPU time, 0..1, between two looks that others than ``own_s`` seconds took."""
    total = after[1] - before[1]
    if total <= 0:
        return 0.0
    return round(min(1.0, max(0.0, (after[0] - before[0] - own_s) / total)), 4)


def memory_figures(meminfo: str) -> dict[str, int]:
    """/proc/meminfo in bytes."""
    figures = {}
    for line in meminfo.splitlines():
        name, _colon, value = line.partition(":")
        fields = value.split()
        if fields and fields[0].isdigit():
            figures[name] = int(fields[0]) * (1024 if fields[1:] == ["kB"] else 1)
    return figures


def _load(text: str) -> float | None:
    try:
        return float(text.split()[0])
    except (IndexError, ValueError):
        return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
