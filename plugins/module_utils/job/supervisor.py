# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that works through a host's cells, one after the other, under the lock.

It runs each harness and writes down what happened: exit codes, signals, times. Whether a result
is VALID is for the controller to say.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Dict, Mapping

from . import calibration, evaluation, lock, memory, process, quiet, records, state, user_conf
from .loop import ChildEnd, Loop
from .request import Cell, Job, read_job

Json = Dict[str, Any]
KILL_LIMIT_S = 60.0  # a driver may hold a killed process this long
QUIET_LOOKS = 5
QUIET_PAUSE_S = 1.0
DISK_FULL_BYTES = 64 * 1024  # with less than this left, what the harness wrote cannot be trusted


@dataclass(frozen=True)
class Outcome:
    """The process facts of a run: result.json."""

    end: str  # exited, signalled, timeout, refused, error
    reason: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    started: float | None = None
    finished: float | None = None
    elapsed_s: float | None = None
    cpu_s: float | None = None

    def as_json(self) -> Json:
        """With the moments as UTC text."""
        data = asdict(self)
        for name in ("started", "finished"):
            data[name] = None if data[name] is None else records.utc(data[name])
        return data


class Refused(Exception):
    """The run must not start; the text says why."""


def main(job_dir: str) -> int:
    """Run the job in ``job_dir``: 0 when it worked through its cells, 1 when not."""
    os.umask(0o077)
    folder = Path(job_dir)
    try:
        job = read_job(records.read_json(folder / "job.json") or {})
    except ValueError as error:
        records.write_json(folder / "status.json", {"state": "failed", "last_trouble": str(error)})
        return 1
    supervisor = Supervisor(job, folder)
    try:
        supervisor.run()
    except OSError as error:
        try:
            supervisor.fail(f"the job stopped: {error}")
        except OSError as again:  # not even that can be written; `recover` will find the job
            sys.stderr.write(f"{again}\n")
    return 0 if supervisor.state == "done" else 1


