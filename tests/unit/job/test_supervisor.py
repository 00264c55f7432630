# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor, end to end, with a simulator in place of a harness."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import (
    lock,
    process,
    records,
    state,
)


def gone(pid: int) -> bool:
    end = time.monotonic() + 5
    while process.start_ticks(pid) is not None:
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_a_run_leaves_complete_evidence(host: Any) -> None:
    cell = host.cell("look", target={"target_latency_ms": 0.25})
    status = host.run(cell)
    assert status["state"] == "done"
    assert (status["k"], status["n"], status["current"]) == (1, 1, None)
    (run,) = status["runs"]
    result = host.result(run)
    assert (result["end"], result["exit_code"], result["signal"]) == ("exited", 0, None)
    assert result["reason"] is None
    assert result["elapsed_s"] > 0
    assert result["cpu_s"] > 0
    folder = host.run_dir(run)
    record = json.loads((folder / "run.json").read_text())
    assert record["cell"] == cell["cell"]
    assert record["target"] == {"target_latency_ms": 0.25}
    assert record["host"] == {"cpu": "made up"}
    assert folder.name == record["run_id"]
    assert folder.name.endswith(cell["digest"][:8])
    assert "digits.SingleStream.target_latency = 0.25\n" in (folder / "user.conf").read_text()
    assert "simulator" in (folder / "console.log").read_text()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    saved = state.read(host.host_dir)
    assert saved["runs"] == {cell["digest"]: folder.name}
    assert saved["jobs"][status["job_id"]]["state"] == "done"


def test_the_harness_has_a_session_and_an_environment_of_its_own(host: Any) -> None:
    (run,) = host.run(host.cell("look"))["runs"]
    seen = json.loads((host.run_dir(run) / "look.json").read_text())
    assert seen["cwd"] == str(host.run_dir(run))
    assert seen["sid"] == seen["pid"]
    assert seen["stdin"] == "/dev/null"
    assert seen["status_bytes"] == 64
    assert seen["env"]["GIVEN"] == "it's given"
    assert "PYTEST_CURRENT_TEST" not in seen["env"]


def test_launch_script_repeats_the_run_beside_it(host: Any) -> None:
    (run,) = host.run(host.cell("look"))["runs"]
    folder = host.run_dir(run)
    before = host.result(run)
    subprocess.run(["sh", str(folder / "launch.sh")], check=True, capture_output=True)
    assert host.result(run) == before
    (again,) = folder.parent.glob(f"{folder.name}.by-hand.*")
    seen = json.loads((again / "look.json").read_text())
    assert seen["cwd"] == str(again)
    assert seen["env"]["GIVEN"] == "it's given"
    assert seen["env"]["BENCHFLEET_STATUS"] == str(again / "progress")
    assert (again / "user.conf").read_bytes() == (folder / "user.conf").read_bytes()


def test_tokens_stand_for_the_folder_of_the_run(host: Any) -> None:
    (run,) = host.run(host.cell("look", env={"MOUNT": "@run_dir@:/run x"}))["runs"]
    folder = host.run_dir(run)
    seen = json.loads((folder / "look.json").read_text())
    assert seen["env"]["MOUNT"] == f"{folder}:/run x"
    subprocess.run(["sh", str(folder / "launch.sh")], check=True, capture_output=True)
    (again,) = folder.parent.glob(f"{folder.name}.by-hand.*")
    assert json.loads((again / "look.json").read_text())["env"]["MOUNT"] == f"{again}:/run x"


def test_one_failure_does_not_stop_the_next_cell(host: Any) -> None:
    wrong = host.cell("look", name="wrong", argv=["no-such-program"])
    typo = host.cell("look", name="typo")
    typo["settings"]["keys"]["min_durations"] = 5
    status = host.run(host.cell("exit", "3"), host.cell("die"), wrong, typo, host.cell("look"))
    assert status["state"] == "done"
    results = [host.result(run) for run in status["runs"]]
    assert [item["end"] for item in results] == [
        "exited",
        "signalled",
        "error",
        "refused",
        "exited",
    ]
    assert results[0]["exit_code"] == 3
    assert (results[1]["signal"], results[1]["reason"]) == (9, "killed by SIGKILL")
    assert "no-such-program" in results[2]["reason"]
    assert "min_durations" in results[3]["reason"]
    assert status["last_trouble"].startswith("digits onnx SingleStream performance: refused")


