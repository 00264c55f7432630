# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What LoadGen itself needs of memory: it makes all queries of a run before the first is issued.

A fast model at official length is millions of them: 25 us a query for 600 s needs 10 GB, and the
kernel ends the run without a word to LoadGen's logs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Mapping

from .user_conf import loadgen_scenario

# Bytes per query at the peak, measured with LoadGen 6.0.17 and up to 6 million queries with nothing
# behind them (Offline: per sample, its list for Python included), plus a tenth. SingleStream's
# queries lie in one block, which is copied to one of twice the size when it is full: for it, per
# query of the next power of two, and more than was measured, as 36 million took over 22 GB.
BYTES = {"SingleStream": 400, "MultiStream": 930, "Offline": 240, "Server": 560}
OFFICIAL_MS = 600000  # LoadGen's mlperf.conf, where the settings name no length
OFFLINE_SURPLUS = 1.1  # samples that LoadGen makes per sample that target_qps asks for


def queries(scenario: str, keys: Mapping[str, Any]) -> int:
    """How many queries (Offline: samples) LoadGen makes for a run with these user.conf keys."""
    name = loadgen_scenario(scenario)
    length_ms = float(keys.get("min_duration", OFFICIAL_MS))
    if name in ("SingleStream", "MultiStream"):
        latency_ms = float(keys.get("target_latency") or 0)
        count = length_ms / latency_ms if latency_ms else 0.0
    else:
        count = float(keys.get("target_qps") or 0) * length_ms / 1000
        count *= OFFLINE_SURPLUS if name == "Offline" else 1.0
    return int(max(count, float(keys.get("min_query_count") or 0)))


def needed(scenario: str, keys: Mapping[str, Any]) -> int:
    """Bytes that LoadGen's queries of such a run take."""
    name, count = loadgen_scenario(scenario), queries(scenario, keys)
    if name == "SingleStream" and count:
        count = 1 << (count - 1).bit_length()
    return count * BYTES[name]


def available(root: Path = Path("/")) -> int | None:
    """Bytes that a process may still take: the kernel's estimate, or less in a limited cgroup."""
    found = []
    try:
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
        group = root / "sys/fs/cgroup"
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        if limit.isdigit():
            used = (group / "memory.current").read_text(encoding="ascii")
            found.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass
    return min(found, default=None)


def shortage(scenario: str, keys: Mapping[str, Any], free: int | None) -> str | None:
    """Why a run with these keys cannot fit into `free` bytes, None where it can."""
    need = needed(scenario, keys)
    if free is None or need <= 0.9 * free:
        return None
    return (
        f"LoadGen makes all {queries(scenario, keys):,} queries of this run beforehand, which takes"
        f" about {need / 1e9:.1f} GB; {free / 1e9:.1f} GB of memory are free"
    )
