# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a host against what its cells need."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import (
    outcomes,
    preflight,
    preflight_table,
)
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.preflight import Check, Lab, Need
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.session import Session

GB = 10**9
NEED = Need(
    digest="d1",
    benchmark="resnet50",
    resources={},
    gates=(),
    ports=(),
    vendor=None,
    driver_minimum="",
    devices=(),
    runtime=None,
    envs=({"name": "env-1", "wheels": ["x86_64"]},),
    artifacts=("aa",),
    cpus=1,
    power=False,
)
LAB = Lab(min_free=0, quota=0, may_install=False, consents=frozenset(), known={"aa": GB})
DISK = {
    "path": "/h",
    "free": 50 * GB,
    "total": 99 * GB,
    "writable": True,
    "read_only": False,
    "noexec": False,
}
L40S = [{"index": str(i), "name": "NVIDIA L40S", "bytes": 46068 << 20} for i in range(2)]
FACTS: dict[str, Any] = {
    "user": "bench",
    "disk": DISK,
    "used": None,
    "artifacts": {},
    "waiting_envs": [],
    "missing_packages": [],
    "root": None,
    "memory": {"total": 64 * GB, "available": 60 * GB, "limit": None},
    "cpus": {"online": 8, "allowed": 8, "quota": None},
    "accelerators": {"nvidia": {"driver": "575.51.03", "devices": L40S, "trouble": None}},
    "taken_ports": [],
    "runtimes": {},
    "time_service": "chronyd",
    "ends_at_logout": False,
    "measuring": None,
    "clock": {"offset_s": 0.001, "uncertainty_s": 0.01, "shell_s": 0.0},
}


def found(facts: dict[str, Any], *needs: Need, lab: Lab = LAB) -> dict[str, Check]:
    """Checks by name that are not ok."""
    every = preflight.checks(FACTS | facts, needs or (NEED,), lab)
    return {c.name: c for c in every if c.state != "ok"}


def test_a_good_host_has_no_findings_and_says_what_was_looked_at() -> None:
    assert found({}) == {}
    names = {c.name for c in preflight.checks(FACTS, [NEED], LAB)}
    assert names == {"home", "disk", "CPUs", "clock", "time service", "login shell", "logout"}


