# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a preflight reads on a host: text of real tools and files, and made-up roots."""

from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import accelerators, preflight
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import login

NVIDIA = "0, NVIDIA L40S, 575.51.03, 46068 MiB\n1, NVIDIA L40S, 575.51.03, 46068 MiB\n"
SPARK = "0, NVIDIA GB10, 580.95.05, [N/A]\n"
NO_DRIVER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure"
    " that the latest NVIDIA driver is installed and running.\n"
)
# amd-smi static --asic --vram --driver --json, of ROCm 6 and of a newer one; shortened
AMD_LIST = """[{"gpu": 0, "asic": {"market_name": "AMD Instinct MI300X", "device_id": "0x74a1"},
"vram": {"type": "HBM", "size": {"value": 196592, "unit": "MB"}},
"driver": {"name": "amdgpu", "version": "6.8.5"}}]"""
AMD_OBJECT = '{"gpu_data": ' + AMD_LIST + "}"
ROCM = """WARNING: AMD GPU device(s) is/are in a low-power state. Check power control/runtime_status

{"card0": {"VRAM Total Memory (B)": "68702699520", "VRAM Total Used Memory (B)": "27856896",
"Card Series": "AMD INSTINCT MI250 (MCM) OAM AC MBA", "Card Model": "0x740c"},
"card1": {"VRAM Total Memory (B)": "68702699520", "Card series": "AMD INSTINCT MI250"},
"system": {"Driver version": "6.3.6"}}"""


def test_nvidia_smi_is_read() -> None:
    driver, devices = accelerators.nvidia(NVIDIA)
    assert driver == "575.51.03"
    assert [d["index"] for d in devices] == ["0", "1"]
    assert devices[0]["bytes"] == 46068 << 20
    assert accelerators.nvidia(SPARK)[1][0] == {"index": "0", "name": "NVIDIA GB10", "bytes": None}


@pytest.mark.parametrize("text", [NO_DRIVER, "No devices were found\n", ""])
def test_a_tool_without_devices_is_no_answer(text: str) -> None:
    with pytest.raises(ValueError, match=r"NVIDIA-SMI has failed|No devices|empty"):
        accelerators.nvidia(text)


@pytest.mark.parametrize("text", [AMD_LIST, AMD_OBJECT])
def test_amd_smi_is_read(text: str) -> None:
    assert accelerators.amd(text) == (
        "6.8.5",
        [{"index": "0", "name": "AMD Instinct MI300X", "bytes": 196592 << 20}],
    )


def test_rocm_smi_is_read_behind_its_warnings() -> None:
    driver, devices = accelerators.rocm(ROCM)
    assert driver == "6.3.6"
    assert [(d["index"], d["bytes"]) for d in devices] == [("0", 68702699520), ("1", 68702699520)]
    assert devices[1]["name"] == "AMD INSTINCT MI250"


def test_the_older_tool_is_asked_when_the_newer_one_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tool(tmp_path / "rocm-smi", ROCM)
    assert accelerators.read("amdgpu")["driver"] == "6.3.6"
    tool(tmp_path / "amd-smi", AMD_OBJECT)
    assert accelerators.read("amdgpu")["driver"] == "6.8.5"
    tool(tmp_path / "nvidia-smi", NO_DRIVER, code=9)
    assert accelerators.read("nvidia")["trouble"].startswith("nvidia-smi: NVIDIA-SMI has failed")


def tool(path: Path, text: str, code: int = 0) -> None:
    """A simulator of a vendor's tool: prints what the real one printed."""
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\nexit {code}\n")
    path.chmod(0o755)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_tightest_limit_of_all_cgroups_counts(tmp_path: Path) -> None:
    root = write(
        tmp_path,
        {
            "proc/meminfo": "MemTotal:       65536 kB\nMemAvailable:   32768 kB\n",
            "proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n",
            "sys/fs/cgroup/user.slice/memory.max": "33554432\n",
            "sys/fs/cgroup/user.slice/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/user.slice/user-1000.slice/memory.max": "max\n",
            "sys/fs/cgroup/user.slice/user-1000.slice/cpu.max": "max 100000\n",
        },
    )
    expected = {"total": 64 << 20, "available": 32 << 20, "limit": 32 << 20}
    assert preflight.memory(root) == expected
    assert preflight.cpus(root)["quota"] == 1.5


def test_no_limit_of_the_old_cgroups_is_none(tmp_path: Path) -> None:
    none = {"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n"}
    assert preflight.memory(write(tmp_path, none))["limit"] is None
    assert preflight.cpus(tmp_path)["quota"] is None