def test_a_hanging_harness_is_ended_at_its_limit(host: Any) -> None:
    (run,) = host.run(host.cell("stubborn", time_limit_s=0.5))["runs"]
    result = host.result(run)
    assert (result["end"], result["signal"]) == ("timeout", 9)
    assert "limit of 0.5 s" in result["reason"]
    assert 5 < result["elapsed_s"] < 10


def test_what_a_harness_leaves_running_is_killed(host: Any) -> None:
    (run,) = host.run(host.cell("leave_child"))["runs"]
    result = host.result(run)
    assert (result["end"], result["exit_code"]) == ("exited", 0)
    assert "killed what it left running: python" in result["reason"]
    assert gone(int((host.run_dir(run) / "child.pid").read_text()))


def test_sigterm_ends_the_job_cleanly(host: Any) -> None:
    job = host.job(host.cell("sleep", "60"), host.cell("look"))
    host.submit(job)
    status = host.wait_for(job["job_id"], lambda now: now["current"])
    wait_for_file(host.run_dir(status["current"]) / "console.log")
    os.kill(status["pid"], signal.SIGTERM)
    status = host.finish(job["job_id"])
    assert status["state"] == "failed"
    assert status["last_trouble"] == "stopped by SIGTERM in cell 1 of 2"
    (run,) = status["runs"]
    result = host.result(run)
    assert result["end"] == "signalled"
    assert result["reason"].startswith("stopped by SIGTERM")
    assert state.read(host.host_dir)["jobs"][job["job_id"]]["state"] == "failed"
    assert state.recover(host.host_dir, process.boot_id()) == []


def wait_for_file(path: Path, limit_s: float = 10) -> None:
    end = time.monotonic() + limit_s
    while not (path.exists() and path.stat().st_size):
        assert time.monotonic() < end, path
        time.sleep(0.01)


def test_a_killed_supervisor_loses_only_its_run(host: Any) -> None:
    job = host.job(host.cell("look"), host.cell("leave_child_and_sleep"))
    host.submit(job)
    status = host.wait_for(job["job_id"], lambda now: now["k"] == 2 and now["current"])
    folder = host.run_dir(status["current"])
    wait_for_file(folder / "child.pid")
    os.kill(status["pid"], signal.SIGKILL)
    assert gone(status["pid"])
    (lost,) = state.recover(host.host_dir, process.boot_id())
    assert lost["job_id"] == job["job_id"]
    assert lost["runs"] == [folder.name]
    assert gone(int((folder / "child.pid").read_text()))
    after = host.status(job["job_id"])
    assert (after["state"], after["current"]) == ("failed", None)
    assert [run["end"] for run in after["runs"]] == ["exited", "lost"]
    assert host.result(after["runs"][1])["reason"] == "the job's supervisor was killed"
    assert state.recover(host.host_dir, process.boot_id()) == []
    again = {**job, "job_id": "job-again", "cells": [host.cell("look")]}
    assert host.submit(again)["started"]
    assert host.finish("job-again")["state"] == "done"


def test_a_reboot_loses_the_run_under_way(host: Any) -> None:
    job = host.job(host.cell("sleep", "60"))
    host.submit(job)
    status = host.wait_for(job["job_id"], lambda now: now["current"])
    wait_for_file(host.run_dir(status["current"]) / "console.log")
    os.kill(status["pid"], signal.SIGKILL)
    assert gone(status["pid"])
    (lost,) = state.recover(host.host_dir, "another-boot")
    assert "reboot" in lost["reason"]
    (run,) = host.status(job["job_id"])["runs"]
    assert host.result(run)["end"] == "lost"
    assert state.recover(host.host_dir, "another-boot") == []


def test_a_job_that_never_started_is_given_up(host: Any) -> None:
    job = host.job(host.cell("look"))
    with pytest.raises(OSError, match="no-python"):
        state.submit(host.host_dir, job, "no-python", str(host.src))
    (lost,) = state.recover(host.host_dir, process.boot_id())
    assert "did not start" in lost["reason"]