@pytest.mark.parametrize(
    ("facts", "changes", "name", "state", "words"),
    [
        ({"disk": DISK | {"free": GB // 2}}, {}, "disk", "fail", "0.5 GB free"),
        ({}, {"resources": {"disk_gb": 51}}, "disk", "fail", "51.0 GB for resnet50"),
        ({"disk": DISK | {"read_only": True}}, {}, "home", "fail", "mounted read-only"),
        ({"disk": DISK | {"noexec": True}}, {}, "home", "fail", "mounted noexec"),
        ({"disk": DISK | {"writable": False}}, {}, "home", "fail", "cannot be written"),
        ({}, {"resources": {"memory_gb": 65}}, "memory", "fail", "64.0 GB"),
        ({}, {"resources": {"memory_gb": 62}}, "memory", "warn", "60.0 GB available"),
        (
            {"memory": {"total": 64 * GB, "available": 60 * GB, "limit": 8 * GB}},
            {"resources": {"memory_gb": 9}},
            "memory",
            "fail",
            "8.0 GB (limit of the cgroup)",
        ),
        (
            {"cpus": {"online": 8, "allowed": 8, "quota": 1.5}},
            {"cpus": 4},
            "CPUs",
            "warn",
            "1.5 of 8 CPUs",
        ),
        ({}, {"vendor": "nvidia", "resources": {"accelerators": 4}}, "accelerators", "fail", "2 ("),
        (
            {},
            {"vendor": "nvidia", "resources": {"accelerator_gb": 80}},
            "accelerators",
            "fail",
            "NVIDIA L40S 48.3 GB",
        ),
        ({}, {"vendor": "nvidia", "devices": ("7",)}, "accelerators", "fail", "none of those"),
        ({}, {"vendor": "nvidia", "driver_minimum": "580.65"}, "driver", "fail", "575.51.03"),
        ({}, {"runtime": "docker"}, "container runtime", "fail", "not there"),
        ({"taken_ports": [8124]}, {"ports": (8123, 8124)}, "ports", "fail", "8124 taken"),
        (
            {"taken_ports": [8124], "measuring": {"user": "eve"}},
            {"ports": (8124,)},
            "ports",
            "warn",
            "8124 taken",
        ),
        (
            {"missing_packages": ["python3-venv"], "waiting_envs": ["env-1"]},
            {},
            "packages",
            "fail",
            "packages are missing: python3-venv",
        ),
        ({"time_service": None}, {}, "time service", "warn", "none"),
        (
            {"clock": {"offset_s": -0.3, "uncertainty_s": 0.1, "shell_s": 0.3}},
            {},
            "clock",
            "warn",
            "-300 ms ± 100 ms",
        ),
        (
            {"clock": {"offset_s": -0.3, "uncertainty_s": 0.1, "shell_s": 0.3}},
            {"power": True},
            "clock",
            "fail",
            "-300 ms",
        ),
        (
            {"clock": {"offset_s": 0, "uncertainty_s": 0.1, "shell_s": 0.3}},
            {},
            "login shell",
            "warn",
            "starts in 300 ms",
        ),
        ({"ends_at_logout": True}, {}, "logout", "fail", "logind ends what bench"),
        (
            {"measuring": {"user": "eve", "what": "bert", "until": "10:00"}},
            {},
            "measurement",
            "warn",
            "eve measures bert until about 10:00",
        ),
    ],
)
def test_what_is_not_well_is_found(
    facts: dict[str, Any], changes: dict[str, Any], name: str, state: str, words: str
) -> None:
    check = found(facts, replace(NEED, **changes))[name]
    assert check.state == state
    assert words in f"{check.found}, {check.wanted}"
    assert check.remedy
    assert check.digests == ("d1",)


def test_an_uncertain_clock_is_not_accused() -> None:
    assert found({"clock": {"offset_s": 0.5, "uncertainty_s": 0.5, "shell_s": None}}) == {}
    assert found({"clock": None}) == {}


def test_what_lies_there_already_needs_no_room() -> None:
    large = replace(NEED, resources={"disk_gb": 51})
    assert found({"artifacts": {"aa": 51 * GB}}, large) == {}
    user = replace(large, artifacts=())
    assert found({}, user) == {}
    unknown = replace(large, artifacts=("aa", None))
    assert found({"artifacts": {"aa": 2 * GB}}, unknown) == {}
    assert "disk" in found({"artifacts": {"aa": GB // 2}}, unknown)


def test_benchmarks_are_taken_while_they_fit() -> None:
    needs = [
        replace(NEED, digest=d, benchmark=b, artifacts=(d,), resources={"disk_gb": size})
        for d, b, size in (("d1", "a", 30), ("d2", "b", 30), ("d3", "c", 15))
    ]
    check = found({}, *needs)["disk"]
    assert check.digests == ("d2",)
    assert check.found == "20.0 GB free"


def test_the_environment_and_a_run_need_room_too() -> None:
    facts = {"disk": DISK | {"free": 2 * GB}, "waiting_envs": ["env-1"]}
    assert found(facts, replace(NEED, artifacts=())) == {}
    assert "disk" in found(facts, replace(NEED, artifacts=()), lab=replace(LAB, min_free=GB))


def test_a_quota_counts_what_is_there() -> None:
    lab = replace(LAB, quota=20 * GB)
    assert found({"used": 18 * GB}, lab=lab) == {}
    check = found({"used": 19 * GB + 1}, lab=lab)["quota"]
    assert "benchfleet_quota_gb" in check.remedy


def test_packages_that_the_playbook_may_install_are_no_finding() -> None:
    facts = {"missing_packages": ["g++"], "waiting_envs": ["env-1"]}
    assert found(facts, lab=replace(LAB, may_install=True)) == {}


@pytest.mark.parametrize("how", ["consent", "token", "own-copy", "members"])
def test_a_gate_says_where_to_get_it(how: str) -> None:
    gate = {
        "artifact": "llama2-70b",
        "name": "llama2",
        "how": how,
        "where": "https://example.org/terms",
        "terms": "…",
        "satisfied": False,
    }
    check = found({}, replace(NEED, gates=(gate,)))["licence"]
    assert check.state == "fail"
    assert "https://example.org/terms" in check.remedy
    assert found({}, replace(NEED, gates=(gate | {"satisfied": True},))) == {}
    agreed = replace(LAB, consents=frozenset({"llama2"}))
    assert (found({}, replace(NEED, gates=(gate,)), lab=agreed) == {}) is (how == "consent")


def test_a_failed_check_refuses_its_cells_only(tmp_path: Path) -> None:
    needs = [NEED, replace(NEED, digest="d2", benchmark="bert", resources={"memory_gb": 99})]
    refused = preflight.refusals(preflight.checks(FACTS, needs, LAB))
    assert list(refused) == ["d2"]
    assert refused["d2"].startswith("memory: 64.0 GB; wanted 99.0 GB for bert. Take a host")
    session = Session.create(tmp_path, {"hosts": ["h"]}, {})
    items = [{"digest": d, "action": "run", "reason": None} for d in ("d1", "d2")]
    assert session.work("h") is None
    session.record("h", "probe", {"work": items})
    assert session.work("h") == items
    session.record("h", "preflight", {"refused": refused})
    work = session.work("h") or []
    assert [i["action"] for i in work] == ["run", "refuse"]
    assert work[1]["reason"] == refused["d2"]


def test_preflight_only_leaves_a_ready_cell_and_fails_a_host_that_cannot_be_checked() -> None:
    item = {"cell": {"id": "c"}, "digest": "d1"}
    common = {"preflight_only": True, "debug": False}
    stages: dict[str, dict[str, Any]] = {n: {} for n in outcomes._STAGES}
    assert outcomes._missing(item, stages, common)["outcome"] == "failed"
    stages["preflight"] = {"checks": []}
    assert outcomes._missing(item, stages, common)["outcome"] == "skipped"
    stages["preflight"] = {"fault": "no Python"}
    assert outcomes._missing(item, stages, common)["outcome"] == "failed"


def test_versions_are_compared_by_their_numbers() -> None:
    assert preflight.version_at_least("575.51.03", "575.51")
    assert preflight.version_at_least("10.0", "9.9")
    assert not preflight.version_at_least("525.60.11", "525.60.13")


def test_the_table_shows_what_is_not_well_with_the_worst_first() -> None:
    def record(state: str, name: str) -> dict[str, Any]:
        return Check(name, state, "a", "b", "do", ("d1",)).as_dict()

    hosts = {"h1": {"checks": [record("ok", "disk"), record("warn", "clock")]}}
    hosts["h2"] = {"checks": [record("fail", "memory")]}
    suts = {"h1": {"d1": "sut-1"}, "h2": {"d1": "left", "d2": "right"}}
    lines = preflight_table.lines(hosts, suts, False, Path("/r.json"))
    assert [line.split()[:3] for line in lines[4:6]] == [
        ["left", "memory", "fail"],
        ["sut-1", "clock", "warn"],
    ]
    assert "disk" not in "\n".join(lines)
    assert "disk" in "\n".join(preflight_table.lines(hosts, suts, True, Path("/r.json")))
    fine = {"h1": {"checks": [record("ok", "disk")]}}
    assert preflight_table.lines(fine, suts, False, Path("/r.json")) == []
