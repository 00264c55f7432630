# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Watch a host's jobs from afar until they end."""

from __future__ import annotations

import json
import os
import shlex
import time
from dataclasses import dataclass, field
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.probe_script import is_name
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, module_result

MARK = "BENCHFLEET-WATCH"
REPEAT_S = 60.0
UNREADABLE_S = 60.0
# A look costs the SUT about 5 ms of CPU: one in 5 s is 0.1 % of one core, one in 60 s 0.01 %.
FIRST_S, SLOWEST_S, GROWTH = 5.0, 60.0, 1.15
_PHASES = ("starting", "loading", "warming up", "measuring", "evaluating accuracy", "done")


@dataclass
class Look:
    """One look at a job: its status file, the harness's counters, whether its process lives."""

    status: dict[str, Any]
    counters: list[int] = field(default_factory=list)
    alive: bool = False


class ActionModule(Stage):
    """Look in seldom, with one read, and show what changed. Several jobs are followed one after the
    other."""

    NAME = "watch"
    OPTIONS = {"patience": 3600}

    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the finished runs (digest -> run_id) of every job that does some of the host's
        cells."""
        found = session.read(host, "probe")
        started = session.read(host, "start") or {}
        jobs = [i["job"] for i in found["work"] if i["action"] == "attach"] + started.get(
            "attached", []
        )
        if started.get("job_id"):
            jobs.append(started["job_id"])
        runs: dict[str, str] = {}
        trouble = []
        for job in dict.fromkeys(jobs):
            status = self._follow(host, found["probe"], job, float(options["patience"]))
            if status.get("state") not in ("done", "failed"):
                status = self._bury(session, found["probe"], variables, job)
            runs |= {r["digest"]: r["run_id"] for r in status.get("runs", []) if r.get("run_id")}
            if status.get("state") == "failed":
                trouble.append(str(status.get("last_trouble") or "the job failed"))
        return {"changed": False, "runs": runs, "trouble": trouble}

    def _follow(
        self, host: str, probe: dict[str, Any], job: str, patience: float
    ) -> dict[str, Any]:
        """Look at one job until it ends or its process is gone; return its last status."""
        folder = f"{probe['host_dir']}/jobs/{job}"
        parent, silent_since, shown, said = os.getppid(), None, "", 0.0
        wait = 1.0
        while True:
            try:
                look = self._look(folder)
                silent_since = None
            except (AnsibleConnectionFailure, BenchfleetError) as e:
                look = None
                silent_since = silent_since or time.monotonic()
                self._connection.close()
                # A host that answers, but no longer has the job's folder, will not grow it again.
                limit = patience if isinstance(e, AnsibleConnectionFailure) else UNREADABLE_S
                if time.monotonic() - silent_since > limit:
                    raise BenchfleetError(
                        f"no answer for {limit:.0f} s ({e});"
                        " the job goes on there: the same command finds it again."
                    ) from None
                line = "no answer; the job goes on there, trying again"
            if look:
                line = _line(look)
                if look.status.get("state") in ("done", "failed") or not look.alive:
                    return look.status
            # A new cell or new trouble is shown at once; counters alone now and then.
            key = line.partition(" samples")[0].rstrip("0123456789, ") if look else line
            if key != shown or time.monotonic() - said > REPEAT_S:
                self.say(host, line)
                shown, said = key, time.monotonic()
            self.pause(wait, parent)
            wait = min(SLOWEST_S, max(FIRST_S, wait * GROWTH))

    def _look(self, folder: str) -> Look:
        quoted = shlex.quote(folder)
        script = (
            f"cd {quoted} && echo; echo {MARK}; cat status.json; echo; echo {MARK};"
            f" od -An -v -td8 -N 32 progress 2>/dev/null; echo {MARK}; "
            " p=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p' status.json | head -n 1);"
            f' read -r s < "/proc/$p/stat" && echo "$s"; echo {MARK}'
        )
        _code, out, err = self.command(shlex.join(["/bin/sh", "-c", script]))
        parts = out.split(MARK)
        if len(parts) < 5:
            raise BenchfleetError(f"the job's status cannot be read: {(err or out).strip()[-200:]}")
        status = _status(parts[1])
        fields = parts[3].rpartition(")")[2].split()
        alive = len(fields) > 19 and fields[19] == str(status.get("pid_start"))
        return Look(status, [int(n) for n in parts[2].split() if n.isdecimal()], alive)

    def _bury(
        self, session: Session, probe: dict[str, Any], variables: dict[str, Any], job: str
    ) -> dict[str, Any]:
        """Record the unfinished run of a job whose process is gone as lost."""
        arguments = {
            "session": str(session.folder),
            "job": {"host_dir": probe["host_dir"], "job_id": job},
            "recover": True,
        }
        result = module_result(
            self._execute_module(
                module_name="benchfleet.mlperf.start", module_args=arguments, task_vars=variables
            )
        )
        for lost in result["recovered"]:
            self.say(
                probe["host_dir"].rpartition("/")[2],
                f"job {lost['job_id']} is lost: {lost['reason']}",
            )
        return self._look(f"{probe['host_dir']}/jobs/{job}").status


def _status(text: str) -> dict[str, Any]:
    """Return a job's status file. The host is not trusted: what has a wrong shape is left out.

    Raises BenchfleetError when it is no JSON object.
    """
    try:
        status = json.loads(text)
    except (ValueError, RecursionError):
        status = None
    if not isinstance(status, dict):
        raise BenchfleetError("the job's status file is damaged")
    runs = status.get("runs")
    good = [
        r
        for r in (runs if isinstance(runs, list) else [])
        if isinstance(r, dict) and isinstance(r.get("digest"), str) and is_name(r.get("run_id"))
    ]
    parts = {n: status[n] for n in ("current", "waiting_for") if isinstance(status.get(n), dict)}
    return status | {"runs": good, "current": None, "waiting_for": None} | parts


def _line(look: Look) -> str:
    """Return one line on where a job is."""
    status = look.status
    if status.get("state") == "waiting":
        holder = status.get("waiting_for") or {}
        until = f" until about {holder['until']}" if holder.get("until") else ""
        return (
            f"waits: {holder.get('user', 'someone')} measures {holder.get('what', 'here')}{until}"
        )
    current = status.get("current") or {}
    words = [f"cell {status.get('k', 0)} of {status.get('n', 0)}"]
    if current:
        words.append(f"{current.get('benchmark')} {current.get('scenario')} {current.get('mode')}")
    if len(look.counters) >= 3 and 0 <= look.counters[0] < len(_PHASES):
        samples = f" {look.counters[2]:,} samples" if look.counters[2] else ""
        words.append(_PHASES[look.counters[0]] + samples)
    if status.get("expected_end"):
        words.append(f"end expected {str(status['expected_end'])[11:19]} UTC")
    if status.get("last_trouble"):
        words.append(f"last trouble: {status['last_trouble']}")
    return ", ".join(words)
