# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ONNX harness: its parts here, and whole tests with real LoadGen where it is installed.

The whole tests need the interpreter of an environment with mlcommons-loadgen, numpy and onnxruntime
(roles loadgen and framework) in BENCHFLEET_ENV_PYTHON; without it they are skipped.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy
import pytest

ROOT = Path(__file__).parents[2]
ROLES = ROOT / "roles"
FILES = ROLES / "harness_onnx" / "files"
LOCKS = sorted(ROLES.glob("*/files/requirements/*.txt"))
DIGITS = ROOT / "catalog" / "data" / "digits"
SCENARIOS = ("SingleStream", "MultiStream", "Offline", "Server")
USER_CONF = """\
*.*.min_duration = 1000
*.*.performance_sample_count_override = 500
*.SingleStream.target_latency = 0.01
*.MultiStream.target_latency = 0.05
*.Server.target_qps = 200
*.Server.target_latency = 200
*.Offline.target_qps = 20000
*.Offline.min_query_count = 500
"""

sys.path.insert(0, str(FILES))
import harness_host  # noqa: E402

ENV_PYTHON = os.environ.get("BENCHFLEET_ENV_PYTHON")
needs_env = pytest.mark.skipif(not ENV_PYTHON, reason="BENCHFLEET_ENV_PYTHON is not set")


