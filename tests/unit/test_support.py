# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logs that come home from a host, and the archive for a bug report."""

from __future__ import annotations

import json
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.host_store import HostError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import bundle, host_logs
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.probe_script import Probe
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.redact import Redactor

RUN = "runs/atlas/digits/onnx/Offline/accuracy/20260101T000000Z-abcdef01"


def command(text: str) -> tuple[int, str, str]:
    """This machine in place of a host."""
    done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def home(tmp_path: Path) -> Path:
    folder = tmp_path / "it's home"
    (folder / "logs").mkdir(parents=True)
    return folder


def test_a_fault_can_name_its_log() -> None:
    fault = HostError("no disk", "/h/logs/env.log")
    assert (str(fault), fault.log) == ("no disk", "/h/logs/env.log")
    assert HostError("no disk").log is None


def test_the_end_of_a_log_comes_home(tmp_path: Path) -> None:
    host = home(tmp_path)
    (host / "logs" / "env.log").write_text("x" * host_logs.MOST_BYTES + "the end\n")
    where = host_logs.folder(tmp_path, "a/b")
    kept = host_logs.keep_one(command, f"{host}/logs/env.log", str(host), where)
    assert kept == tmp_path / "logs" / "a%2Fb" / "env.log"
    assert kept.stat().st_size == host_logs.MOST_BYTES
    assert kept.read_text().endswith("the end\n")


@pytest.mark.parametrize("asked", ["/etc/passwd", "{}/logs/../x", "{}/logs/none.log", "{}/logs/"])
def test_what_lies_elsewhere_is_not_read(tmp_path: Path, asked: str) -> None:
    host = home(tmp_path)
    (host / "x").write_text("x")
    remote = asked.format(host)
    assert host_logs.keep_one(command, remote, str(host), tmp_path / "logs") is None
    assert not (tmp_path / "logs").exists()


def test_all_logs_and_the_state_come_home(tmp_path: Path) -> None:
    host = home(tmp_path)
    (host / "logs" / "env.log").write_text("pip\n")
    (host / "logs" / "two words").write_text("odd name\n")
    (host / "hosts" / "n").mkdir(parents=True)
    (host / "hosts" / "n" / "state.json").write_text("{}")
    probe = Probe(str(host), f"{host}/hosts/n", "b", {}, {})
    kept = host_logs.keep_all(command, probe, tmp_path / "here")
    assert [p.name for p in kept] == ["env.log", "state.json", "about.txt"]
    assert "hostname=" in (tmp_path / "here" / "about.txt").read_text()


def results(root: Path) -> Path:
    files = {
        "outcomes/old.json": "{}",
        f"{RUN}/run.json": '{"cell": {"host": "atlas"}, "env": {"HF_TOKEN": "hf_abcdefghij"}}',
        f"{RUN}/user.conf": "*.*.target_qps = 5\n",
        f"{RUN}/console.log": "y" * bundle.MOST_BYTES + "/home/jane/x\n",
        f"{RUN}/mlperf_log_accuracy.json": "[]",
        f"{RUN}/samples.json": "[]",
        f"{RUN}/model.onnx": "weights",
        f"{RUN}/large.json": "1" * (bundle.MOST_BYTES + 1),
        "logs/atlas/env.log": "jane built it on atlas\n",
        "outcomes/new.json": json.dumps({"cells": [{"run": RUN}, {"run": None}]}),
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_small_files_of_the_latest_request_are_taken(tmp_path: Path) -> None:
    found = bundle.collect(results(tmp_path))
    own = {name.rpartition("/")[2] for name in found}
    assert own == {"new.json", "env.log", "run.json", "user.conf", "console.log"}
    assert len(found[f"{RUN}/console.log"]) == bundle.MOST_BYTES
    with pytest.raises(BenchfleetError, match="nothing to report"):
        bundle.collect(tmp_path / "empty")


def test_the_archive_holds_nothing_private(tmp_path: Path) -> None:
    redactor = Redactor()
    redactor.learn("host", "atlas")
    clean = bundle.redacted(bundle.collect(results(tmp_path)), redactor)
    path = tmp_path / "support" / "20260101T000000Z.tar.gz"
    bundle.write(path, clean, 0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with tarfile.open(path) as archive:
        members = archive.getmembers()
        texts = [archive.extractfile(m).read().decode() for m in members]  # type: ignore[union-attr]
    everything = "\n".join([*texts, *(f"{m.name} {m.uname} {m.gname}" for m in members)])
    for private in ("atlas", "jane", "hf_"):
        assert private not in everything
    assert redactor.counts["secret"] == 1
    assert {m.uid for m in members} == {0}
    with pytest.raises(FileExistsError):
        bundle.write(path, clean, 0)