class Supervisor:
    """One job, from taking the lock to its last record."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job = job
        self.state = "waiting"
        self._folder = folder
        self._loop = Loop()
        self._reserve = records.Reserve(folder / "reserve")
        self._progress = folder / "progress"
        self._pid_start = process.start_ticks(os.getpid())
        self._user = lock.user_name(os.geteuid())
        self._started = time.time()
        self._waiting_for: lock.Holder | None = None
        self._current: Json | None = None
        self._k = 0
        self._runs: list[Json] = []
        self._trouble: str | None = None
        self._hints: dict[tuple[str, ...], calibration.Hint] = {}

    def run(self) -> None:
        """The whole job; leaves status.json, state.json and a run directory per cell."""
        process.become_subreaper()
        self._reserve.create()
        self._publish()
        if not self._register():
            self.fail("the job was given up before it had started")
            return
        trouble = self._take_lock()
        if trouble is not None:
            self.fail(trouble)
            return
        self.state = "running"
        self._waiting_for = None
        state.recover(self.job.host_dir, self.job.boot_id)
        for k, cell in enumerate(self.job.cells, start=1):
            self._k = k
            if self._loop.stopped_by is None:
                self._work(cell)
        stopped, done, planned = self._loop.stopped_by, len(self._runs), len(self.job.cells)
        if stopped and (done < planned or self._runs[-1]["end"] == "signalled"):
            self.fail(f"stopped by {stopped} in cell {done} of {planned}")
        else:
            self._end("done")

    def fail(self, reason: str) -> None:
        """End the job as failed."""
        sys.stderr.write(f"{reason}\n")
        self._trouble = reason
        self._end("failed")

    def _end(self, final: str) -> None:
        self.state, self._current, self._waiting_for = final, None, None
        self._reserve.free()
        self._publish()
        self._register()

    def _take_lock(self) -> str | None:
        """Take the measurement lock, waiting if so asked; the text says why it was not taken."""
        deadline = time.monotonic() + self.job.wait_limit_s
        while True:
            listener = lock.acquire(self.job.lock_name)
            if listener is not None:
                self._loop.serve(listener, self._answer)
                return None
            reached = lock.connect(self.job.lock_name)
            if reached is not None:
                peer, holder = reached
                if self.job.on_busy == "fail":
                    return f"the host is busy: {describe(holder)}"
                self._waiting_for = holder
                self._publish()
                self._loop.wait_closed(peer, deadline)
            if self._loop.stopped_by:
                return f"stopped by {self._loop.stopped_by} while waiting for the host"
            if time.monotonic() >= deadline:
                who = describe(self._waiting_for or {})
                return f"waited {self.job.wait_limit_s:g} s for the host: {who}"

    def _answer(self) -> lock.Holder:
        """What the lock tells an asker."""
        what = self.job.cells[self._k - 1].what if self._k else "starting"
        return {
            "user": self._user,
            "uid": os.geteuid(),
            "pid": os.getpid(),
            "job_id": self.job.job_id,
            "controller": self.job.controller,
            "what": f"{what} ({self._k} of {len(self.job.cells)})",
            "until": self._expected_end(),
        }

    def _expected_end(self) -> str:
        """When the job should be over, if the rest takes as long as planned."""
        rest = sum(cell.expected_s for cell in self.job.cells[self._k :])
        if self._current:
            begun = self._current["begun"] + self.job.cells[self._k - 1].expected_s
            return records.utc(max(begun, time.time()) + rest)
        return records.utc(time.time() + rest)

    def _publish(self) -> None:
        current = self._current
        if current is not None:
            current = {name: value for name, value in current.items() if name != "begun"}
        status: Json = {
            "job_id": self.job.job_id,
            "state": self.state,
            "pid": os.getpid(),
            "pid_start": self._pid_start,
            "boot_id": self.job.boot_id,
            "waiting_for": self._waiting_for,
            "k": max(1, self._k),
            "n": len(self.job.cells),
            "current": current,
            "expected_end": self._expected_end(),
            "started": records.utc(self._started),
            "updated": records.utc(time.time()),
            "runs": self._runs,
            "last_trouble": self._trouble,
            "controller": self.job.controller,
            "user": self._user,
        }
        self._reserve.write(self._folder / "status.json", status)

    def _register(self) -> bool:
        """Bring state.json up to date. False: the job has been given up."""
        entry: Json = {
            "state": self.state,
            "pid": os.getpid(),
            "pid_start": self._pid_start,
            "boot_id": self.job.boot_id,
            "digests": [cell.digest for cell in self.job.cells],
            "controller": self.job.controller,
            "user": self._user,
            "expected_end": self._expected_end(),
        }
        runs = {run["digest"]: run["run_id"] for run in self._runs if run["run_id"]}
        for _attempt in range(2):
            try:
                return state.update_job(self.job.host_dir, self.job.job_id, entry, runs)
            except OSError as error:
                if error.errno not in records.FULL:
                    raise
                self._reserve.disk_full = True
                self._reserve.free()
        return True

    # --- one cell -----------------------------------------------------------------------------

    def _work(self, cell: Cell) -> None:
        """Run one cell and record it, whatever happens to it."""
        if self._reserve.disk_full:
            self._note(cell, None, Outcome("refused", "disk full since an earlier run of this job"))
            self._publish()
            return
        now = time.time()
        folder = records.new_run_dir(self.job.host_dir / "runs", cell.digest, now)
        self._current = {
            "run_id": folder.name,
            **{name: cell.cell.get(name) for name in ("sut", "benchmark", "scenario")},
            "mode": cell.mode,
            "digest": cell.digest,
            "started": records.utc(now),
            "expected_end": records.utc(now + cell.expected_s),
            "begun": now,
        }
        self._publish()
        self._register()
        extra: Json = {}
        try:
            folder.mkdir(mode=0o700, parents=True)
            outcome = self._attempt(cell, folder, extra)
        except OSError as error:
            outcome = self._system_error(error)
        self._close(cell, folder, self._check_disk(folder, outcome), extra)

    def _attempt(self, cell: Cell, folder: Path, extra: Json) -> Outcome:
        """Prepare, then run once or calibrate. Raises OSError (disk full and the like)."""
        look = self._look()
        record = self._run_record(cell, folder, look)
        try:
            keys = self._resolve(cell, record)
            self._gate(cell, folder, look, keys)
            records.write_json(folder / "run.json", record)
            if cell.mode == "calibration":
                outcome = self._calibrate(cell, folder)
            else:
                files = _with_limit(cell, record["target"])
                outcome = self._execute(cell, folder, keys, files, cell.time_limit_s)
                outcome = self._evaluate(cell, folder, outcome, extra)
        except (Refused, ValueError) as error:
            if not (folder / "run.json").exists():
                records.write_json(folder / "run.json", record)
            return Outcome("refused", str(error))
        events, heat = quiet.throttled(look.get("throttle_events"))
        extra["quiet_host"] = {"throttle_events": events, "warnings": heat}
        return outcome

    def _look(self) -> Json:
        """Look at the host; where quiet is required, give the last run's traces time to settle."""
        if self.job.quiet_host == "off":
            return {"warnings": []}
        look = quiet.sample()
        for _attempt in range(QUIET_LOOKS - 1):
            if self.job.quiet_host != "require" or not look["warnings"]:
                break
            time.sleep(QUIET_PAUSE_S)
            look = quiet.sample()
        return look

    def _run_record(self, cell: Cell, folder: Path, look: Json) -> Json:
        status = str(self._progress)
        return {
            "format": 1,
            "run_id": folder.name,
            "job_id": self.job.job_id,
            "attempt": max(cell.attempt, self._attempts(cell)),
            "cell": cell.cell,
            "digest": cell.digest,
            "argv": records.fill(cell.argv, str(folder), status),
            "prefix": records.fill(cell.prefix, str(folder), status),
            "env": self._env(cell, folder),
            "links": cell.links,
            "accuracy_script": cell.accuracy if cell.mode == "accuracy" else None,
            "target": cell.target,
            "calibration": cell.cell.get("calibration_run"),
            "digests": cell.digests,
            "host": self.job.fingerprint,
            "quiet_host": look,
            "time_limit_s": cell.time_limit_s,
            "created": records.utc(time.time()),
        }

    def _attempts(self, cell: Cell) -> int:
        """How many run directories of a cell this host holds, those that were lost included."""
        runs = self.job.host_dir / "runs"
        return sum(1 for _run in runs.glob(f"*-{cell.digest[:8]}"))

    def _env(self, cell: Cell, folder: Path) -> dict[str, str]:
        given = records.fill(cell.env, str(folder), str(self._progress))
        return process.base_env({**given, "BENCHFLEET_STATUS": str(self._progress)})

    def _resolve(self, cell: Cell, record: Json) -> Json:
        """Find the target; return the user.conf keys. Raises Refused and ValueError."""
        if cell.mode == "calibration":
            user_conf.format_user_conf(cell.model, cell.scenario, cell.keys)
            return cell.keys
        if cell.calibration is not None:
            found = state.read(self.job.host_dir)["runs"].get(cell.calibration)
            if found is None:
                raise Refused("no target: its calibration has not been run on this host")
            result = records.read_json(self.job.host_dir / "runs" / found / "calibration.json")
            if not result or not result.get("target"):
                why = (result or {}).get("why") or "it did not finish"
                raise Refused(f"no target: calibration {found} found none ({why})")
            record.update(target=result["target"], calibration=found)
        keys = user_conf.apply_target(cell.scenario, cell.keys, record["target"])
        user_conf.format_user_conf(cell.model, cell.scenario, keys)
        return keys

    def _gate(self, cell: Cell, folder: Path, look: Json, keys: Json) -> None:
        """Raise Refused where the host cannot take this run now."""
        short = memory.shortage(cell.scenario, keys, memory.available())
        if short is not None and cell.mode == "performance":
            raise Refused(short)
        free = records.free_bytes(folder)
        if free < cell.min_free_bytes:
            raise Refused(
                f"{free / 1e6:.1f} MB free in {folder.parent},"
                f" this run may need {cell.min_free_bytes / 1e6:.1f} MB"
            )
        if self.job.quiet_host == "require" and look["warnings"]:
            raise Refused("the host is not quiet: " + "; ".join(look["warnings"]))

    def _execute(
        self, cell: Cell, folder: Path, keys: Json, files: Json, limit_s: float
    ) -> Outcome:
        """Run the harness once in ``folder``. Raises OSError and ValueError from preparing it."""
        conf = user_conf.format_user_conf(cell.model, cell.scenario, keys)
        inputs = {**files, "user.conf": conf}
        records.write_inputs(folder, inputs)
        for path in cell.folders:
            Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
        command = [*cell.prefix, *cell.argv]
        env = self._env(cell, folder)
        plain = {**env, **cell.env}  # the script fills the tokens in itself
        script = records.launch_script(folder.name, command, plain, sorted(inputs), cell.links)
        records.atomic_write(folder / "launch.sh", script)
        (folder / "launch.sh").chmod(0o700)
        self._new_progress()
        filled = records.fill(command, str(folder), str(self._progress))
        with records.linked(folder, cell.links):
            return self._run_program(filled, folder, env, limit_s)

    def _run_program(
        self,
        argv: list[str],
        folder: Path,
        env: Mapping[str, str],
        limit_s: float,
        printout: Path | None = None,
    ) -> Outcome:
        """Run one program to its end or its limit; it leaves nothing running.

        Its output goes to console.log; with ``printout`` what it prints goes there and only its
        complaints to accuracy.log. Raises OSError when there is no disk space for them.
        """
        kills = process.oom_kills()
        started, clock = time.time(), time.monotonic()
        console = folder / ("accuracy.log" if printout else "console.log")
        try:
            pid = process.start(argv, folder, env, console, printout)
        except OSError as error:
            if error.errno in records.FULL:
                raise
            return Outcome("error", f"cannot start {argv[0]}: {error.strerror or error}")
        child, outcome = self._wait(pid, clock + limit_s, limit_s)
        elapsed = time.monotonic() - clock
        notes = [outcome.reason] if outcome.reason else []
        if outcome.end == "signalled" and process.oom_kills() > kills:
            notes.append("the kernel killed processes for lack of memory meanwhile")
        left = process.kill_orphans()
        if left:
            notes.append(f"killed what it left running: {', '.join(left)}")
        return replace(
            outcome,
            reason="; ".join(notes) or None,
            exit_code=child.exit_code,
            signal=child.signal,
            started=started,
            finished=started + elapsed,
            elapsed_s=round(elapsed, 3),
            cpu_s=round(child.cpu_s, 3),
        )

    def _evaluate(self, cell: Cell, folder: Path, outcome: Outcome, extra: Json) -> Outcome:
        """After a good accuracy run: its accuracy script, then cut a log too large to go home."""
        if cell.mode != "accuracy" or outcome.end != "exited" or outcome.exit_code:
            return outcome
        if cell.accuracy:
            try:
                judged = self._run_accuracy_script(cell, folder)
            except evaluation.LogFault as error:
                return replace(outcome, end="error", reason=str(error))
            extra["accuracy_script"] = {
                name: getattr(judged, name) for name in ("end", "exit_code", "elapsed_s", "reason")
            }
            if judged.end != "exited" or judged.exit_code:
                why = judged.reason or f"exit code {judged.exit_code}"
                said = records.last_line(folder / "accuracy.log")
                text = f"the accuracy script failed: {why}{f' — {said}' if said else ''}"
                return replace(outcome, end="error", reason=text)
        originals = self.job.host_dir / "originals"
        whole = evaluation.cut(folder, originals, cell.log_limit)
        if whole:
            extra["accuracy_log"] = whole
        return outcome

    def _run_accuracy_script(self, cell: Cell, folder: Path) -> Outcome:
        spec = cell.accuracy or {}
        argv = records.fill(spec["argv"], str(folder), str(self._progress))
        if any(evaluation.TOKEN_DTYPE in word for word in argv):
            dtype = evaluation.token_dtype(folder / evaluation.LOG)
            argv = [word.replace(evaluation.TOKEN_DTYPE, dtype) for word in argv]
        env = process.base_env(records.fill(spec["env"], str(folder), str(self._progress)))
        text = folder / evaluation.TEXT
        with records.linked(folder, {**cell.links, **spec["links"]}):
            judged = self._run_program(argv, folder, env, cell.time_limit_s, text)
        if text.exists():
            evaluation.normalise(text)
        return judged

    def _wait(self, pid: int, deadline: float, limit_s: float) -> tuple[ChildEnd, Outcome]:
        """Wait for the harness; end it at its limit or when this job is told to stop."""
        child = self._loop.wait_child(pid, deadline)
        if child is not None:
            if child.signal is not None:
                return child, Outcome("signalled", f"killed by {_signal_name(child.signal)}")
            return child, Outcome("exited")
        stopped = self._loop.stopped_by
        process.signal_group(pid, signal.SIGTERM)
        grace = time.monotonic() + process.GRACE_S
        child = self._loop.wait_child(pid, grace, heed_stop=False)
        how = "ended by SIGTERM"
        if child is None:
            how = f"SIGTERM, and SIGKILL {process.GRACE_S:g} s later"
            process.signal_group(pid, signal.SIGKILL)
            killed = time.monotonic() + KILL_LIMIT_S
            child = self._loop.wait_child(pid, killed, heed_stop=False)
            if child is None:
                how += f", still not gone {KILL_LIMIT_S:g} s after that: stuck in the kernel"
        facts = child or ChildEnd(None, None, 0.0)
        if stopped:
            return facts, Outcome("signalled", f"stopped by {stopped} to the job ({how})")
        return facts, Outcome("timeout", f"still running at its limit of {limit_s:g} s ({how})")

    def _new_progress(self) -> None:
        """A fresh status file; an old harness that still maps the last one does no harm."""
        spare = self._progress.with_name(".progress.new")
        spare.write_bytes(b"\0" * records.STATUS_BYTES)
        spare.replace(self._progress)

    def _system_error(self, error: OSError) -> Outcome:
        """What the operating system refused, as an outcome."""
        if error.errno in records.FULL:
            self._reserve.disk_full = True
            self._reserve.free()
        return Outcome("error", f"{error.strerror or error}: {error.filename or 'writing'}")

    def _check_disk(self, folder: Path, outcome: Outcome) -> Outcome:
        """A run that ended on a full disk is an error, as its logs may lack anything."""
        try:
            free = records.free_bytes(folder if folder.is_dir() else self._folder)
        except OSError:
            return outcome
        if outcome.end == "refused" and not self._reserve.disk_full:
            return outcome
        if not self._reserve.disk_full and free >= DISK_FULL_BYTES:
            return outcome
        self._reserve.disk_full = True
        self._reserve.free()
        said = f"; the harness: {outcome.end} {outcome.reason or ''}".rstrip()
        text = f"disk full: {free} bytes free in {folder.parent}{said}"
        return replace(outcome, end="error", reason=text)

    def _close(self, cell: Cell, folder: Path, outcome: Outcome, extra: Json) -> None:
        """Result, manifest, state, status: from here on the run is finished and not touched."""
        written = False
        if folder.is_dir():
            try:
                written = records.finalise(folder, self._reserve, {**outcome.as_json(), **extra})
            except OSError as error:
                sys.stderr.write(f"{folder.name}: {error}\n")
        self._current = None
        self._note(cell, folder.name if written else None, outcome)
        self._register()
        self._publish()

    def _note(self, cell: Cell, run_id: str | None, outcome: Outcome) -> None:
        run: Json = {"digest": cell.digest, "run_id": run_id, "mode": cell.mode}
        self._runs.append({**run, "end": outcome.end, "reason": outcome.reason})
        if outcome.end != "exited" or outcome.exit_code:
            said = outcome.reason or f"exit code {outcome.exit_code}"
            self._trouble = f"{cell.what}: {outcome.end}: {said}"

    # --- calibration --------------------------------------------------------------------------

    def _calibrate(self, cell: Cell, folder: Path) -> Outcome:
        """Run trials until calibration decides; writes calibration.json either way."""
        duration = str(cell.cell.get("duration") or "test")
        names = tuple(str(cell.cell.get(key)) for key in ("sut", "benchmark", "implementation"))
        hint = self._hints.get(names, calibration.Hint())
        problem = calibration.Problem(cell.scenario, duration, cell.keys, hint)
        deadline = time.monotonic() + cell.time_limit_s
        trials: list[calibration.Trial] = []
        spent = Outcome("exited", exit_code=0, started=time.time(), elapsed_s=0.0, cpu_s=0.0)
        step = calibration.next_step(problem, trials)
        while isinstance(step, calibration.Next):
            place = folder / f"trial_{len(trials) + 1}"
            place.mkdir(mode=0o700)
            left = max(0.0, deadline - time.monotonic())
            before = quiet.all_cpu_s()
            outcome = self._execute(cell, place, step.settings, cell.files, left)
            foreign = quiet.foreign_share(before, quiet.all_cpu_s(), outcome.cpu_s or 0.0)
            spent = _add(spent, outcome, place.name)
            measured = _read_trial(place)
            if spent.end != "exited" or spent.exit_code or measured is None:
                why = spent.reason or f"{place.name} left no result; see its console.log"
                step = calibration.Decision(None, why)
                break
            trials.append(calibration.Trial(step.settings, measured, foreign))
            step = calibration.next_step(problem, trials)
        self._hints[names] = _learn(hint, cell.scenario, trials)
        target = step.target
        report: Json = {"scenario": cell.scenario, "target": target, "why": step.why}
        report.update(trials=[trial.as_json() for trial in trials], duration=duration)
        records.write_json(folder / "calibration.json", report)
        if target is None and spent.end == "exited" and not spent.exit_code:
            return replace(spent, end="error", reason=f"no target: {step.why}")
        return spent


