# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host's state file and its jobs: submit, attach, recover.

``<host_dir>/state.json`` is small, replaced atomically under a lock, and shared with
provisioning, whose keys are kept as they are.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import Any, Dict, Iterator

from . import lock, process, records

KEPT_JOBS = 20  # finished jobs that stay listed
START_TIMEOUT_S = 10.0
UNFINISHED = ("starting", "waiting", "running")

Json = Dict[str, Any]


@contextlib.contextmanager
def locked(host_dir: Path) -> Iterator[Json]:
    """The state under its lock; what the block changed is written when it ends without error."""
    host_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (host_dir / "state.lock").open("a", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        state = read(host_dir)
        before = repr(state)
        yield state
        if repr(state) != before:
            save(host_dir, state)


def read(host_dir: Path) -> Json:
    """The state, with its own keys present; a file that is missing or damaged counts as empty."""
    state = records.read_json(host_dir / "state.json") or {"format": 1}
    for key in ("jobs", "runs", "envs", "artifacts"):
        if not isinstance(state.get(key), dict):
            state[key] = {}
    return state


def save(host_dir: Path, state: Json) -> None:
    """Write the state; of the finished jobs the newest stay. Call it under the lock."""
    jobs = state["jobs"]
    finished = [name for name in jobs if jobs[name]["state"] not in UNFINISHED]
    for name in sorted(finished, key=lambda job: jobs[job].get("updated") or "")[:-KEPT_JOBS]:
        del jobs[name]
    records.write_json(host_dir / "state.json", state)


def update_job(host_dir: Path, job_id: str, entry: Json, runs: dict[str, str]) -> bool:
    """Record a job's entry and its finished runs. False: the job was given up meanwhile.

    Only a job that has not recorded itself yet can have been given up (started too slowly).
    """
    with locked(host_dir) as state:
        old = state["jobs"].get(job_id)
        if old is not None and old["state"] not in UNFINISHED:
            return False
        state["jobs"][job_id] = {**(old or {}), **entry, "updated": records.utc(time.time())}
        state["runs"].update(runs)
    return True


def job_dir(host_dir: Path, job_id: str) -> Path:
    """Where a job's own files are."""
    return host_dir / "jobs" / job_id


def is_alive(host_dir: Path, job_id: str, entry: Json, boot_id: str) -> bool:
    """Whether a job's supervisor runs, by what the state or the job's own status says of it."""
    status = records.read_json(job_dir(host_dir, job_id) / "status.json") or {}
    for facts in (status, entry):
        same_boot = facts.get("boot_id") == boot_id
        if same_boot and process.alive(facts.get("pid"), facts.get("pid_start")):
            return True
    return False


def recover(host_dir: Path, boot_id: str) -> list[Json]:
    """Tidy up after jobs that died: [{job_id, reason, runs: [run_id]}]; nothing left to do: [].

    Their unfinished runs end as "lost" with a manifest, so that they can be collected; what a
    harness left running is killed.
    """
    if not host_dir.is_dir():
        return []
    with locked(host_dir) as state:
        return _recover(host_dir, boot_id, state)


def _recover(host_dir: Path, boot_id: str, state: Json) -> list[Json]:
    lost = []
    for job_id, entry in state["jobs"].items():
        if entry["state"] in UNFINISHED and not is_alive(host_dir, job_id, entry, boot_id):
            lost.append(_bury(host_dir, boot_id, state, job_id))
    return lost


def _bury(host_dir: Path, boot_id: str, state: Json, job_id: str) -> Json:
    """Finish the records of one dead job."""
    folder = job_dir(host_dir, job_id)
    status = records.read_json(folder / "status.json") or {}
    entry = state["jobs"][job_id]
    ended: list[Json] = status.get("runs") or []
    if (status.get("boot_id") or entry.get("boot_id")) != boot_id:
        reason = "the host was rebooted while the job ran"
    elif status:
        reason = "the job's supervisor was killed"
        process.kill_marked(f"BENCHFLEET_STATUS={folder / 'progress'}")
    else:
        reason = "the job did not start; see supervisor.log in its folder"
    current = status.get("current")
    finished = []
    if current and _finish_run(host_dir, current, reason):
        finished.append(current["run_id"])
        end = (records.read_json(_run_dir(host_dir, current) / "result.json") or {}).get("end")
        ended.append({key: current[key] for key in ("digest", "run_id", "mode")})
        ended[-1].update(end=end, reason=reason)
    for run in ended:
        if run.get("run_id"):
            state["runs"][run["digest"]] = run["run_id"]
    status.update(state="failed", current=None, waiting_for=None, last_trouble=reason, runs=ended)
    if folder.is_dir():
        records.write_json(folder / "status.json", {"job_id": job_id, **status})
        with contextlib.suppress(FileNotFoundError):
            (folder / "reserve").unlink()
    entry.update(state="failed", last_trouble=reason, updated=records.utc(time.time()))
    return {"job_id": job_id, "reason": reason, "runs": finished}


def _run_dir(host_dir: Path, current: Json) -> Path:
    return host_dir / "runs" / str(current["run_id"])


def _finish_run(host_dir: Path, current: Json, reason: str) -> bool:
    """Give a run that was under way its result and manifest. False: it has no folder."""
    folder = _run_dir(host_dir, current)
    if not folder.is_dir():
        return False
    if not (folder / "manifest.json").exists():
        result: Json = {
            "end": "lost",
            "exit_code": None,
            "signal": None,
            "started": current.get("started"),
            "finished": None,
            "elapsed_s": None,
            "cpu_s": None,
            "reason": reason,
        }
        records.finalise(folder, None, result)
    return True


def submit(host_dir: Path, job: Json, python: str, src: str) -> Json:
    """Start a job unless its cells are all under way: {job_id, started, attached, busy}.

    Cells that a living job works on are left to it (``attached`` names those jobs). ``busy`` is
    the holder of the measurement lock before the start, None when the host is free. ``job`` is
    job.json without ``host_dir`` and ``boot_id``, which are filled in. Raises OSError when the
    supervisor cannot be started and TimeoutError when it does not report within 10 s.
    """
    boot = process.boot_id()
    with locked(host_dir) as state:
        _recover(host_dir, boot, state)
        busy = lock.holder(job.get("lock", lock.NAME))
        taken = {
            digest: job_id
            for job_id, entry in state["jobs"].items()
            if entry["state"] in UNFINISHED
            for digest in entry["digests"]
        }
        digests = [cell["digest"] for cell in job["cells"]]
        answer: Json = {
            "job_id": job["job_id"],
            "started": False,
            "attached": sorted({taken[digest] for digest in digests if digest in taken}),
            "busy": busy,
        }
        cells = [cell for cell in job["cells"] if cell["digest"] not in taken]
        if cells:
            full = {**job, "cells": cells, "host_dir": str(host_dir), "boot_id": boot}
            _start(host_dir, state, full, python, src)
            answer["started"] = True
    return answer


def _start(host_dir: Path, state: Json, job: Json, python: str, src: str) -> None:
    """Write job.json, enter the job into the state, start its supervisor, see it report."""
    job_id = job["job_id"]
    folder = job_dir(host_dir, job_id)
    (host_dir / "runs").mkdir(mode=0o700, exist_ok=True)
    folder.mkdir(mode=0o700, parents=True)
    records.write_json(folder / "job.json", job)
    entry: Json = {
        "state": "starting",
        "pid": None,
        "pid_start": None,
        "boot_id": job["boot_id"],
        "digests": [cell["digest"] for cell in job["cells"]],
        "controller": job.get("controller"),
        "user": lock.user_name(os.geteuid()),
        "expected_end": None,
    }
    state["jobs"][job_id] = entry
    save(host_dir, state)
    argv = [python, "-B", src, str(folder)]
    process.detach(argv, folder / "supervisor.log", unit=f"benchfleet-{job_id}")
    status = _await_status(folder)
    if status is None:
        raise TimeoutError(
            f"the job's supervisor did not report within {START_TIMEOUT_S:g} s;"
            f" see {folder / 'supervisor.log'}"
        )
    for key in ("state", "pid", "pid_start", "expected_end"):
        entry[key] = status.get(key)
    if entry["state"] not in UNFINISHED:
        entry["state"] = "running"  # over already: it waits for our lock to say so itself


def _await_status(folder: Path) -> Json | None:
    end = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < end:
        status = records.read_json(folder / "status.json")
        if status is not None:
            return status
        time.sleep(0.02)
    return None
