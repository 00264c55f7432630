# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host to run jobs on: a folder, a shipped copy of the supervisor, a lock name of its own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import process, records, state

PACKAGE = Path(process.__file__).parent
SIMULATOR = Path(__file__).with_name("simulator.py")
MAIN = "import sys; from benchfleet_job.supervisor import main\nsys.exit(main(sys.argv[1]))\n"


class Host:
    """One made-up host."""

    def __init__(self, folder: Path) -> None:
        self.host_dir = folder / "hosts" / "h1"
        self.host_dir.mkdir(parents=True)
        self.src = folder / "src"
        shutil.copytree(PACKAGE, self.src / "benchfleet_job")
        (self.src / "__main__.py").write_text(MAIN)
        self.lock = f"benchfleet.test.{uuid.uuid4().hex}"
        self.started: list[subprocess.Popen[bytes]] = []

    def cell(self, *behaviour: str, mode: str = "performance", **changes: Any) -> dict[str, Any]:
        name = changes.pop("name", " ".join(behaviour) + mode)
        scenario = changes.pop("scenario", "SingleStream")
        planned = {"sut": "sut1", "benchmark": "digits", "implementation": "onnx"}
        keys = {"min_duration": 2000, "performance_sample_count_override": 500}
        plan: dict[str, Any] = {
            "digest": hashlib.sha256(name.encode()).hexdigest(),
            "attempt": 1,
            "cell": {**planned, "scenario": scenario, "mode": mode, "duration": "test"},
            "argv": [sys.executable, "-B", str(SIMULATOR), *behaviour],
            "prefix": [],
            "env": {"GIVEN": "it's given"},
            "files": {"config.json": {"latency_limit_ms": None}},
            "digests": {"model": "m"},
            "settings": {"loadgen_model": "digits", "scenario": scenario, "keys": keys},
            "target": None,
            "calibration": None,
            "expected_s": 1.0,
            "time_limit_s": 30.0,
            "min_free_bytes": 0,
        }
        plan.update(changes)
        return plan

    def job(self, *cells: dict[str, Any], **changes: Any) -> dict[str, Any]:
        plan: dict[str, Any] = {
            "format": 1,
            "job_id": f"job-{uuid.uuid4().hex[:8]}",
            "controller": "tester@controller",
            "on_busy": "wait",
            "wait_limit_s": 30,
            "quiet_host": "off",
            "fingerprint": {"cpu": "made up"},
            "cells": list(cells),
            "lock": self.lock,
        }
        plan.update(changes)
        return plan

    def submit(self, job: dict[str, Any]) -> dict[str, Any]:
        return state.submit(self.host_dir, job, sys.executable, str(self.src))

    def run(self, *cells: dict[str, Any], **changes: Any) -> dict[str, Any]:
        """Submit and wait for the end; returns the last status."""
        job = self.job(*cells, **changes)
        assert self.submit(job)["started"]
        return self.finish(job["job_id"])

    def status(self, job_id: str) -> dict[str, Any]:
        return records.read_json(state.job_dir(self.host_dir, job_id) / "status.json") or {}

    def wait_for(self, job_id: str, test: Any, limit_s: float = 30.0) -> dict[str, Any]:
        end = time.monotonic() + limit_s
        while time.monotonic() < end:
            status = self.status(job_id)
            if status and test(status):
                return status
            time.sleep(0.02)
        log = state.job_dir(self.host_dir, job_id) / "supervisor.log"
        raise AssertionError(f"{self.status(job_id)}\n{log.read_text() if log.exists() else ''}")

    def finish(self, job_id: str) -> dict[str, Any]:
        status = self.wait_for(job_id, lambda now: now["state"] in ("done", "failed"))
        while process.alive(status.get("pid"), status.get("pid_start")):
            time.sleep(0.01)
        return status

    def run_dir(self, run: dict[str, Any]) -> Path:
        return self.host_dir / "runs" / run["run_id"]

    def result(self, run: dict[str, Any]) -> dict[str, Any]:
        """A run's result, after its manifest has been checked."""
        folder = self.run_dir(run)
        listed = json.loads((folder / "manifest.json").read_text())["files"]
        found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert set(listed) == found - {"manifest.json"}
        for name, facts in listed.items():
            data = (folder / name).read_bytes()
            assert hashlib.sha256(data).hexdigest() == facts["sha256"]
            assert len(data) == facts["size"]
        result: dict[str, Any] = json.loads((folder / "result.json").read_text())
        return result

    def end(self) -> None:
        """Leave no process behind."""
        for folder in (self.host_dir / "jobs").glob("*"):
            status = records.read_json(folder / "status.json") or {}
            if process.alive(status.get("pid"), status.get("pid_start")):
                os.kill(status["pid"], signal.SIGKILL)
            process.kill_marked(f"BENCHFLEET_STATUS={folder / 'progress'}")


@pytest.fixture
def host(tmp_path: Path) -> Any:
    made = Host(tmp_path)
    yield made
    made.end()