def test_quota_of_cgroup_v2(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "a" / "b"
    folder.mkdir(parents=True)
    (folder.parent / "cpu.max").write_text("250000 100000\n")
    (folder / "cpu.max").write_text("max 100000\n")
    (tmp_path / "cgroup").write_text("0::/a/b\n")
    assert harness_host.cpu_quota(tmp_path / "cgroup", tmp_path / "sys") == 2.5


def test_quota_of_cgroup_v1(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "cpu" / "job"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("400000\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    (tmp_path / "cgroup").write_text("5:memory:/job\n4:cpu,cpuacct:/job\n")
    assert harness_host.cpu_quota(tmp_path / "cgroup", tmp_path / "sys") == 4.0


def test_no_quota(tmp_path: Path) -> None:
    folder = tmp_path / "sys" / "cpu"
    folder.mkdir(parents=True)
    (folder / "cpu.cfs_quota_us").write_text("-1\n")
    (folder / "cpu.cfs_period_us").write_text("100000\n")
    assert harness_host.cpu_quota(tmp_path / "none", tmp_path / "sys") == float("inf")


def test_one_cpu_for_each_physical_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for cpu in range(4):
        topology = tmp_path / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{cpu % 2},{cpu % 2 + 2}\n")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(harness_host, "cpu_quota", lambda: float("inf"))
    assert harness_host.usable_cores(tmp_path) == [0, 1]
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {2, 3}, raising=False)
    assert harness_host.usable_cores(tmp_path) == [2, 3]
    monkeypatch.setattr(harness_host, "cpu_quota", lambda: 1.5)
    assert harness_host.usable_cores(tmp_path) == [2]


def test_status_is_seen_through_the_file(tmp_path: Path) -> None:
    path = tmp_path / "status"
    path.write_bytes(bytes(64))
    status = harness_host.Status(str(path))
    status.phase(harness_host.MEASURING, expected=7)
    status.words[2] = 5
    assert struct.unpack("=8Q", path.read_bytes()) == (3, 0, 5, 7, 0, 0, 0, 0)


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.name)
def test_lock_has_a_digest_for_every_requirement(path: Path) -> None:
    text = re.sub("(?m)^#.*\n", "", path.read_text("utf-8"))
    assert not re.search(r"https?://|file:|^--(?!hash)", text, re.M)
    blocks = re.findall(r"^\S[^#\n]*==.*(?:\n {4}--hash=sha256:[0-9a-f]{64}.*)+", text, re.M)
    assert len(blocks) == len(re.findall(r"^[a-z0-9_.-]+==", text, re.M)) > 0


def execute(folder: Path, config: dict[str, Any], prelude: str = "") -> Any:
    """Run the harness in `folder` with `config` over the digits defaults."""
    assert ENV_PYTHON
    base = {
        "model": str(DIGITS / "digits_cnn.onnx"),
        "dataset": str(DIGITS / "digits.npz"),
        "loadgen_model": "digits",
        "metric": "top1",
    }
    (folder / "config.json").write_text(json.dumps({**base, **config}))
    (folder / "user.conf").write_text(USER_CONF)
    (folder / "status").write_bytes(bytes(64))
    argv = [str(FILES / "harness.py"), "config.json"]
    if prelude:
        start = f"import sys; sys.path.insert(0, {str(FILES)!r}); sys.argv = {argv!r}\n"
        argv = ["-c", start + prelude]
    environ = {**os.environ, "BENCHFLEET_STATUS": str(folder / "status")}
    return subprocess.run(
        [ENV_PYTHON, "-B", *argv],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@needs_env
@pytest.mark.parametrize("mode", ["performance", "accuracy"])
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_digits(tmp_path: Path, scenario: str, mode: str) -> None:
    done = execute(tmp_path, {"scenario": scenario, "mode": mode})
    assert (done.returncode, done.stderr) == (0, "")
    detail = (tmp_path / "mlperf_log_detail.txt").read_text()
    assert "Multiple conf files" not in detail
    assert f'"effective_scenario", "value": "{scenario}"' in detail
    phase, issued, completed = struct.unpack("=8Q", (tmp_path / "status").read_bytes())[:3]
    assert phase == harness_host.DONE
    assert issued == completed >= 100
    report = json.loads((tmp_path / "harness.json").read_text())
    assert report["providers"] == ["CPUExecutionProvider"]
    assert report["samples"] == {
        "count": 500,
        "generated": False,
        "in_memory": 500,
        "bytes_each": 256,
    }
    accuracy = tmp_path / "accuracy.txt"
    assert accuracy.exists() == (mode == "accuracy")
    if mode == "accuracy":
        assert accuracy.read_text() == "accuracy=99.600%, good=498, total=500\n"


REFUSALS = {
    "no-such-device": ({"device": "cuda"}, "needs CUDAExecutionProvider, but the installed"),
    "no-model": ({"model": "nowhere.onnx"}, "no model at nowhere.onnx"),
    "corrupt-model": ({"model": "user.conf"}, "onnxruntime cannot open user.conf"),
    "corrupt-dataset": ({"dataset": "user.conf"}, "cannot read the dataset user.conf"),
    "wrong-shape": ({"dataset": "other.npz"}, "has samples of shape [8]; the model takes float"),
    "no-input": ({"dataset": "named.npz"}, "lacks input 'image' (float [N,8,8]); it holds: x"),
    "unknown-option": ({"batchsize": 3}, "does not know: batchsize"),
    "signature": (
        {
            "signature": {
                "inputs": [{"name": "image", "type": "float32", "shape": [None, 8, 9]}],
                "outputs": [{"name": "probs", "type": "tensor(float)", "shape": ["N", 10]}],
            }
        },
        "input 'image' is float [N,8,8], reference: float [?,8,9]; output 'probs' is missing "
        "(reference: float [N,10]); output 'logits' is not in the reference",
    ),
    "input-shapes": ({"dataset": None, "input_shapes": {"image": [1, 9, 8]}}, "is [1,9,8]"),
}


@needs_env
@pytest.mark.parametrize("name", REFUSALS)
def test_refused_in_one_line(tmp_path: Path, name: str) -> None:
    numpy.savez(tmp_path / "other.npz", image=numpy.zeros((5, 8), "u1"))
    numpy.savez(tmp_path / "named.npz", x=numpy.zeros((5, 8, 8), "u1"))
    config, expected = REFUSALS[name]
    done = execute(tmp_path, {"scenario": "Offline", "mode": "performance", **config})
    assert done.returncode == harness_host.REFUSED
    assert expected in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "mlperf_log_detail.txt").exists()


@needs_env
@pytest.mark.parametrize("scenario", ["SingleStream", "Offline"])
def test_a_failing_callback_ends_the_process(tmp_path: Path, scenario: str) -> None:
    prelude = """
import harness
def broken(*args):
    raise ZeroDivisionError("no\\nanswer")
harness.answering = lambda *args: broken
sys.exit(harness.main())
"""
    done = execute(tmp_path, {"scenario": scenario, "mode": "performance"}, prelude)
    assert done.returncode == 1
    assert done.stderr == "harness: ZeroDivisionError during the test: no answer\n"


@needs_env
def test_generated_inputs_and_batch_size_given(tmp_path: Path) -> None:
    config = {"dataset": None, "metric": None, "samples": 50, "batch_size": 7}
    done = execute(tmp_path, {"scenario": "Offline", "mode": "accuracy", **config})
    assert (done.returncode, done.stderr) == (0, "")
    entries = json.loads((tmp_path / "mlperf_log_accuracy.json").read_text())
    assert sorted(entry["qsl_idx"] for entry in entries) == list(range(50))
    assert {len(entry["data"]) for entry in entries} == {2 * 4 * 10}
    assert json.loads((tmp_path / "harness.json").read_text())["batch_size"] == 7


@needs_env
def test_audit_config_makes_performance_mode_log_answers(tmp_path: Path) -> None:
    (tmp_path / "audit.config").write_text(
        "*.*.mode = 2\n*.*.accuracy_log_rng_seed = 1\n*.*.accuracy_log_sampling_target = 64\n"
    )
    done = execute(tmp_path, {"scenario": "SingleStream", "mode": "performance"})
    assert (done.returncode, done.stderr) == (0, "")
    entries = json.loads((tmp_path / "mlperf_log_accuracy.json").read_text())
    assert entries
    assert {len(entry["data"]) for entry in entries} == {16}
