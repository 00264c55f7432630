# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller halves of start and watch, without Ansible around them, and what they send."""

from __future__ import annotations

import base64
import json
import os
import shlex
import struct
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.action import start, watch
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import by_hand, process
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import payload, planner, work
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import OURS, Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.probe_script import Probe
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.results import Results
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.stage import (
    module_result,
    printable,
)

CATALOG = Catalog()
SHA = "ab" * 32


def harness(
    catalog: Catalog = CATALOG, device: str = "cpu", version: str | None = None
) -> dict[str, Any]:
    """What the harness of a cell of digits needs."""
    asked = parse({"benchmark": "digits", "device": device})
    (cell, *_others) = planner.plan(asked, {"n": {}}, catalog)
    return payload.harness(catalog, dict(cell, **({"loadgen_version": version} if version else {})))


HARNESS = harness()
ENV = HARNESS["envs"]["python"]
LIMITS = start.Limits(1 << 20, 100 << 20)
PROBE: dict[str, Any] = {
    "home": "/h",
    "host_dir": "/h/hosts/n",
    "boot_id": "b",
    "fingerprint": {"kernel": "6"},
    "state": {},
    "paths": {"/m.onnx": "5:1"},
}


class Watch(watch.ActionModule):
    """Looks at jobs of this machine; `around` is what a login shell prints."""

    around = ""

    def __init__(self) -> None:
        """Need nothing of Ansible."""

    def command(self, text: str) -> tuple[int, str, str]:
        done = subprocess.run(["sh", "-c", text], capture_output=True, text=True, check=False)
        return done.returncode, self.around + done.stdout + self.around, done.stderr


def job(folder: Path, status: Any, counters: bytes = b"") -> Path:
    folder.mkdir(exist_ok=True)
    text = status if isinstance(status, str) else json.dumps(status)
    (folder / "status.json").write_text(text)
    (folder / "progress").write_bytes(counters)
    return folder


def own() -> dict[str, Any]:
    return {"pid": os.getpid(), "pid_start": process.start_ticks(os.getpid())}


@pytest.mark.parametrize("around", ["", "Welcome to the lab\n5 users\n"])
def test_a_look_reads_status_counters_and_life(tmp_path: Path, around: str) -> None:
    runs = [{"digest": SHA, "run_id": "r1", "mode": "performance"}]
    status = own() | {"state": "running", "k": 1, "n": 2, "runs": runs, "current": {"mode": "x"}}
    folder = job(tmp_path / "it's here", status, struct.pack("=8Q", 3, 20, 18, 0, 0, 0, 0, 0))
    watcher = Watch()
    watcher.around = around
    look = watcher._look(str(folder))
    assert look.status == status | {"waiting_for": None}
    assert (look.counters, look.alive) == ([3, 20, 18, 0], True)


def test_a_process_that_is_gone_or_another_is_not_alive(tmp_path: Path) -> None:
    for changed in ({"pid": 2**22 + 1}, {"pid_start": 1}, {"pid": None}, {"pid": "x"}):
        status = own() | {"state": "running"} | changed
        assert Watch()._look(str(job(tmp_path / "j", status))).alive is False


@pytest.mark.parametrize("status", ["", "{", "[]", "5", "[" * 100_000], ids=lambda s: s[:5])
def test_a_damaged_status_is_no_crash(tmp_path: Path, status: str) -> None:
    with pytest.raises(BenchfleetError, match="damaged"):
        Watch()._look(str(job(tmp_path / "j", status)))


def test_names_that_lead_out_of_the_results_are_left_out(tmp_path: Path) -> None:
    bad = [{"digest": SHA, "run_id": "../../x"}, {"digest": 5, "run_id": "a"}, "x", None]
    status = {"state": "done", "runs": [*bad, {"digest": SHA, "run_id": "good"}], "current": "x"}
    look = Watch()._look(str(job(tmp_path / "j", status)))
    assert look.status["runs"] == [{"digest": SHA, "run_id": "good"}]
    assert look.status["current"] is None


@pytest.mark.parametrize(
    ("status", "counters", "line"),
    [
        (
            {"state": "waiting", "waiting_for": {"user": "eve", "what": "gpt", "until": "10:00"}},
            [],
            "waits: eve measures gpt until about 10:00",
        ),
        ({"state": "waiting"}, [], "waits: someone measures here"),
        (
            {
                "k": 2,
                "n": 8,
                "current": {"benchmark": "digits", "scenario": "Server", "mode": "accuracy"},
                "expected_end": "2026-01-01T10:20:30Z",
            },
            [3, 5000, 4999, 0],
            "cell 2 of 8, digits Server accuracy, measuring 4,999 samples,"
            " end expected 10:20:30 UTC",
        ),
        ({"k": 1, "n": 1, "last_trouble": "oom"}, [9, 0, 0], "cell 1 of 1, last trouble: oom"),
        ({"k": 1, "n": 1}, [0, 0, 0], "cell 1 of 1, starting"),
    ],
)
def test_the_line_of_progress(status: dict[str, Any], counters: list[int], line: str) -> None:
    assert watch._line(watch.Look(status, counters)) == line


