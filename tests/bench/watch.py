#!/usr/bin/env python3
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What our watcher costs a SUT while it measures, by CPU time of all that a look starts there.

    python tests/bench/watch.py [--looks 100]

Needs an interpreter with ansible-core, and sshd (its own, on 127.0.2.1). One look is the watcher's
own command, sent over an open connection to a folder with a job's files; the CPU time is what the
host's sshd and all its children used. What the user's login shell takes to run `true` is measured
in the same way and shown apart, for it is the host's (pyenv or conda in a start-up file cost more
than all else). The share is that of a run of 600 s, with the watcher's own intervals. Exit 1 above
0.2 % of one core.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from common import ROOT, loopback_hosts

sys.path.insert(0, str(ROOT / "collections"))
from ansible_collections.benchfleet.mlperf.plugins.action import watch

GOAL = 0.002
LENGTH_S = 600.0


class Looker(watch.ActionModule):  # type: ignore[misc]
    """The watcher with a plain ssh in place of Ansible's connection."""

    def __init__(self, ssh: list[str]) -> None:
        self._ssh = ssh

    def command(self, text: str) -> tuple[int, str, str]:
        """Run a command on the host."""
        done = subprocess.run([*self._ssh, text], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr


def host_cpu(folder: Path) -> float:
    """CPU seconds of the sshd that is configured in `folder` and of its finished children."""
    total = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            line = (stat.parent / "cmdline").read_bytes().decode().replace("\0", " ")
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if f"-f {folder}/config" in line:
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


def looks_in(seconds: float) -> int:
    """How often the watcher looks during a job of `seconds`, by its own intervals."""
    count, at, wait = 0, 0.0, 1.0
    while at < seconds:
        count += 1
        at += wait
        wait = min(watch.SLOWEST_S, max(watch.FIRST_S, wait * watch.GROWTH))
    return count


def job_folder(folder: Path) -> Path:
    """Make a folder with the files that a look reads, as a running job has them."""
    job = folder / "job"
    job.mkdir()
    status: dict[str, Any] = {
        "state": "running",
        "pid": os.getpid(),
        "pid_start": 0,
        "k": 3,
        "n": 12,
    }
    status["runs"] = [
        {"digest": "0" * 64, "run_id": "20260101T000000Z-00000000", "end": "exited"}
    ] * 8
    (job / "status.json").write_text(json.dumps(status))
    (job / "progress").write_bytes(bytes(64))
    return job


def cpu_of(ssh: list[str], folder: Path, act: Callable[[], object], times: int) -> float:
    """CPU seconds on the host of one `act`, the mean of `times` over one connection."""
    subprocess.run([*ssh, "true"], capture_output=True, check=True)
    begun = host_cpu(folder)
    for _time in range(times):
        act()
    subprocess.run([*ssh[:-1], "-O", "exit", ssh[-1]], capture_output=True, check=False)
    time.sleep(0.5)  # until sshd has reaped the connection's process
    return (host_cpu(folder) - begun) / times


def costs(folder: Path, looks: int) -> tuple[float, float]:
    """CPU seconds of one look, and of a login shell that does nothing."""
    job = job_folder(folder)
    with loopback_hosts(folder, 1) as hosts:
        control = ["-o", f"ControlPath={folder}/control", "-o", "LogLevel=ERROR"]
        target = ["-p", str(hosts.port), "-i", str(folder / "user"), hosts.addresses[0]]
        ssh = ["ssh", *hosts.ssh_args().split(), *control, *target]
        looker = Looker(ssh)
        look = cpu_of(ssh, folder, lambda: looker._look(str(job)), looks)
        shell = cpu_of(ssh, folder, lambda: looker.command("true"), looks)
    return look, shell


def main() -> int:
    """Measure and print the share of one core for two lengths of job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--looks", type=int, default=100)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="benchfleet-watch-") as folder:
        look, shell = costs(Path(folder), arguments.looks)
    own = look - shell
    share = looks_in(LENGTH_S) * own / LENGTH_S
    print(
        f"one look: {look * 1000:.1f} ms of CPU on the SUT,"
        f" {shell * 1000:.1f} ms of it its login shell"
    )
    print(
        f"run of {LENGTH_S:.0f} s: {looks_in(LENGTH_S)} looks,"
        f" {share:.3%} of one core (goal: {GOAL:.1%})"
    )
    return 0 if share <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
