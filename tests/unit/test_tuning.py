# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Tuning on a simulated /sys and /proc and a simulated nvidia-smi; facts of a simulated host."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import host_facts, tuning
from ansible_collections.benchfleet.mlperf.plugins.module_utils.host_store import HostError

BOOT = "one-boot"
THP = "sys/kernel/mm/transparent_hugepage/enabled"
POLICY = "sys/devices/system/cpu/cpufreq/policy{}/scaling_governor"
WANTED = {
    "cpu_governor": "performance",
    "transparent_hugepages": "always",
    "numa_balancing": "0",
    "nmi_watchdog": "0",
    "aslr": tuning.KEEP,
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Below it: two CPU policies with two idle states each, huge pages, two sysctls."""
    for number, governor in ((0, "schedutil"), (10, "powersave")):
        write(tmp_path, POLICY.format(number), governor)
        path = POLICY.format(number).replace("scaling_governor", "scaling_available_governors")
        write(tmp_path, path, "performance powersave schedutil")
        for state in (1, 2):
            write(tmp_path, f"sys/devices/system/cpu/cpu{number}/cpuidle/state{state}/disable", "0")
    write(tmp_path, THP, "always [madvise] never")
    write(tmp_path, "proc/sys/kernel/numa_balancing", "1")
    write(tmp_path, "proc/sys/kernel/nmi_watchdog", "0")
    return tmp_path


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(f"{text}\n")


def read(root: Path, path: str) -> str:
    return (root / path).read_text().strip()


class Smi:
    """A simulator of nvidia-smi with two devices; the second has no power limit."""

    def __init__(self) -> None:
        self.rows = [
            ["GPU-a", "Disabled", "700.00", "1980", "2619"],
            ["GPU-b", "Disabled", "[N/A]", "1980", "2619"],
        ]
        self.calls: list[list[str]] = []

    def __call__(self, argv: Sequence[str]) -> tuple[int | None, str, str]:
        if argv[1].startswith("--query-gpu"):
            return 0, "".join(", ".join(row) + "\n" for row in self.rows), ""
        _smi, _i, uuid, *option = argv
        self.calls.append([uuid, *option])
        row = next(row for row in self.rows if row[0] == uuid)
        if option[0] == "-pm":
            row[1] = "Enabled" if option[1] == "1" else "Disabled"
        if option[0] == "-pl":
            if float(option[1]) > 700:
                return 4, f"Provided power limit {option[1]} W is not a valid power limit\n", ""
            row[2] = f"{float(option[1]):.2f}"
        return 0, "All done.\n", ""


def nothing(argv: Sequence[str]) -> tuple[int | None, str, str]:
    return None, "", ""


def machine(root: Path, smi: Any = nothing, saved: tuning.Saved | None = None) -> tuning.Machine:
    locked = saved.locked_clocks if saved else {}
    return tuning.Machine(tuning.Files(str(root)), tuning.Gpus(smi, locked))


def applied(
    root: Path, wanted: dict[str, str], idle: Sequence[int] = (), smi: Any = nothing
) -> Any:
    """Apply with the state file below `root`; return what was set."""
    path = str(root / "found.json")
    saved = tuning.Saved.load(path, BOOT)
    one = machine(root, smi, saved)
    return tuning.apply(one, one.look(wanted, idle), saved, path)


def restored(root: Path, smi: Any = nothing, boot: str = BOOT) -> Any:
    path = str(root / "found.json")
    saved = tuning.Saved.load(path, boot)
    return tuning.restore(machine(root, smi, saved), saved, path)


def test_apply_and_restore_leave_no_trace(root: Path) -> None:
    before = {path: path.read_text() for path in root.rglob("*") if path.is_file()}
    done = applied(root, WANTED, [2])
    assert all(not item.why for item in done)
    assert [read(root, POLICY.format(n)) for n in (0, 10)] == ["performance"] * 2
    assert read(root, "proc/sys/kernel/numa_balancing") == "0"
    assert read(root, "sys/devices/system/cpu/cpu10/cpuidle/state2/disable") == "1"
    assert read(root, "sys/devices/system/cpu/cpu10/cpuidle/state1/disable") == "0"
    write(root, THP, "[always] madvise never")  # as the kernel would show it
    assert applied(root, WANTED, [2]) == []
    restored(root)
    assert read(root, THP) == "madvise"
    write(root, THP, "always [madvise] never")
    assert {path: path.read_text() for path in root.rglob("*") if path.is_file()} == before


def test_what_was_found_first_is_what_comes_back(root: Path) -> None:
    applied(root, {"cpu_governor": "powersave"})
    applied(root, {"cpu_governor": "performance"})
    write(root, POLICY.format(0), "powersave")  # and somebody else was there too
    restored(root)
    assert [read(root, POLICY.format(n)) for n in (0, 10)] == ["schedutil", "powersave"]
    assert not (root / "found.json").exists()
    assert restored(root) == []


def test_what_is_as_wanted_is_not_in_the_state_file(root: Path) -> None:
    applied(root, {"nmi_watchdog": "0"})
    assert not (root / "found.json").exists()
    applied(root, WANTED)
    assert (
        "proc/sys/kernel/nmi_watchdog"
        not in json.loads((root / "found.json").read_text())["targets"]
    )


def test_the_state_file_is_there_before_the_first_value_is_set(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: tuning.Files, target: str, value: str) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tuning.Files, "write", crash)
        applied(root, {"numa_balancing": "0"})
    kept = json.loads((root / "found.json").read_text())["targets"]
    assert kept["proc/sys/kernel/numa_balancing"]["before"] == "1"


def test_a_reboot_has_put_everything_back(root: Path) -> None:
    applied(root, {"numa_balancing": "0"})
    assert restored(root, boot="another") == []
    assert read(root, "proc/sys/kernel/numa_balancing") == "0"
    assert not (root / "found.json").exists()


def test_a_damaged_state_file_is_not_passed_over(root: Path) -> None:
    (root / "found.json").write_text("{")
    with pytest.raises(HostError, match="damaged"):
        applied(root, WANTED)


def test_a_cpu_that_has_gone_is_forgotten(root: Path) -> None:
    applied(root, {"cpu_governor": "performance"})
    (root / POLICY.format(10)).unlink()
    done = restored(root)
    assert {item.target: item.now for item in done}[POLICY.format(10)] is None
    assert read(root, POLICY.format(0)) == "schedutil"
    assert not (root / "found.json").exists()


@pytest.mark.parametrize("when", ["apply", "restore"])
def test_a_value_that_the_kernel_refuses(
    root: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def refuse(self: tuning.Files, target: str, value: str) -> None:
        raise OSError(22, "Invalid argument")

    if when == "restore":
        applied(root, {"numa_balancing": "0"})
    with monkeypatch.context() as patch:
        patch.setattr(tuning.Files, "write", refuse)
        done = applied(root, {"numa_balancing": "0"}) if when == "apply" else restored(root)
    assert [item.why for item in done] == ["Invalid argument"]
    assert (root / "found.json").exists() is (when == "restore")


def test_a_value_that_does_not_stay(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning.Files, "write", lambda *_any: None)
    (item,) = applied(root, {"numa_balancing": "0"})
    assert item.why == "it was set to 0 and is 1"


def test_what_a_host_lacks_is_not_available(tmp_path: Path) -> None:
    found = tuning.report(machine(tmp_path).look({**WANTED, "nvidia_power_limit": "500"}, [2]))
    assert not any(one["available"] for one in found.values())
    assert set(found) == {*WANTED, "nvidia_power_limit", "cpu_idle_states_off"} - {"aslr"}
    assert found["cpu_governor"]["why"].startswith("no /sys/devices/system/cpu/cpufreq/policy")
    assert found["nvidia_power_limit"]["why"] == "no NVIDIA device answers nvidia-smi"
    assert tuning.unmet(found, ["numa_balancing", "aslr"]) == [
        "aslr is required but left alone (keep)",
        "numa_balancing not available: no /proc/sys/kernel/numa_balancing",
    ]


def test_a_governor_that_is_not_offered(root: Path) -> None:
    one = machine(root)
    found = tuning.report(one.look({"cpu_governor": "ondemand"}, []))
    assert found["cpu_governor"]["why"] == (
        f"/{POLICY.format(0)} takes only performance, powersave, schedutil"
    )
    assert applied(root, {"cpu_governor": "ondemand"}) == []
    found = tuning.report(one.look({"transparent_hugepages": "sometimes"}, []))
    assert found["transparent_hugepages"]["why"] == f"/{THP} takes only always, madvise, never"


def test_report_has_one_line_for_each_setting(root: Path) -> None:
    found = tuning.report(machine(root).look(WANTED, []))
    assert found["cpu_governor"] == {
        "value": "schedutil (1 of 2), powersave (1 of 2)",
        "wanted": "performance",
        "available": True,
        "why": "",
    }
    assert tuning.differing(found) == [
        "cpu_governor is schedutil (1 of 2), powersave (1 of 2), wanted performance",
        "transparent_hugepages is madvise, wanted always",
        "numa_balancing is 1, wanted 0",
    ]


GPU = {
    "nvidia_persistence_mode": "Enabled",
    "nvidia_power_limit": "500.0",
    "nvidia_graphics_clocks": "1200,1980",
}


def test_devices_are_set_and_put_back(root: Path) -> None:
    smi = Smi()
    applied(root, GPU, smi=smi)
    assert smi.calls == [
        ["GPU-a", "-pm", "1"],
        ["GPU-b", "-pm", "1"],
        ["GPU-a", "-pl", "500"],
        ["GPU-a", "-lgc", "1200,1980"],
        ["GPU-b", "-lgc", "1200,1980"],
    ]
    smi.calls.clear()
    assert applied(root, GPU, smi=smi) == []
    restored(root, smi)
    assert smi.calls == [
        ["GPU-b", "-rgc"],
        ["GPU-a", "-rgc"],
        ["GPU-a", "-pl", "700"],
        ["GPU-b", "-pm", "0"],
        ["GPU-a", "-pm", "0"],
    ]
    assert smi.rows[0][:3] == ["GPU-a", "Disabled", "700.00"]


def test_a_device_that_lacks_a_setting_is_named(root: Path) -> None:
    found = tuning.report(machine(root, Smi()).look(GPU, []))
    assert found["nvidia_power_limit"]["why"] == "GPU-b does not have it"


def test_a_limit_that_nvidia_smi_refuses_is_told_in_its_words(root: Path) -> None:
    done = applied(root, {"nvidia_power_limit": "900"}, smi=Smi())
    assert done[0].why.startswith("nvidia-smi -pl 900: Provided power limit 900 W is not")


RELEASES = {
    'ID=ubuntu\nID_LIKE=debian\nVERSION_ID="24.04"\nVERSION_CODENAME=noble\n': "Debian",
    'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n': "Debian",
    'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.6"\n': "RedHat",
    "ID=fedora\nVERSION_ID=42\n": "RedHat",
    'ID="opensuse-leap"\nID_LIKE="suse opensuse"\nVERSION_ID="15.6"\n': "Suse",
    'ID="sles"\nID_LIKE="suse"\nVERSION_ID="15.6"\n': "Suse",
    "ID=arch\n": "",
    "": "",
}


@pytest.mark.parametrize("text", RELEASES)
def test_family_of_an_operating_system(text: str) -> None:
    assert host_facts.operating_system(text)["family"] == RELEASES[text]


def test_facts_of_a_machine_with_eight_devices(tmp_path: Path) -> None:
    write(tmp_path, "etc/os-release", 'ID=ubuntu\nVERSION_ID="24.04"\nVERSION_CODENAME=noble')
    for number in range(8):
        folder = f"sys/bus/pci/devices/0000:{number:02}:00.0"
        write(tmp_path, f"{folder}/vendor", "0x10de")
        write(tmp_path, f"{folder}/class", "0x030200")
    for number, (vendor, kind) in enumerate((("0x10de", "0x068000"), ("0x1002", "0x120000"))):
        write(tmp_path, f"sys/bus/pci/devices/0000:a{number}:00.0/vendor", vendor)
        write(tmp_path, f"sys/bus/pci/devices/0000:a{number}:00.0/class", kind)
    write(tmp_path, "sys/module/nvidia/version", "580.65.06")
    write(tmp_path, "proc/12/comm", "systemd-timesyn")
    write(tmp_path, "proc/self/status", "Name:\tx\nCapEff:\t000001ffffffffff")
    found = host_facts.read(str(tmp_path))
    assert found["nvidia"] == {"devices": 8, "switch": True, "loaded": "580.65.06"}
    assert found["amd"] == {"devices": 1, "switch": False, "loaded": ""}
    assert (found["id"], found["codename"]) == ("ubuntu", "noble")
    assert found["clock_daemon"] == "systemd-timesyn"
    assert found["may_raise_limits"] is True
    assert found["systemd"] is found["headers"] is found["nouveau"] is False


def test_a_container_may_not_raise_limits(tmp_path: Path) -> None:
    write(tmp_path, "proc/self/status", "CapEff:\t00000000a80425fb")
    assert host_facts.read(str(tmp_path))["may_raise_limits"] is False
