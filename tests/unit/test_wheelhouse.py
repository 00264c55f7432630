# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels for hosts without internet. The controller's Python is a simulator here, a shell script
that notes how its pip is called and leaves a file."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.action import python_env as action
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import Access
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import payload, planner, wheelhouse
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.wheelhouse import Target, unmarked

HOST = Target("3.11", "x86_64", (2, 35))
ARM = Target("3.11", "aarch64", (2, 35))
PIP = """#!/bin/sh
echo "$*" >>"$CALLS"
echo "from $PIP_INDEX_URL"
while [ "$1" != -d ]; do shift; done
ANSWER
touch "$2/wheel-$(ls "$2" | wc -l)"
"""
LOCK = """\
# Index: https://download.example.org/whl/cpu for torch
# Built from source: rouge
numpy==2.0 ; python_full_version < '3.11' \\
    --hash=sha256:1
numpy==2.4 ; python_full_version >= '3.11' and platform_machine == 'x86_64' \\
    --hash=sha256:2
    # via torch
rouge==1 \\
    --hash=sha256:3
torch==2.13.0+cpu \\
    --hash=sha256:4
"""


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture(name="web")
def _web() -> Iterator[Any]:
    spec = importlib.util.spec_from_file_location(
        "web", Path(__file__).with_name("artifacts") / "web.py"
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with module.serving() as server:
        yield server


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return simulate(tmp_path, monkeypatch, "")


def simulate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> Path:
    program = tmp_path / "controller-python"
    program.write_text(PIP.replace("ANSWER", answer))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))
    monkeypatch.delenv("PIP_INDEX_URL", raising=False)
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path))
    return tmp_path / "calls"


def env(**changes: Any) -> dict[str, Any]:
    return payload.environment([], own={"run.txt": LOCK}) | changes


def test_platforms_are_all_that_the_hosts_library_can_load() -> None:
    assert HOST.platforms()[0] == "manylinux_2_35_x86_64"
    assert {"manylinux2014_x86_64", "manylinux1_x86_64", "manylinux_2_5_x86_64"} <= set(
        HOST.platforms()
    )
    assert ARM.platforms()[-2:] == ["manylinux_2_17_aarch64", "manylinux2014_aarch64"]


def test_markers_are_those_of_the_host() -> None:
    assert [x for x in unmarked(LOCK, HOST).splitlines() if "numpy" in x] == ["numpy==2.4 \\"]
    assert "sha256:1" not in unmarked(LOCK, HOST)
    assert "numpy" not in unmarked(LOCK, ARM)
    old = Target("3.10", "aarch64", (2, 35))
    assert next(x for x in unmarked(LOCK, old).splitlines() if "==" in x) == "numpy==2.0 \\"


def have(
    store: Store,
    wanted: Mapping[str, Any],
    target: Target = HOST,
    access: Access | None = None,
) -> list[str]:
    """Names of the files that come into the store."""
    digest, _new = wheelhouse.have(store, wanted, target, access or Access(), lambda _line: None)
    return sorted(p.name for p in store.path(digest).iterdir())


def test_every_part_is_downloaded_once_for_the_host(store: Store, calls: Path) -> None:
    assert wheelhouse.find(store, env(), HOST) is None
    files = have(store, env(), access=Access(environment={"PIP_INDEX_URL": ""}))
    said = calls.read_text().splitlines()
    assert len(said) == len(files) == 3
    assert all(x.startswith("-m pip download ") and "--no-deps" in x for x in said)
    assert all("--require-hashes" in x for x in said)
    source = next(x for x in said if "source-run.txt" in x)
    assert "--no-binary :all:" in source and "--platform" not in source
    wheels = next(x for x in said if "wheels-run.txt" in x)
    assert "--python-version 3.11 --platform manylinux_2_35_x86_64" in wheels
    assert have(store, env()) == files
    assert len(calls.read_text().splitlines()) == 3
    (record,) = store.records()
    assert record["tags"] == ["cp311-x86_64", env()["name"], "wheels"]
    have(store, env(), ARM)
    assert len(calls.read_text().splitlines()) == 6


def test_wheels_for_an_older_c_library_serve_a_newer_one(store: Store, calls: Path) -> None:
    have(store, env(), Target.parse("cp311-x86_64"))
    assert wheelhouse.find(store, env(), HOST)
    assert wheelhouse.find(store, env(), Target("3.11", "x86_64", (2, 27))) is None
    assert wheelhouse.find(store, env(), Target("3.12", "x86_64", (2, 35))) is None
    assert wheelhouse.find(store, payload.environment([], "6.0.17"), HOST) is None
    assert len(calls.read_text().splitlines()) == 3


def test_wheels_come_from_the_labs_mirror_first(
    store: Store, calls: Path, tmp_path: Path, web: Any
) -> None:
    first = Store(tmp_path / "first")
    files = have(first, env())
    calls.unlink()
    for path in first.base.rglob("*"):
        if path.is_file() and "trees" not in path.parts:
            web.files[f"/artifacts/{path.relative_to(first.base)}"] = path.read_bytes()
    assert have(store, env(), access=Access(mirror=web.url)) == files
    assert not calls.exists()
    have(store, env(), ARM, Access(mirror=web.url))
    assert calls.exists()