def items(root: Path, **variables: Any) -> list[dict[str, Any]]:
    asked = {"scenario": "Offline", "mode": "performance", "target_qps": 5} | variables
    cells = [dict(c, payload="p") for c in planner.plan(parse(asked), {"n": {}}, CATALOG)]
    common = {"rerun": False, "recalibrate": False, "paths": {}, "payloads": {"p": HARNESS}}
    return work.decide(cells, common, Probe(**PROBE), Results(root), lambda _job: False)


def have(sha256: str | None = SHA, path: str = "/m.onnx", identity: str = "/m.onnx:5:1") -> Any:
    """What provisioning says of an artifact: where it lies and what it is."""
    return {identity: {"sha256": sha256, "path": path}}


def spec(item: dict[str, Any], **ready: Any) -> dict[str, Any]:
    ready = {"artifacts": have()} | ready
    return start._spec(item, {"payloads": {"p": HARNESS}}, PROBE, ready, CATALOG, LIMITS)


def test_a_cell_becomes_a_command_with_its_files_and_settings(tmp_path: Path) -> None:
    asked = {"run_prefix": "numactl -N '0 1'", "threads": 4, "division": "open"}
    (item,) = items(tmp_path, benchmark="custom", model_path="/m.onnx", **asked)
    made = spec(item)
    assert made["prefix"] == ["numactl", "-N", "0 1"]
    env, src = ENV["name"], HARNESS["folder"]["name"]
    assert made["argv"][0] == f"/h/envs/{env}/bin/python"
    assert f"/h/src/{src}/harness.py" in made["argv"]
    config = made["files"]["config.json"]
    assert (config["model"], config["dataset"], config["threads"]) == ("/m.onnx", None, 4)
    assert (made["target"], made["calibration"]) == ({"target_qps": 5.0}, None)
    assert made["digests"] == item["digests"] | {"model": SHA}
    assert made["env"]["PYTHONHASHSEED"] == "0"
    assert made["env"]["PATH"].startswith(f"/h/envs/{env}/bin:")
    assert not {"refuse", "skip", "rules", "payload"} & set(made["cell"])
    assert made["cell"]["division"] == "open"


def test_a_calibrations_target_goes_before_none(tmp_path: Path) -> None:
    (item,) = items(tmp_path, benchmark="custom", model_path="/m.onnx")
    assert spec(item | {"target": {"target_qps": 7.0}})["target"] == {"target_qps": 7.0}


def test_devices_are_visible_where_there_are_some(tmp_path: Path) -> None:
    (item,) = items(tmp_path, benchmark="custom", model_path="/m.onnx")
    item["cell"] |= {"device": "cuda", "devices": ["0", "3"]}
    assert spec(item)["env"]["CUDA_VISIBLE_DEVICES"] == "0,3"


def test_a_model_on_the_sut_must_have_the_digest_that_was_asked_for(tmp_path: Path) -> None:
    asked = {"benchmark": "custom", "model_path": "/m.onnx", "model_sha256": SHA}
    (item,) = items(tmp_path, **asked)
    assert spec(item)["digests"]["model"] == SHA
    with pytest.raises(BenchfleetError, match=r"/m\.onnx on the host has sha256 cd"):
        spec(item, artifacts=have("cd" * 32))


def test_a_downloaded_model_lies_in_the_hosts_store(tmp_path: Path) -> None:
    where = f"hf:o/r/m.onnx@{'c0' * 20}"
    (item,) = items(tmp_path, benchmark="custom", model_path=where)
    stored = f"/h/artifacts/sha256/ab/{SHA}"
    made = spec(item, artifacts=have(SHA, stored, where))
    assert made["files"]["config.json"]["model"] == stored
    assert made["digests"]["model"] == SHA


# --- upstream's harnesses ------------------------------------------------------------------------


