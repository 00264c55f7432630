# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe: one fixed read-only POSIX script, and the reading of what it prints.

It costs a host one shell and a handful of reads, no module and no Python. Everything that can
change behind our back and would change a result goes into the fingerprint.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import BenchfleetError
from .evidence import valid_run_id

BEGIN, STATE, END = "BENCHFLEET-PROBE-BEGIN", "BENCHFLEET-PROBE-STATE", "BENCHFLEET-PROBE-END"
LIMIT = 8 << 20

_SCRIPT = r"""
h=$1; shift
case $h in "~") h=$HOME;; "~/"*) h=$HOME/${h#??};; esac
case $h in *"
"*) h=;; esac
r() { [ -r "$2" ] && IFS= read -r v < "$2" && printf '%s=%s\n' "$1" "$v"; }
echo; echo BENCHFLEET-PROBE-BEGIN
printf 'home=%s\n' "$h"
r boot_id /proc/sys/kernel/random/boot_id
IFS= read -r n < /proc/sys/kernel/hostname; printf 'hostname=%s\n' "$n"
m=; [ -r /etc/machine-id ] && IFS= read -r m < /etc/machine-id
i=$n-$(printf '%.8s' "${m:-none}"); printf 'host_id=%s\n' "$i"
r kernel /proc/sys/kernel/osrelease
r kernel_build /proc/sys/kernel/version
r bios /sys/class/dmi/id/bios_version
r product /sys/class/dmi/id/product_name
r nvidia /proc/driver/nvidia/version
r amdgpu /sys/module/amdgpu/version
r cpu_quota /sys/fs/cgroup/cpu.max
r memory_limit /sys/fs/cgroup/memory.max
r cpus_online /sys/devices/system/cpu/online
r smt /sys/devices/system/cpu/smt/active
r governor /sys/devices/system/cpu/cpu0/cpufreq/scaling_governor
r boost /sys/devices/system/cpu/cpufreq/boost
r no_turbo /sys/devices/system/cpu/intel_pstate/no_turbo
while IFS=: read -r k v; do case $k in
"model name"*|"CPU part"*) printf 'cpu=%s\n' "${v# }"; break;;
esac; done < /proc/cpuinfo
while IFS=: read -r k v; do case $k in
Cpus_allowed_list) printf 'cpus_allowed=%s\n' "$v"; break;;
esac; done < /proc/self/status
while read -r k v x; do case $k in
MemTotal:) printf 'memory_gib=%s\n' "$(( (v + 524288) / 1048576 ))"; break;;
esac; done < /proc/meminfo
while IFS='=' read -r k v; do case $k in
ID) printf 'os_id=%s\n' "$v";;
VERSION_ID) printf 'os_version=%s\n' "$v";;
esac; done < /etc/os-release
printf 'machine=%s\n' "$(uname -m)"
for p in "$@"; do stat -L -c 'path=%s:%Y:%n' -- "$p" 2>/dev/null; done
echo BENCHFLEET-PROBE-STATE
cat "$h/hosts/$i/state.json" 2>/dev/null
echo; echo BENCHFLEET-PROBE-END
"""
_FINGERPRINT = (
    *("kernel", "kernel_build", "bios", "product", "nvidia", "amdgpu", "cpu_quota", "memory_limit"),
    *("cpus_online", "smt", "governor", "boost", "no_turbo", "cpu", "cpus_allowed", "memory_gib"),
    *("os_id", "os_version", "machine"),
)


@dataclass(frozen=True)
class Probe:
    """What the probe read: `home` and `host_dir` (absolute, on the host), `boot_id`, `fingerprint`,
    `state` (our own state file), `paths` (path -> "size:mtime" of the user's files that exist)."""

    home: str
    host_dir: str
    boot_id: str
    fingerprint: dict[str, str]
    state: dict[str, Any]
    paths: dict[str, str] = field(default_factory=dict)


def command(home: str, paths: Sequence[str]) -> str:
    """Return the shell command of the probe for a home folder and the user's files on the host."""
    return shlex.join(["/bin/sh", "-c", _SCRIPT, "probe", home, *paths])


def parse(output: str) -> Probe:
    """Read what the probe printed, whatever a login shell printed around it.

    Raises BenchfleetError when the answer is not complete, showing the start of what came instead.
    """
    text = output.replace("\r\n", "\n")
    if len(text) > LIMIT or f"\n{END}" not in text or BEGIN not in text:
        shown = re.sub(r"[^\x20-\x7e]+", " ", text).strip()[:200] or "nothing"
        raise BenchfleetError(f"the host did not answer the probe; it printed: {shown}")
    body = text.rsplit(BEGIN, 1)[1].split(f"\n{END}", 1)[0]
    facts, _sep, state_text = body.partition(f"\n{STATE}\n")
    values: dict[str, str] = {}
    paths: dict[str, str] = {}
    for line in facts.split("\n"):
        key, sep, value = line.partition("=")
        if key == "path" and value.count(":") >= 2:
            size, mtime, path = value.split(":", 2)
            paths[path] = f"{size}:{mtime}"
        elif sep:
            values.setdefault(key, value.strip().strip('"'))
    home, host_id = values.get("home", ""), values.get("host_id", "")
    if not re.fullmatch(r"/[^\x00-\x1f\x7f\ufffd]*", home) or not re.fullmatch(
        r"[A-Za-z0-9][A-Za-z0-9._-]*", host_id
    ):
        raise BenchfleetError(
            f"the host answered the probe with an unusable home ({home!r}) or name ({host_id!r})."
        )
    return Probe(
        home=home,
        host_dir=f"{home}/hosts/{host_id}",
        boot_id=values.get("boot_id", ""),
        fingerprint={k: values[k] for k in _FINGERPRINT if k in values},
        state=_state(state_text),
        paths=paths,
    )


def _state(text: str) -> dict[str, Any]:
    """Return the host's state file with only what has the right shape: the host is not trusted.

    Job and run ids become parts of paths here, so each must be a plain name.
    """
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError):
        return {}
    jobs, runs = (
        (value.get(k) for k in ("jobs", "runs")) if isinstance(value, dict) else (None,) * 2
    )
    return {
        "jobs": {k: j for k, j in jobs.items() if _is_job(k, j)} if isinstance(jobs, dict) else {},
        "runs": {d: r for d, r in runs.items() if is_name(r)} if isinstance(runs, dict) else {},
    }


def is_name(text: Any) -> bool:
    """Return whether what a host calls a job or a run can be a part of a path."""
    return isinstance(text, str) and valid_run_id(text)


def _is_job(name: str, job: Any) -> bool:
    return (
        is_name(name)
        and isinstance(job, dict)
        and isinstance(job.get("digests", []), list)
        and isinstance(job.get("pid", 0), (int, type(None)))
    )