def test_the_index_of_a_lock_is_asked_unless_the_lab_has_its_own(
    store: Store, tmp_path: Path, calls: Path
) -> None:
    have(store, env())
    assert calls.read_text().count("--extra-index-url https://download.example.org/whl/cpu") == 1
    calls.unlink()
    own = Access(environment={"PIP_INDEX_URL": "https://me:pw@mine"})
    have(Store(tmp_path / "b"), env(), access=own)
    assert "--extra-index-url" not in calls.read_text()
    assert "pw@" not in "".join(p.read_text() for p in tmp_path.rglob("*.log"))


def test_loadgen_comes_as_source_where_it_has_no_wheel(store: Store, calls: Path) -> None:
    have(store, payload.environment([], "6.0.17"), ARM)
    tools, loadgen = calls.read_text().splitlines()
    assert "pybind11==2.11.1" in tools and "--only-binary" in tools
    assert "--no-binary :all:" in loadgen and "loadgen-6.0.17.txt" in loadgen


def test_the_labs_own_loadgen_needs_what_it_is_built_with_only(store: Store, calls: Path) -> None:
    have(store, payload.environment([], "6.0.17", "ab" * 32))
    (tools,) = calls.read_text().splitlines()
    assert "pybind11==2.11.1" in tools


def test_a_download_that_fails_leaves_nothing_that_looks_whole(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = 'echo "ERROR: No matching distribution found for numpy==2.4"; exit 1'
    simulate(tmp_path, monkeypatch, answer)
    with pytest.raises(BenchfleetError) as caught:
        have(store, env())
    said = str(caught.value)
    assert f"wheels of {env()['name']} for cp311-x86_64 are not in the store." in said
    assert "failed: the index has no file of numpy==2.4 for that Python and machine." in said
    assert store.records() == []
    simulate(tmp_path, monkeypatch, "")
    assert len(have(store, env())) == 3


def test_a_controller_without_pip_is_told_what_to_do(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(BenchfleetError, match=r"has no pip, .* run .* -m ensurepip"):
        have(store, env())


@pytest.mark.parametrize("text", ["cp311", "cp311-riscv", "py3-x86_64", "cp311-x86_64-3.1"])
def test_a_target_is_a_python_and_a_machine(text: str) -> None:
    with pytest.raises(BenchfleetError, match="such as cp311-x86_64"):
        Target.parse(text)


def test_an_environment_that_cannot_exist_on_a_host_says_why() -> None:
    assert HOST.why_not(env()) is None
    assert ARM.why_not(env(wheels=["x86_64"])) == "its packages exist for x86_64 only"
    old = Target("3.8", "x86_64", (2, 31))
    assert old.why_not(payload.environment(["framework/pytorch-cpu.txt"]))


GIVEN: dict[str, Any] = {
    "locks": [],
    "requirements": {},
    "round": "",
    "loadgen_version": "",
    "loadgen_source": "",
    "catalog_path": "",
}


def test_a_role_names_the_environment_as_a_run_does() -> None:
    asked = parse({"benchmark": "digits", "round": "v6.1"})
    (cell, *_others) = planner.plan(asked, {"n": {}}, Catalog())
    run = payload.harness(Catalog(), cell)["envs"]["python"]
    role = action.environment(GIVEN | {"round": "v6.1", "locks": ["framework/onnxruntime-cpu.txt"]})
    assert {k: v for k, v in role.items() if k != "wheels"} == {
        k: v for k, v in run.items() if k != "wheels"
    }
    assert re.fullmatch(r"onnxruntime-cpu-[0-9a-f]{12}", role["name"])


def test_an_environments_name_says_what_is_in_it() -> None:
    only = action.environment(GIVEN | {"round": "v5.0"})
    assert only["name"].startswith("loadgen-5.0.21-")
    without = action.environment(GIVEN | {"locks": ["harness_reference/bert-accuracy-cpu.txt"]})
    assert (without["loadgen"], list(without["requirements"])) == ("", ["bert-accuracy-cpu.txt"])
    own = action.environment(GIVEN | {"round": "v5.0", "loadgen_source": "/srv/loadgen"})
    assert own["loadgen_source"] == "/srv/loadgen"
    assert own["name"] != only["name"]


def test_machines_are_those_of_all_locks() -> None:
    found = payload.environment(["framework/vllm-cuda.txt", "framework/pytorch-cpu.txt"])
    assert found["wheels"] == ["x86_64"]
    assert payload.environment([], "6.0.17")["wheels"] == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({}, "an environment needs a lock"),
        ({"requirements": {"a.txt": "numpy==2\n"}}, "a.txt holds no hash-locked packages."),
        ({"round": "v9"}, "round 'v9' is not in the catalog"),
        ({"locks": ["framework/pytorch-rocm.txt"]}, "there are: .*pytorch-cpu.txt"),
    ],
)
def test_what_is_not_locked_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchfleetError, match=said):
        action.environment(GIVEN | given)