def describe(holder: Mapping[str, Any]) -> str:
    """Who measures, what, until when, in words."""
    who = holder.get("user") or "somebody"
    what = holder.get("what") or "something"
    until = f" until about {holder['until']}" if holder.get("until") else ""
    return f"{who} measures {what}{until} (process {holder.get('pid')})"


def _with_limit(cell: Cell, target: Mapping[str, Any] | None) -> Json:
    """Tell a harness that left its latency limit open the one that calibration has chosen."""
    config = cell.files.get("config.json")
    limit = (target or {}).get("server_latency_ms")
    if limit is None or not isinstance(config, dict):
        return cell.files
    if config.get("latency_limit_ms", 0) is not None:
        return cell.files
    return {**cell.files, "config.json": {**config, "latency_limit_ms": limit}}


def _read_trial(place: Path) -> calibration.Measured | None:
    try:
        text = (place / "mlperf_log_detail.txt").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return calibration.parse_detail(text)


def _add(spent: Outcome, outcome: Outcome, name: str) -> Outcome:
    """A calibration's outcome: times summed, the end of its last trial."""
    trouble = outcome.reason
    if trouble is None and outcome.exit_code:
        trouble = f"exit code {outcome.exit_code}"
    return replace(
        outcome,
        started=spent.started,
        elapsed_s=round((spent.elapsed_s or 0) + (outcome.elapsed_s or 0), 3),
        cpu_s=round((spent.cpu_s or 0) + (outcome.cpu_s or 0), 3),
        reason=f"{name}: {trouble}" if trouble else None,
    )


def _learn(
    hint: calibration.Hint, scenario: str, trials: list[calibration.Trial]
) -> calibration.Hint:
    """What a calibration teaches the next one of the same model."""
    if scenario == "SingleStream" and trials:
        return replace(hint, latency_ns=trials[-1].measured.p50_ns)
    rates = [trial.measured.samples_per_s for trial in trials if trial.measured.samples_per_s]
    if scenario == "Offline" and rates:
        return replace(hint, samples_per_s=max(rates))
    return hint


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
