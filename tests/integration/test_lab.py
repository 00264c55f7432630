"""The lab is what the other tests believe it to be."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from lab import HostSpec, Lab, LabError

pytestmark = pytest.mark.lab


def ansible(
    lab: Lab, env: dict[str, str], cwd: Path, *words: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["ansible", "-i", str(lab.inventory()), *words],
        env=env,
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=120,
        check=False,
    )


def test_ansible_reaches_every_host(lab: Lab, ansible_env: dict[str, str], tmp_path: Path) -> None:
    done = ansible(lab, ansible_env, tmp_path, "all", "-m", "ping", "-o")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("SUCCESS") == len(lab.hosts) >= 4


def test_hosts_are_machines_of_their_own(lab: Lab) -> None:
    for probe in (
        "cat /etc/machine-id",
        "cat /proc/sys/kernel/random/boot_id",
        "readlink /proc/self/ns/net",
        "hostname",
    ):
        seen = [lab.ssh(name, probe).stdout.splitlines()[-1] for name in lab.hosts]
        assert len(set(seen)) == len(lab.hosts), (probe, seen)


def test_users_differ_in_what_they_may(lab: Lab) -> None:
    assert lab.ssh("sut1", "sudo -n id -u").stdout.strip() == "0"
    assert lab.ssh("sut1", "sudo -n true", user="plain").returncode != 0


def test_unknown_host_key_is_refused(lab: Lab) -> None:
    known = lab.known_hosts.read_text()
    try:
        lab.known_hosts.write_text("")
        refused = lab.ssh("sut1", "true")
    finally:
        lab.known_hosts.write_text(known)
    assert refused.returncode == 255
    assert "Host key verification failed" in refused.stderr


def test_variants(lab: Lab) -> None:
    assert lab.ssh("sut1", "python3 -m ensurepip --version").returncode == 0
    assert "Welcome" in lab.ssh("sut3", "true").stdout
    lab.add(HostSpec("odd", venv=False, sftp="none", home_mb=16, groups=("odd",)))
    try:
        # sut4 is made the same way, but other tests let the playbook install what it lacks
        assert lab.ssh("odd", "python3 -m ensurepip --version").returncode != 0
        full = lab.ssh("odd", "head -c 20000000 /dev/zero > ~/big")
        assert full.returncode != 0
        assert "No space left" in full.stderr
        sftp = subprocess.run(
            ["sftp", *lab.ssh_options, f"bench@{lab.hosts['odd'].address}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        assert sftp.returncode != 0, sftp.stdout
    finally:
        lab.remove("odd")


def test_a_cut_host_is_silent_and_comes_back(lab: Lab) -> None:
    lab.ssh("sut2", "nohup sleep 61 >/dev/null 2>&1 &")
    with lab.disconnected("sut2"):
        started = time.monotonic()
        assert lab.ssh("sut2", "true").returncode == 255
        assert time.monotonic() - started > 5
    assert lab.ssh("sut2", "pgrep -f '[s]leep 61'").returncode == 0
    lab.ssh("sut2", "pkill -f '[s]leep 61'")


def test_reboot_keeps_the_disk_and_changes_the_boot_id(lab: Lab) -> None:
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before = lab.ssh("sut2", boot_id).stdout
    lab.ssh("sut2", "echo kept > ~/file; nohup sleep 600 >/dev/null 2>&1 &")
    lab.reboot("sut2")
    assert lab.ssh("sut2", boot_id).stdout not in ("", before)
    assert lab.ssh("sut2", "cat ~/file").stdout == "kept\n"
    assert lab.ssh("sut2", "pgrep -f '[s]leep 600'").returncode == 1


@pytest.mark.network
def test_hosts_reach_the_package_index(lab: Lab) -> None:
    done = lab.ssh(
        "sut1",
        "python3 -m venv v && v/bin/pip download -q --no-deps -d downloads wheel && ls downloads",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wheel-")


def test_a_host_that_cannot_start_says_why(lab: Lab) -> None:
    with pytest.raises(LabError, match="sut1"):
        lab.add(HostSpec("sut1"))
