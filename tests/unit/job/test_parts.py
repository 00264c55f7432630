# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small parts: user.conf, the look at the host, records."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import (
    quiet,
    records,
    user_conf,
)


def test_user_conf_lines() -> None:
    keys = {"target_qps": 20000.5, "min_duration": 2000, "print_timestamps": True}
    assert user_conf.format_user_conf("digits", "Server", keys) == (
        "digits.Server.min_duration = 2000\n"
        "digits.Server.print_timestamps = 1\n"
        "digits.Server.target_qps = 20000.5\n"
    )
    tiny = user_conf.format_user_conf("m", "SingleStream", {"target_latency": 1.5e-5})
    assert tiny == "m.SingleStream.target_latency = 0.000015\n"
    assert user_conf.format_user_conf("m", "Interactive", {"target_qps": 1}).startswith("m.Server")


@pytest.mark.parametrize(
    ("model", "scenario", "keys", "said"),
    [
        ("m", "Offline", {"min_durations": 1}, "min_durations"),
        ("m", "Offline", {"target_latency": 1}, "target_latency"),
        ("m", "SingleStream", {"target_qps": 1}, "target_qps"),
        ("m", "Offline", {"target_qps": float("nan")}, "not a number"),
        ("m", "Offline", {"target_qps": "5"}, "not a number"),
        ("a.b", "Offline", {}, "model name"),
        ("m", "offline", {}, "unknown scenario"),
    ],
)
def test_what_loadgen_would_ignore_is_an_error(model, scenario, keys, said) -> None:
    with pytest.raises(ValueError, match=said):
        user_conf.format_user_conf(model, scenario, keys)


def test_targets_fill_in_what_the_plan_left_open() -> None:
    target = {"target_qps": 5.0, "server_latency_ms": 50.0, "min_query_count": 662}
    keys = user_conf.apply_target("Server", {"min_query_count": 100}, target)
    assert keys == {"min_query_count": 662, "target_qps": 5.0, "target_latency": 50.0}
    keys = user_conf.apply_target("Server", {"target_latency": 15}, target)
    assert keys["target_latency"] == 15
    assert user_conf.apply_target("Offline", {"min_duration": 1}, None) == {"min_duration": 1}
    with pytest.raises(ValueError, match="no target of Offline"):
        user_conf.apply_target("Offline", {}, {"target_latency_ms": 1})


def make_host(root: Path, throttled: int) -> Path:
    (root / "proc").mkdir(parents=True)
    (root / "proc/stat").write_text("cpu  100 0 50 800 50 0 0 10 0 0\n")
    (root / "proc/loadavg").write_text("1.50 1.0 0.9 1/100 5\n")
    (root / "proc/meminfo").write_text("MemTotal: 1000 kB\nMemAvailable: 50 kB\n")
    counter = root / "sys/devices/system/cpu/cpu0/thermal_throttle"
    counter.mkdir(parents=True)
    (counter / "core_throttle_count").write_text(f"{throttled}\n")
    return root


def test_a_look_at_the_host(tmp_path: Path) -> None:
    root = make_host(tmp_path, 7)
    figures = quiet.sample(0.0, root)
    assert figures["load_1m"] == 1.5
    assert figures["throttle_events"] == 7
    assert figures["memory_available_bytes"] == 51200
    assert len(figures["warnings"]) == 1
    assert "of memory are available" in figures["warnings"][0]
    (root / "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count").write_text("9")
    assert quiet.throttled(7, root) == (
        2,
        ["the CPUs slowed down for heat 2 times during the run"],
    )
    assert quiet.throttled(None, root) == (None, [])


def test_foreign_load_is_said_with_figures() -> None:
    before, after = (150, 10, 1010), (250, 30, 1210)
    busy, steal = quiet.shares(before, after)
    assert (busy, steal) == (0.5, 0.1)
    figures = {"foreign_cpu_share": busy, "steal_share": steal}
    figures.update(memory_available_bytes=None, memory_total_bytes=None)
    said = quiet.warnings(figures, 4)
    assert said[0] == "other processes use 50% of the CPUs (2.0 of 4, quiet is up to 5%)"
    assert "hypervisor takes 10%" in said[1]
    assert quiet.shares(before, before) == (0.0, 0.0)
    assert quiet.foreign_share((10.0, 100.0), (16.0, 110.0), 4.0) == 0.2
    assert quiet.foreign_share((10.0, 100.0), (11.0, 110.0), 4.0) == 0.0
    assert quiet.foreign_share((10.0, 100.0), (10.0, 100.0), 4.0) == 0.0


def test_a_host_without_figures_has_no_warnings(tmp_path: Path) -> None:
    figures = quiet.sample(0.0, tmp_path)
    assert figures["warnings"] == []
    assert figures["throttle_events"] is None


def test_run_folders_never_meet(tmp_path: Path) -> None:
    first = records.new_run_dir(tmp_path, "abcdef0123456", 0.0)
    assert first.name == "19700101T000000Z-abcdef01"
    first.mkdir()
    assert records.new_run_dir(tmp_path, "abcdef0123456", 0.0).name == "19700101T000001Z-abcdef01"


def test_inputs_stay_in_their_folder(tmp_path: Path) -> None:
    for name in ("../x", "a/b", "", ".hidden"):
        with pytest.raises(ValueError, match="not a name"):
            records.write_inputs(tmp_path, {name: "x"})
    assert list(tmp_path.iterdir()) == []


def test_links_are_not_evidence(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "sub").mkdir(parents=True)
    (run / "sub/log").write_text("text")
    (run / "link").symlink_to("/etc/hostname")
    (run / "loop").symlink_to(run)
    assert list(records.manifest(run)["files"]) == ["sub/log"]
    assert records.utc(0.0) == "1970-01-01T00:00:00.000Z"