def test_a_home_that_is_not_there_yet_is_where_it_will_be(tmp_path: Path) -> None:
    found = preflight.disk(str(tmp_path / "a" / "b"))
    assert found["path"] == str(tmp_path)
    assert 0 < found["free"] <= found["total"]
    assert found["writable"] and not found["read_only"]


def test_linked_files_take_their_space_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 100_000)
    once = preflight.used(str(tmp_path))
    os.link(tmp_path / "a", tmp_path / "b")
    assert preflight.used(str(tmp_path)) == once >= 100_000


def test_a_port_that_somebody_listens_on_is_taken() -> None:
    with socket.socket() as listener, socket.socket() as other:
        listener.bind(("", 0))
        listener.listen()
        other.bind(("", 0))
        free = other.getsockname()[1]
        other.close()
        port = listener.getsockname()[1]
        assert preflight.taken_ports([port, free]) == [port]


def test_the_version_of_a_container_runtime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    tool(tmp_path / "docker", "Docker version 28.2.2, build e6534b4")
    tool(tmp_path / "podman", "podman version 4.3.1")
    found = preflight.runtimes(["docker", "podman", "no-such-runtime"])
    assert found == {"docker": "28.2.2", "podman": "4.3.1", "no-such-runtime": None}


def test_a_time_service_is_seen_by_its_process(tmp_path: Path) -> None:
    assert preflight.time_service(tmp_path) is None
    write(tmp_path, {"run/.containerenv": ""})
    assert preflight.time_service(tmp_path) == "the host of this container"
    write(tmp_path, {"proc/12/comm": "systemd-timesyn\n"})
    assert preflight.time_service(tmp_path) == "systemd-timesyncd"


SESSION = {"proc/self/cgroup": "0::/user.slice/user-1000.slice/session-3.scope\n"}
KILL = "[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n"


@pytest.mark.parametrize(
    ("files", "ends"),
    [
        ({}, False),
        ({"etc/systemd/logind.conf": "[Login]\n#KillUserProcesses=yes\n"}, False),
        ({"etc/systemd/logind.conf": KILL}, True),
        ({"usr/lib/systemd/logind.conf": KILL, "etc/systemd/logind.conf": "[Login]\n"}, False),
        ({"usr/lib/systemd/logind.conf.d/9.conf": KILL}, True),
        (
            {
                "usr/lib/systemd/logind.conf.d/9.conf": KILL,
                "etc/systemd/logind.conf.d/9.conf": "[Login]\n",
            },
            False,
        ),
        ({"etc/systemd/logind.conf": f"{KILL}KillExcludeUsers=root bench\n"}, False),
        ({"etc/systemd/logind.conf": f"{KILL}KillOnlyUsers=eve\n"}, False),
    ],
)
def test_logind_that_ends_a_job(tmp_path: Path, files: dict[str, str], ends: bool) -> None:
    assert preflight.ends_at_logout("bench", write(tmp_path, SESSION | files)) is ends


def test_outside_a_session_nothing_is_ended(tmp_path: Path) -> None:
    files = {"etc/systemd/logind.conf": KILL, "proc/self/cgroup": "0::/system.slice/ssh.service\n"}
    assert preflight.ends_at_logout("bench", write(tmp_path, files)) is False


def stat(pid: int, name: str, start: int) -> str:
    return f"{pid} ({name}) S 1 {' '.join(['0'] * 17)} {start} 0 0"


def test_a_look_gives_offset_and_the_shells_time() -> None:
    out = f"Welcome\n\nbenchfleet-clock 100.50 1000.250000000\n{stat(9, 'sh', 10020)}\n"
    look = login.read(out + stat(8, "sshd", 9000) + "\n", 1000.0, 1000.1)
    assert look == {
        "offset_s": pytest.approx(0.2),
        "uncertainty_s": pytest.approx(0.05),
        "shell_s": pytest.approx(0.3),
    }
    behind = login.read(out + stat(8, "bash", 10000) + "\n", 1000.0, 1000.1)
    assert behind is not None and behind["shell_s"] == pytest.approx(0.5)


def test_a_date_without_nanoseconds_leaves_a_second_open() -> None:
    out = f"\nbenchfleet-clock 100.50 1000.%N\n{stat(9, 'sh', 10020)}\n\n"
    look = login.read(out, 1000.0, 1000.0)
    assert look is not None
    assert (look["offset_s"], look["uncertainty_s"]) == (0.5, 0.5)
    assert login.read("no such file", 0, 1) is None


def test_this_machine_answers_the_look() -> None:
    before = time.time()
    out = os.popen(login.COMMAND).read()
    look = login.read(out, before, time.time())
    assert look is not None
    assert abs(look["offset_s"] or 0.0) <= (look["uncertainty_s"] or 0.0) + 0.001
