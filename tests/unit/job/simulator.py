# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A simulator of a harness: it measures nothing and says so. Usage: simulator.py BEHAVIOUR [ARG].

It reads user.conf from the current folder and writes the lines of a LoadGen detail log that
calibration reads, from a made-up machine.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

LATENCY_NS = 2_000_000.0  # of the made-up machine, one sample
RATE = 1000.0  # samples per second, of the made-up machine


def user_conf():
    lines = Path("user.conf").read_text().splitlines()
    pairs = (line.split(" = ") for line in lines)
    return {name.split(".")[2]: float(value) for name, value in pairs}


def write_log(values):
    lines = [":::MLLOG " + json.dumps({"key": key, "value": values[key]}) for key in values]
    Path("mlperf_log_detail.txt").write_text("\n".join(lines) + "\n")
    Path("mlperf_log_summary.txt").write_text("SUT name : simulator\nResult is : VALID\n")


def loadgen(scenario):
    keys = user_conf()
    values = {"result_validity": "VALID", "result_min_duration_met": True, "simulated": True}
    if scenario == "Offline":
        samples = max(
            keys["min_query_count"], 1.1 * keys["target_qps"] * keys["min_duration"] / 1e3
        )
        values.update(result_samples_per_second=RATE, result_query_count=1)
        values.update(generated_samples_per_query=int(samples))
    else:
        values.update(result_query_count=300)
    for name in ("min", "mean", "max", "50.00_percentile", "90.00_percentile", "99.00_percentile"):
        values[f"result_{name}_latency_ns"] = LATENCY_NS
    write_log(values)


def stubborn():
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)


def leave_child():
    code = "import time; time.sleep(60)"
    child = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    Path("child.pid").write_text(str(child.pid))


def fill_disk():
    with Path("mlperf_log_trace.json").open("wb") as stream:
        while True:
            stream.write(b"x" * 65536)
            stream.flush()


def look():
    facts = {
        "env": dict(os.environ),
        "cwd": str(Path.cwd()),
        "sid": os.getsid(0),
        "pid": os.getpid(),
    }
    facts["stdin"] = str(Path("/proc/self/fd/0").resolve())
    facts["status_bytes"] = Path(os.environ["BENCHFLEET_STATUS"]).stat().st_size
    Path("look.json").write_text(json.dumps(facts))


def main():
    print("simulator: this is no harness and measures nothing", flush=True)
    behaviour, argument = sys.argv[1], (sys.argv[2:] or [""])[0]
    actions = {
        "look": look,
        "exit": lambda: sys.exit(int(argument)),
        "sleep": lambda: time.sleep(float(argument)),
        "stubborn": stubborn,
        "die": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "leave_child": leave_child,
        "fill_disk": fill_disk,
        "leave_child_and_sleep": lambda: (leave_child(), time.sleep(60)),
        "loadgen": lambda: loadgen(argument),
    }
    actions[behaviour]()


if __name__ == "__main__":
    main()