def upstream(root: Path, **asked: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A cell of a reference harness as (work item, payloads, what provisioning says)."""
    found = {"implementation": "reference", "scenario": "Offline", "mode": "accuracy", **asked}
    cells = planner.plan(parse(found), {"n": {}}, CATALOG)
    for cell in cells:
        cell["payload"] = payload.name(cell)
    payloads = {c["payload"]: payload.harness(CATALOG, c) for c in cells}
    common = {"rerun": False, "recalibrate": False, "paths": {}, "payloads": payloads}
    where = {n["where"]: "5:1" for c in cells for n in (c["model"], c["dataset"]) if n}
    probe = Probe(**PROBE | {"paths": where})
    (item,) = work.decide(cells, common, probe, Results(root), lambda _job: False)
    places = item["places"].items()
    ready = {p["identity"]: {"sha256": SHA, "path": f"/store/{w}"} for w, p in places}
    return item, payloads, {"artifacts": ready}


def test_a_cell_of_upstreams_harness_becomes_commands(tmp_path: Path) -> None:
    asked = {"benchmark": "resnet50", "model_path": "/m", "dataset_path": "/d", "batch_size": 3}
    item, payloads, ready = upstream(tmp_path, **asked)
    made = start._spec(item, {"payloads": payloads}, PROBE, ready, CATALOG, LIMITS)
    (needed,) = payloads.values()
    source = item["cell"]["recipe"]["source"]
    python = f"/h/envs/{needed['envs']['python']['name']}/bin/python"
    assert made["argv"][:2] == [python, f"/store/tree/{source['folder']}/python/main.py"]
    assert not [word for word in made["argv"] if "{" in word]
    assert {"/store/model", "/store/dataset", "@run_dir@", "@run_dir@/user.conf", "3"} <= {
        word.rpartition("=")[2] for word in made["argv"]
    }
    assert made["argv"][-1] == "--accuracy"
    assert made["accuracy"]["argv"][1].startswith(f"/store/tree/{source['folder']}/")
    assert made["accuracy"]["env"]["HF_HUB_OFFLINE"] == "1"
    assert made["env"]["PATH"].startswith(f"{Path(python).parent}:")
    assert made["digests"]["tree"] == SHA
    assert made["files"] == {}
    assert made["log_limit"] == LIMITS.accuracy_log
    assert made["cell"]["recipe"]["source"]["commit"] == source["commit"]
    item, payloads, ready = upstream(tmp_path, **asked, mode="performance", target_qps=5)
    made = start._spec(item, {"payloads": payloads}, PROBE, ready, CATALOG, LIMITS)
    assert (made["accuracy"], "--accuracy" in made["argv"]) == (None, False)


def test_what_was_changed_in_upstreams_source_goes_into_the_run(tmp_path: Path) -> None:
    asked = {"benchmark": "3d-unet", "model_path": "/m", "dataset_path": "/d"}
    item, payloads, ready = upstream(tmp_path, **asked, source_override="/own")
    tree = item["cell"]["needs"]["tree"]
    assert tree["patches"]
    tree["sha256"] = "cd" * 32  # of the lab's tree; with the patches it is another on the host
    common = {"payloads": payloads, "differences": {"cd" * 32: "-a\n+b\n"}}
    made = start._spec(item, common, PROBE, ready, CATALOG, LIMITS)
    assert made["files"]["source.diff"] == "-a\n+b\n"
    (patch,) = tree["patches"]
    assert made["files"][patch] == (OURS / "patches" / patch).read_text(encoding="utf-8")
    assert made["digests"]["tree"] == SHA
    tree["patches"] = []
    with pytest.raises(BenchfleetError, match="on the host has sha256"):
        start._spec(item, common, PROBE, ready, CATALOG, LIMITS)


def test_a_run_records_no_password_of_an_address(tmp_path: Path) -> None:
    own = "https://eve:sesame@git.lab/inference@main"
    asked = {"benchmark": "resnet50", "model_path": "/m", "dataset_path": "/d"}
    item, payloads, ready = upstream(tmp_path, **asked, source_override=own)
    (origin,) = item["cell"]["needs"]["tree"]["artifact"]["origins"]
    origin["git"] = "https://eve:sesame@git.lab/inference"
    made = start._spec(item, {"payloads": payloads}, PROBE, ready, CATALOG, LIMITS)
    assert "sesame" not in json.dumps(made)
    assert made["cell"]["needs"]["tree"]["override"] == "https://git.lab/inference@main"
    assert origin["git"] == "https://eve:sesame@git.lab/inference"  # still needed to fetch it


# --- hosts and people ----------------------------------------------------------------------------


def test_a_host_that_is_not_ready_is_told_what_to_install() -> None:
    assert start._unready("fault", "disk is full") == "disk is full"
    text = start._unready("missing_packages", ["g++", "python3-dev"])
    assert "g++ python3-dev" in text
    assert "benchfleet_install_packages" in text


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"ansible_connection": "local"}, ["bash", "--rcfile", "/h/a b/shellrc", "-i"]),
        (
            {"ansible_host": "10.0.0.1", "ansible_user": "u", "ansible_port": 2222},
            ["ssh", "-t", "-p", "2222", "u@10.0.0.1", "exec bash --rcfile '/h/a b/shellrc' -i"],
        ),
        (
            {"inventory_hostname": "n1"},
            ["ssh", "-t", "n1", "exec bash --rcfile '/h/a b/shellrc' -i"],
        ),
    ],
)
def test_the_hint_of_debug_can_be_pasted(variables: dict[str, Any], expected: list[str]) -> None:
    hint = start._debug_hint("/h/a b", variables)
    assert shlex.split(hint.partition("by hand: ")[2]) == expected


def test_a_prepared_cell_runs_by_hand_in_a_shell(tmp_path: Path) -> None:
    (item,) = items(tmp_path, benchmark="custom", model_path="/m.onnx")
    cell = spec(item) | {"argv": ["sh", "-c", 'echo "$PWD|$GIVEN|$1"', "x", "it's"]}
    folder = by_hand.prepare(tmp_path / "hosts", cell | {"env": {"GIVEN": "a 'b' $c"}})
    assert "*.*.target_qps = 5" in (folder / "user.conf").read_text().replace(
        "custom.Offline", "*.*"
    )
    assert json.loads((folder / "config.json").read_text())["model"] == "/m.onnx"
    launched = subprocess.run([folder / "launch.sh"], capture_output=True, text=True, check=True)
    assert launched.stdout.strip() == f"{folder}|a 'b' $c|it's"
    shell = ["bash", "--rcfile", str(folder / "shellrc"), "-i"]
    typed = 'pwd; echo "$GIVEN"; history 1\n'
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    done = subprocess.run(shell, input=typed, capture_output=True, text=True, env=env, check=False)
    assert str(folder) in done.stdout.splitlines()
    assert "a 'b' $c" in done.stdout.splitlines()
    assert by_hand.prepare(tmp_path / "hosts", cell) == folder


def test_what_is_sent_is_named_by_its_content() -> None:
    jobs = payload.job_files()
    names = {f["path"] for f in jobs["files"]}
    assert {"__main__.py", "benchfleet_job/supervisor.py"} <= names
    assert jobs["name"].endswith(jobs["digest"][:12])
    assert payload.job_files() == jobs
    files = {f["path"]: base64.b64decode(f["content"]) for f in HARNESS["folder"]["files"]}
    assert b"def main" in files["harness.py"]
    assert ENV["loadgen"] in ENV["requirements"]
    other = harness(device="openvino")
    assert (other["code"], other["lock"] == HARNESS["lock"]) == (HARNESS["code"], False)


def test_a_loadgen_without_a_lock_names_those_with_one() -> None:
    with pytest.raises(BenchfleetError, match=r"loadgen-9\.9\.txt; there are: .*loadgen-6\.0\.17"):
        harness(version="9.9")


@pytest.mark.parametrize("name", ["onnxruntime-cpu.txt", "framework/onnxruntime-cpu.txt"])
def test_a_labs_own_implementation_names_a_lock_of_any_role(tmp_path: Path, name: str) -> None:
    (tmp_path / "implementations").mkdir()
    own = (OURS / "implementations" / "onnx.yml").read_text(encoding="utf-8")
    written = own.replace("framework/onnxruntime-cpu.txt", name)
    (tmp_path / "implementations" / "onnx.yml").write_text(written, encoding="utf-8")
    found = harness(Catalog(tmp_path))
    assert (found["envs"], found["lock"]) == (HARNESS["envs"], HARNESS["lock"])


def test_every_round_has_its_lock_for_every_device() -> None:
    for name in CATALOG.names("rounds"):
        version = CATALOG.get("rounds", name)["loadgen"]["version"]
        for device in CATALOG.get("implementations", "onnx")["devices"]:
            assert "--hash=sha256:" in "".join(
                harness(CATALOG, device, version)["envs"]["python"]["requirements"].values()
            )


def test_a_failed_module_is_one_sentence_that_says_what_to_do() -> None:
    assert module_result({"changed": True}) == {"changed": True}
    failed = {
        "failed": True,
        "msg": "Module result deserialization failed",
        "module_stderr": "a\nb",
    }
    with pytest.raises(BenchfleetError, match=r"ansible_python_interpreter.* b$"):
        module_result(failed)
    with pytest.raises(BenchfleetError, match=r"^no disk$"):
        module_result({"failed": True, "msg": "no disk"})


def test_what_a_host_says_does_not_steer_the_terminal() -> None:
    assert printable("\x1b[31mred\x1b]0;t\x07\r\nnext é µ\x9b") == "[31mred ]0;t next é µ"