def test_a_second_job_waits_and_says_for_whom(host: Any) -> None:
    first = host.job(host.cell("sleep", "60"))
    second = host.job(host.cell("look"))
    host.submit(first)
    holder = host.wait_for(first["job_id"], lambda now: now["current"])
    deadline = time.monotonic() + 30
    while "job_id" not in (lock.holder(host.lock) or {}) and time.monotonic() < deadline:
        time.sleep(0.1)  # it starts its harness before it answers, which takes a busy host a while
    answer = host.submit(second)
    assert answer["started"]
    assert answer["busy"]["job_id"] == first["job_id"]
    assert answer["busy"]["pid"] == holder["pid"]
    status = host.wait_for(second["job_id"], lambda now: now["waiting_for"])
    assert status["waiting_for"]["controller"] == "tester@controller"
    assert "SingleStream" in status["waiting_for"]["what"]
    ticks = Path(f"/proc/{status['pid']}/stat").read_text().split()[13:15]
    time.sleep(0.3)
    assert Path(f"/proc/{status['pid']}/stat").read_text().split()[13:15] == ticks
    os.kill(holder["pid"], signal.SIGTERM)
    assert host.finish(second["job_id"])["state"] == "done"
    assert host.status(second["job_id"])["waiting_for"] is None


def test_a_busy_host_can_fail_the_job_at_once_or_after_a_while(host: Any) -> None:
    listener = lock.acquire(host.lock)
    assert listener is not None
    with listener:
        assert lock.acquire(host.lock) is None
        status = host.run(host.cell("look"), on_busy="fail")
        assert status["state"] == "failed"
        assert status["last_trouble"].startswith("the host is busy")
        assert f"process {os.getpid()}" in status["last_trouble"]
        status = host.run(host.cell("look"), wait_limit_s=0.3)
        assert status["state"] == "failed"
        assert status["last_trouble"].startswith("waited 0.3 s")
    assert lock.holder(host.lock) is None


def test_cells_under_way_are_attached_to_not_repeated(host: Any) -> None:
    slow = host.cell("sleep", "60")
    first = host.job(slow)
    host.submit(first)
    host.wait_for(first["job_id"], lambda now: now["current"])
    answer = host.submit(host.job(slow))
    assert not answer["started"]
    assert answer["attached"] == [first["job_id"]]
    more = host.job(slow, host.cell("look"))
    answer = host.submit(more)
    assert answer["started"]
    assert answer["attached"] == [first["job_id"]]
    assert host.wait_for(more["job_id"], bool)["n"] == 1


def test_submit_keeps_what_provisioning_wrote(host: Any) -> None:
    mine = {"format": 1, "envs": {"onnx": {"lock": "1"}}, "artifacts": {}, "other": [1]}
    (host.host_dir / "state.json").write_text(json.dumps(mine))
    host.run(host.cell("look"))
    saved = state.read(host.host_dir)
    assert saved["envs"] == mine["envs"]
    assert saved["other"] == [1]


def test_a_host_that_must_be_quiet_is_made_to_wait_or_refuses(host: Any) -> None:
    busy = "while True: pass"
    with subprocess.Popen([sys.executable, "-c", busy]) as neighbour:
        try:
            (run,) = host.run(host.cell("look"), quiet_host="require")["runs"]
        finally:
            neighbour.kill()
    result = host.result(run)
    record = json.loads((host.run_dir(run) / "run.json").read_text())
    if os.cpu_count() < 20:  # one busy loop is more than 5 % of these
        assert result["end"] == "refused"
        assert "other processes use" in result["reason"]
        assert record["quiet_host"]["foreign_cpu_share"] > 0.05
    assert record["quiet_host"]["memory_total_bytes"] > 0


def test_a_run_needs_room(host: Any) -> None:
    (run,) = host.run(host.cell("look", min_free_bytes=10**18))["runs"]
    result = host.result(run)
    assert result["end"] == "refused"
    assert "may need 1000000000000.0 MB" in result["reason"]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
