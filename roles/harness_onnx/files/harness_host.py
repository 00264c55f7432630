# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the harness needs of its host: the cores it may use, the status file, one way to fail."""

from __future__ import annotations

import mmap
import os
import sys
import threading
from pathlib import Path
from typing import Any, NoReturn

STARTING, LOADING, WARMING_UP, MEASURING, EVALUATING, DONE = range(6)
REFUSED = 3
_dying = threading.Lock()


class HarnessError(Exception):
    """The model, the dataset or the configuration cannot be run as asked; the text says why."""


def die(error: BaseException) -> NoReturn:
    """End the process at once with one line: the only safe way out of a LoadGen callback.

    Several threads may fail at once; the first one speaks and the others wait for the end.
    """
    _dying.acquire()
    sys.stdout.flush()
    text = " ".join(str(error).split()) or "no details"
    sys.stderr.write(f"harness: {type(error).__name__} during the test: {text}\n")
    sys.stderr.flush()
    os._exit(1)


class Status:
    """Eight native u64 shared with the supervisor; stores cost no system call."""

    def __init__(self, path: str | None) -> None:
        """Map `path` (at least 64 bytes); None keeps the counters private."""
        memory: Any = bytearray(64)
        if path:
            with Path(path).open("r+b") as handle:
                memory = mmap.mmap(handle.fileno(), 64)
        self.words = memoryview(memory).cast("Q")

    def phase(self, phase: int, expected: int | None = None) -> None:
        """Store the phase and, where given, the number of samples expected."""
        self.words[0] = phase
        if expected is not None:
            self.words[3] = expected


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""


def _quota(folder: Path) -> float:
    """CPU limit of one cgroup folder, version 2 or 1, in cores; infinite where there is none."""
    limit, _, period = _read(folder / "cpu.max").partition(" ")
    if not limit:
        limit, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    if not limit.isdigit() or not period.isdigit():
        return float("inf")
    return int(limit) / int(period)


def cpu_quota(proc: Path = Path("/proc/self/cgroup"), top: Path = Path("/sys/fs/cgroup")) -> float:
    """Smallest CPU limit of this process's cgroup and those above it, in cores."""
    smallest = min(_quota(top), _quota(top / "cpu"))
    for line in _read(proc).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = top / "cpu" if controllers else top
        parts = [part for part in path.split("/") if part]
        for depth in range(1, len(parts) + 1):
            smallest = min(smallest, _quota(base.joinpath(*parts[:depth])))
    return smallest


def usable_cores(cpus: Path = Path("/sys/devices/system/cpu")) -> list[int]:
    """One logical CPU for each physical core this process may use, cut to the cgroup's limit."""
    if hasattr(os, "sched_getaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
    else:
        allowed = list(range(os.cpu_count() or 1))
    first_of: dict[str, int] = {}
    for cpu in allowed:
        siblings = _read(cpus / f"cpu{cpu}" / "topology" / "thread_siblings_list")
        first_of.setdefault(siblings or str(cpu), cpu)
    cores = sorted(first_of.values())
    quota = cpu_quota()
    return cores if quota >= len(cores) else cores[: max(1, int(quota))]
