# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What hosts keep, as the modules and the table show it, and what may be removed of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils import basic
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts import entries
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import process
from ansible_collections.benchfleet.mlperf.plugins.modules import artifact, artifact_info
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import cache_table

Call = Callable[..., dict[str, Any]]
CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(name="call")
def _call(monkeypatch: pytest.MonkeyPatch, store: Store) -> Call:
    """Run a module as Ansible does, in this process; return what it answers."""

    def run(module: Any, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"store": str(store.root), "_ansible_check_mode": check, **options}
        given = {**given, "_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False}
        text = json.dumps({"ANSIBLE_MODULE_ARGS": given}).encode()
        monkeypatch.setattr(basic, "_ANSIBLE_ARGS", text)
        monkeypatch.setattr(basic, "_ANSIBLE_PROFILE", "legacy", raising=False)
        out = io.StringIO()
        monkeypatch.setattr(sys, "stdout", out)
        with pytest.raises(SystemExit):
            module.main()
        monkeypatch.setattr(sys, "stdout", sys.__stdout__)
        answer: dict[str, Any] = json.loads(out.getvalue())
        return answer

    return run


def keep(store: Store, name: str, content: bytes, *tags: str, kind: str = "model") -> str:
    sha256 = hashlib.sha256(content).hexdigest()
    part = store.part(sha256)
    part.write_bytes(content)
    store.add_file(part, sha256, {"name": name, "type": kind, "tags": list(tags)})
    return sha256


def job(store: Store, text: str, **about: Any) -> None:
    """Let a job run, on this or another host that shares the home."""
    host_dir = store.root / "hosts" / "n1"
    folder = host_dir / "jobs" / "j1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(text)
    own = {"pid": os.getpid(), "pid_start": process.start_ticks(os.getpid())}
    entry = {"state": "running", "boot_id": process.boot_id(), "digests": [], **own, **about}
    (host_dir / "state.json").write_text(json.dumps({"jobs": {"j1": entry}}))


def furnish(store: Store) -> None:
    """An environment, a wheel, a source folder, a mirror of git, and a download under way."""
    for path, size in (
        ("envs/onnx-cpu-0123/lib/x.py", 1000),
        ("wheels/loadgen-5.0.15-cp311-x86_64/l.whl", 200),
        ("src/onnx-0123/run.py", 30),
        ("src/job-0123/job.py", 40),
        ("git/0123456789abcdef/HEAD", 5),
    ):
        (store.root / path).parent.mkdir(parents=True)
        (store.root / path).write_bytes(bytes(size))
    store.part("ab" * 32).write_bytes(bytes(6))


def test_the_module_obtains_once_and_tells_what_it_did(
    call: Call, server: Any, store: Store
) -> None:
    origin = {"url": f"{server.url}/m", "md5": hashlib.md5(CONTENT).hexdigest()}
    options = {"name": "m", "type": "model", "origins": [origin], "tags": ["x"]}
    first = call(artifact, check=True, **options)
    assert (first["changed"], first["digest"], server.asked) == (True, None, [])
    found = call(artifact, **options)
    assert (found["changed"], found["digest"], found["checked_by"]) == (True, SHA, "md5")
    assert (found["kind"], found["bytes"]) == ("file", len(CONTENT))
    assert found["path"] == str(store.file_path(SHA))
    for check in (True, False):
        assert call(artifact, check=check, **options)["changed"] is False
    assert call(artifact, state="verified", **options)["changed"] is False
    store.file_path(SHA).chmod(0o644)
    store.file_path(SHA).write_bytes(b"rot")
    assert "m is damaged" in call(artifact, state="verified", **options)["msg"]
    gone = call(artifact, state="absent", **options)
    assert (gone["changed"], gone["removed"], store.has(SHA)) == (True, ["m"], False)
    assert call(artifact, state="absent", **options)["changed"] is False
    assert "is not in" in call(artifact, state="verified", **options)["msg"]


def test_no_secret_comes_back(call: Call, server: Any, store: Store) -> None:
    server.answers["/m"] = (403, {})
    url = server.url.replace("//", "//eve:s3cret@") + "/m"
    answer = call(artifact, name="m", origins=[{"url": url}], sha256=SHA, token="hf_t0ken")
    assert answer["failed"]
    text = json.dumps(answer)
    assert "s3cret" not in text
    assert "hf_t0ken" not in text


def test_the_token_reaches_the_hub(call: Call, server: Any) -> None:
    name = "org/repo"
    server.answers[f"/{name}/resolve/{'c0' * 20}/f"] = (401, {})
    origin = {"hf": name, "revision": "c0" * 20, "files": ["f"]}
    call(artifact, name="m", origins=[origin], hf_endpoint=server.url, token="hf_t0ken")
    assert server.asked[0][3] == "Bearer hf_t0ken"


def test_everything_a_host_keeps_is_listed_by_tags(call: Call, store: Store) -> None:
    furnish(store)
    keep(store, "resnet50", b"12345", "mlperf", "resnet50")
    listed = call(artifact_info)
    assert not listed["changed"]
    assert {(e["type"], e["name"], e["bytes"]) for e in listed["entries"]} == {
        ("model", "resnet50", 5),
        ("env", "onnx-cpu-0123", 1000),
        ("wheels", "loadgen-5.0.15-cp311-x86_64", 200),
        ("source", "onnx-0123", 30),
        ("source", "job-0123", 40),
        ("git", "0123456789abcdef", 5),
        ("unfinished", f"{'ab' * 32}.part", 6),
    }
    assert listed["bytes"] == 1286

    def named(**options: Any) -> list[str]:
        return [e["name"] for e in call(artifact_info, **options)["entries"]]

    assert named(tags=["resnet50", "mlperf"]) == ["resnet50"]
    assert named(tags=["resnet50", "env"]) == []
    assert named(tags=["loadgen"]) == ["loadgen-5.0.15-cp311-x86_64"]
    assert named(tags=["harness"]) == ["onnx-0123"]
    assert named(names=["onnx*", "res*"], type="env") == ["onnx-cpu-0123"]
    store.file_path(hashlib.sha256(b"12345").hexdigest()).unlink()
    assert call(artifact_info, verify=True)["damaged"] == ["resnet50"]


def test_removing_says_what_it_frees_and_frees_it(call: Call, store: Store, tmp_path: Path) -> None:
    furnish(store)
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_bytes(bytes(100))
    (tmp_path / "t" / "b").write_bytes(b"shared")
    tree = store.add_tree(tmp_path / "t", {"name": "set", "type": "dataset", "tags": ["x"]})
    keep(store, "other", b"shared", "y")
    assert "give names, tags" in call(artifact, state="absent")["msg"]
    for check in (True, False):
        answer = call(artifact, check=check, state="absent", tags=["x"])
        assert (answer["changed"], answer["removed"], answer["freed"]) == (True, ["set"], 100)
        assert store.has(tree) is check
    assert store.has(hashlib.sha256(b"shared").hexdigest())
    assert call(artifact, state="absent", names=["onnx-cpu*"])["freed"] == 1000
    assert not (store.root / "envs" / "onnx-cpu-0123").exists()
    assert call(artifact, state="absent", tags=["unfinished"])["freed"] == 6


def test_nothing_a_running_job_uses_is_removed(call: Call, store: Store) -> None:
    furnish(store)
    used, idle = keep(store, "used", b"1", "x"), keep(store, "idle", b"2", "x")
    env = str(store.root / "envs" / "onnx-cpu-0123")
    job(store, json.dumps({"argv": [f"{env}/bin/python"], "model": str(store.file_path(used))}))
    answer = call(artifact, state="absent", tags=["x"])
    assert answer["removed"] == ["idle"]
    assert answer["notes"] == ["used stays: job j1 uses it"]
    assert (store.has(used), store.has(idle)) == (True, False)
    refused = call(artifact, state="absent", tags=["env"])
    assert refused["failed"]
    assert "job j1 uses it" in refused["msg"]
    assert Path(env).exists()


def test_a_download_under_way_keeps_its_parts(call: Call, store: Store) -> None:
    furnish(store)
    with store.lock("ab" * 32):
        refused = call(artifact, state="absent", tags=["unfinished"])
    assert "a download under way uses it" in refused["msg"]
    assert call(artifact, state="absent", tags=["unfinished"])["freed"] == 6


@pytest.mark.parametrize(
    ("about", "text", "in_use"),
    [
        ({"state": "done"}, "/onnx-cpu-0123", False),
        ({"pid": 2**22 + 1}, "envs/onnx-cpu-0123", False),
        ({"pid": 2**22 + 1, "boot_id": "another host's"}, "envs/onnx-cpu-0123", True),
        ({}, None, True),
    ],
    ids=["over", "dead", "elsewhere", "unreadable"],
)
def test_which_jobs_count(store: Store, about: dict[str, Any], text: Any, in_use: bool) -> None:
    furnish(store)
    job(store, f"{store.root}/{text}", **about)
    if text is None:
        (store.root / "hosts/n1/jobs/j1/job.json").unlink()
    (env,) = entries.chosen(entries.entries(store), ["env"], [])
    assert bool(env.used_by) is in_use


def test_the_fleet_is_one_table(call: Call, store: Store) -> None:
    furnish(store)
    keep(store, "resnet50", bytes(2_000_000), "mlperf")
    one = call(artifact_info, tags=["mlperf"])
    found = {f"sut{n}": one for n in range(5)}
    found["down"] = {"unreachable": True}
    found["bad"] = {"failed": True, "msg": "no Python"}
    lines = cache_table.listed(found)
    digest = hashlib.sha256(bytes(2_000_000)).hexdigest()[:12]
    row = next(line for line in lines if line.startswith("model"))
    words = ["model", "resnet50", "2 MB", "mlperf", digest, "sut0, sut1, sut2 and 2 more"]
    assert re.split(r"  +", row) == words
    assert "down: UNREACHABLE" in lines
    assert "bad: FAILED: no Python" in lines
    assert lines[-1] == "1 thing, 10 MB on 7 stores."


def test_what_was_removed_is_one_table() -> None:
    one = {"removed": ["env"], "freed": 1_500_000, "notes": ["x stays"]}
    lines = cache_table.removed({"a": one, "b": one, "c": {"removed": [], "freed": 0}}, False)
    assert "env      a, b" in lines
    assert "a: x stays" in lines
    assert lines[-1] == "3 MB freed."
    assert cache_table.removed({}, True)[-1] == "0 B would be freed."