def test_a_full_disk_ends_in_records_not_in_a_traceback(tmp_path: Path, host: Any) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        host.host_dir = small / "h1"
        status = host.run(host.cell("look"), host.cell("fill_disk"), host.cell("exit", "0"))
        assert [run["end"] for run in status["runs"]] == ["exited", "error", "refused"]
        assert status["state"] == "done"
        result = host.result(status["runs"][1])
        assert result["reason"].startswith("disk full: ")
        assert status["runs"][2]["reason"].startswith("disk full")
        log = state.job_dir(host.host_dir, status["job_id"]) / "supervisor.log"
        assert "Traceback" not in log.read_text()
    finally:
        host.end()
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_damaged_request_is_named(host: Any) -> None:
    job = host.job(host.cell("look"))
    del job["cells"][0]["settings"]["loadgen_model"]
    status = host.run(*job["cells"])
    assert status["state"] == "failed"
    assert "cells[0].settings.loadgen_model" in status["last_trouble"]


def test_calibration_gives_the_next_cell_its_target(host: Any) -> None:
    kept: dict[str, Any] = {"mode": "calibration", "name": "probe"}
    probe = host.cell("loadgen", "SingleStream", **kept)
    real = host.cell("loadgen", "SingleStream", name="real", calibration=probe["digest"])
    status = host.run(probe, real)
    assert [run["end"] for run in status["runs"]] == ["exited", "exited"]
    folder = host.run_dir(status["runs"][0])
    host.result(status["runs"][0])
    found = json.loads((folder / "calibration.json").read_text())
    assert found["target"] == {"target_latency_ms": 1.0}
    assert (folder / "trial_1" / "launch.sh").exists()
    record = json.loads((host.run_dir(status["runs"][1]) / "run.json").read_text())
    assert record["calibration"] == folder.name
    assert record["target"] == found["target"]


def test_a_chosen_server_limit_reaches_the_harness(host: Any) -> None:
    probe = host.cell("loadgen", "Server", mode="calibration", name="probe", scenario="Server")
    real = host.cell(
        "loadgen", "Server", name="real", scenario="Server", calibration=probe["digest"]
    )
    status = host.run(probe, real)
    folder = host.run_dir(status["runs"][1])
    assert json.loads((folder / "config.json").read_text())["latency_limit_ms"] == 50.0
    assert "digits.Server.target_latency = 50\n" in (folder / "user.conf").read_text()


def test_a_failed_calibration_refuses_what_needs_it(host: Any) -> None:
    probe = host.cell("exit", "4", mode="calibration")
    real = host.cell("look", calibration=probe["digest"])
    unknown = host.cell("look", name="unknown", calibration="0" * 64)
    runs = host.run(probe, real, unknown)["runs"]
    results = [host.result(run) for run in runs]
    assert results[0]["exit_code"] == 4
    assert results[0]["reason"] == "trial_1: exit code 4"
    assert [item["end"] for item in results[1:]] == ["refused", "refused"]
    assert "exit code 4" in results[1]["reason"]
    assert "has not been run" in results[2]["reason"]


def test_detach_returns_though_the_program_goes_on(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)
    code = (
        "import os, sys, time; print(os.getsid(0) != os.getppid(), os.listdir('/proc/self/fd'));"
        "sys.stdout.flush(); open(sys.argv[1], 'w').write(str(os.getpid())); time.sleep(30)"
    )
    mark = tmp_path / "pid"
    begun = time.monotonic()
    process.detach([sys.executable, "-c", code, str(mark)], tmp_path / "log")
    assert time.monotonic() - begun < 5
    wait_for_file(mark)
    pid = int(mark.read_text())
    assert os.getsid(pid) != os.getsid(0)
    os.close(writer)
    assert os.read(reader, 1) == b""  # nobody else holds the writing end
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(FileNotFoundError):
        process.detach([str(tmp_path / "nothing")], tmp_path / "log")


def test_the_lock_survives_strange_holders(host: Any) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("\0" + host.lock)
        listener.listen(1)
        facts = lock.holder(host.lock)
    assert facts is not None
    assert facts["pid"] == os.getpid()
    assert facts["uid"] == os.geteuid()


def test_reserve_gives_way_to_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reserve = records.Reserve(tmp_path / "reserve")
    reserve.create()
    real = records.atomic_write

    def full(path: Path, text: str) -> None:
        if (tmp_path / "reserve").exists():
            raise OSError(28, "No space left on device", str(path))
        real(path, text)

    monkeypatch.setattr(records, "atomic_write", full)
    assert reserve.write(tmp_path / "result.json", {"end": "error"})
    assert reserve.disk_full
    assert records.read_json(tmp_path / "result.json") == {"end": "error"}
