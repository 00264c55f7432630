"""The roles for the operating system on a host that has nothing: check, converge, again, verify."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fleet import Done
from lab import HostSpec, Lab
from tree import controller_environment, root

pytestmark = [pytest.mark.lab, pytest.mark.network]

NAME = "bare"
LIMIT_S = 300  # for a call; seconds but on a busy machine
# A small part of what the role installs by default, so that the test is soon over.
SMALL = {"host_base_packages": ["python", "venv", "archives"], "host_base_time_sync": False}
# Packages and settings of the host; and what is not there to be seen, access times.
INSTALLED = (
    "dpkg-query -W | sha256sum; find /etc /home /var/lib/benchfleet -type f | sort | sha256sum"
)
LOGS = "~/.benchfleet/logs"
ENGINE = {"container_runtime_engine": "docker", "container_runtime_users": ["bench"]}


@dataclass(frozen=True)
class Host:
    """The host and a controller's environment."""

    lab: Lab
    env: Mapping[str, str]

    def play(self, playbook: str, *words: str, user: str = "bench", **extra: Any) -> Done:
        """Call a playbook of the collection's for the host; `plain` may not become root."""
        if user == "plain":
            extra["ansible_become"] = False
        inventory = self.lab.inventory(NAME, user=user)
        done = subprocess.run(
            [
                *("ansible-playbook", str(root() / playbook), "-i", str(inventory)),
                *(*words, "-e", json.dumps(extra)),
            ],
            env={**self.env, "ANSIBLE_CONFIG": str(root() / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def sh(self, command: str) -> str:
        """Run a command on the host as root; return what it prints."""
        done = self.lab.ssh(NAME, f"sudo sh -c {shlex.quote(command)}", timeout=LIMIT_S)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout


@pytest.fixture(scope="module")
def host(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    lab.add(HostSpec(NAME, venv=False))
    yield Host(lab, controller_environment(tmp_path_factory.mktemp("home")))
    lab.remove(NAME)


def changed(done: Done) -> int:
    assert done.code == 0, done.text
    assert done.recap[NAME]["failed"] == done.recap[NAME]["unreachable"] == 0, done.text
    return done.recap[NAME]["changed"]


def words(done: Done) -> str:
    """What it printed, in one line: the screen's lines are broken anywhere."""
    return " ".join(done.text.split())


def test_check_on_a_bare_host_tells_and_touches_nothing(host: Host) -> None:
    before = host.sh(INSTALLED)
    engine = {**ENGINE, "container_runtime_docker_settings": {"data-root": "/data/docker"}}
    done = host.play("system.yml", "--check", "--diff", **SMALL, **engine)
    assert changed(done) >= 4, done.text  # packages, folder, engine, daemon.json
    for word in ("python3-venv", "docker.io", "/data/docker"):
        assert word in done.text, done.text
    assert host.sh(INSTALLED) == before


def test_without_root_the_missing_is_named_in_one_line(host: Host) -> None:
    done = host.play("system.yml", user="plain", **SMALL)
    assert done.code == 2
    line = "bare lacks packages python3-venv xz-utils unzip (required: python3-venv); settings"
    assert line in words(done), done.text
    optional = SMALL | {"host_base_packages": ["python", "archives"]}
    done = host.play("system.yml", user="plain", **optional)
    assert changed(done) == 0
    assert "bare lacks packages xz-utils unzip; settings /etc/security" in words(done), done.text


def test_a_package_that_does_not_exist_fails_with_the_reason_and_the_log(host: Host) -> None:
    extra = {"host_base_extra_packages": ["no-such-package"]}
    done = host.play("system.yml", **SMALL, **extra)
    assert done.code == 2
    found = re.search(
        r"Unable to locate package no-such-package The whole output: (\S+)", words(done)
    )
    assert found, done.text
    assert "install" in host.sh(f"cat {found.group(1)}")


def test_converge_and_again(host: Host) -> None:
    assert changed(host.play("system.yml", **SMALL)) > 0
    assert host.lab.ssh(NAME, "python3 -m venv /tmp/venv && sudo -n true").returncode == 0
    owners = host.lab.ssh(NAME, f"stat -c %U ~/.benchfleet {LOGS}; ls {LOGS}").stdout.split()
    assert owners[:2] == ["bench", "bench"]
    assert all(re.fullmatch(r"packages-\d{8}T\d{6}Z\.log", name) for name in owners[2:])
    assert changed(host.play("system.yml", **SMALL)) == 0
    assert changed(host.play("system.yml", user="plain", **SMALL)) == 0


def test_packages_from_a_folder_need_no_repository(host: Host) -> None:
    fetch = "apt-get -qq -y -d --no-install-recommends -o Dir::Cache::archives=/srv/packages"
    host.sh(f"mkdir -p /srv/packages/partial && {fetch} install numactl")
    host.sh("mv /etc/apt/sources.list /etc/apt/sources.away; rm -r /var/lib/apt/lists/*")
    offline = {**SMALL, "host_base_package_folder": "/srv/packages"}
    try:
        done = host.play("system.yml", **offline, host_base_extra_packages=["numactl"])
        assert changed(done) == 1, done.text
        missing = host.play("system.yml", **offline, host_base_extra_packages=["strace"])
    finally:
        host.sh("mv /etc/apt/sources.away /etc/apt/sources.list")
    assert "numactl" in host.sh("dpkg-query -W numactl")
    assert missing.code == 2
    assert "Unable to locate package strace" in words(missing), missing.text


CONTROL = """Package: docker.io
Version: 20.10
Architecture: all
Maintainer: lab <lab@lab>
Description: a simulator of docker with nothing in it
"""


def test_settings_of_dockerd_are_merged(host: Host) -> None:
    """With an engine that is there in name only, since a container can run none."""
    host.sh("mkdir -p /tmp/docker/DEBIAN /etc/docker && groupadd docker")
    host.sh(f"echo {shlex.quote(CONTROL)} > /tmp/docker/DEBIAN/control")
    host.sh("dpkg-deb -b /tmp/docker /tmp/docker.deb && dpkg -i /tmp/docker.deb")
    host.sh("""echo '{"log-level": "warn"}' > /etc/docker/daemon.json""")
    given = {
        **SMALL,
        **ENGINE,
        "container_runtime_docker_settings": {"data-root": "/data/docker"},
        "container_runtime_proxy": {"https": "http://user:secret@proxy:3128", "no": "localhost"},
    }
    done = host.play("system.yml", "--diff", **given)
    assert changed(done) == 4, done.text  # settings, folder and file of the unit, group
    assert "secret" not in done.text
    settings = json.loads(host.sh("cat /etc/docker/daemon.json"))
    assert settings == {"log-level": "warn", "data-root": "/data/docker"}
    unit = "/etc/systemd/system/docker.service.d/benchfleet-proxy.conf"
    assert host.sh(f"stat -c %a {unit}").strip() == "600"
    assert 'Environment="HTTPS_PROXY=http://user:secret@proxy:3128"' in host.sh(f"cat {unit}")
    assert "docker" in host.sh("id -nG bench").split()
    assert changed(host.play("system.yml", **given)) == 0


def test_tuning_of_a_host_that_lacks_settings(host: Host) -> None:
    first = host.play("tune.yml", tuning="apply")
    assert changed(first) == 1, first.text  # the report of what there is
    assert "transparent_hugepages not available" in words(first), first.text
    report = json.loads(host.sh("cat /var/lib/benchfleet/tuning_report.json"))
    assert report["transparent_hugepages"]["available"] is False
    assert changed(host.play("tune.yml", tuning="apply")) == 0
    assert changed(host.play("tune.yml", tuning="restore")) == 0
    required = {"system_tuning_require": ["transparent_hugepages"]}
    done = host.play("tune.yml", tuning="apply", **required)
    assert done.code == 2
    assert "transparent_hugepages not available: /sys/kernel" in words(done), done.text


AROUND = """
- hosts: all
  gather_facts: false
  become: true
  tasks:
    - block:
        - ansible.builtin.include_role: {name: benchfleet.mlperf.system_tuning}
        - ansible.builtin.fail: {msg: the measurement failed}
      always:
        - ansible.builtin.include_role:
            name: benchfleet.mlperf.system_tuning
            tasks_from: restore.yml
"""


def test_restore_is_reached_when_the_measurement_fails(host: Host, tmp_path: Path) -> None:
    playbook = tmp_path / "around.yml"
    playbook.write_text(AROUND)
    done = host.play(str(playbook))
    assert done.code == 2
    assert done.tasks[-1] == "Put back what was found", done.text


def test_tuning_asks_what_to_do(host: Host) -> None:
    done = host.play("tune.yml", tuning="aply")
    assert done.code == 2
    assert "-e tuning=apply, -e tuning=restore or -e tuning=report" in words(done), done.text


def test_nothing_is_changed_while_somebody_measures(host: Host) -> None:
    hold = (
        "import socket, time; s = socket.socket(socket.AF_UNIX);"
        " s.bind('\\0benchfleet.measurement'); s.listen(); time.sleep(60)"
    )
    host.sh(f'(python3 -c "{hold}" >/dev/null 2>&1 & echo $! > /tmp/holder; sleep 0.5)')
    try:
        done = host.play("system.yml", **SMALL, host_base_extra_packages=["strace"])
    finally:
        host.sh("kill $(cat /tmp/holder)")
    assert done.code == 2
    assert "measures on this host; nothing was changed" in words(done), done.text


def test_a_host_without_devices_gets_no_driver(host: Host, tmp_path: Path) -> None:
    for group, role in (("nvidia_gpus", "NVIDIA device"), ("amd_gpus", "AMD accelerator")):
        inventory = host.lab.inventory(NAME, path=tmp_path / f"{group}.ini")
        inventory.write_text(inventory.read_text() + f"\n[{group}]\n{NAME}\n")
        done = subprocess.run(
            ["ansible-playbook", str(root() / "system.yml"), "-i", str(inventory), "--check"],
            env={**os.environ, **host.env, "ANSIBLE_CONFIG": str(root() / "ansible.cfg")},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 2
        text = " ".join(done.stdout.split())
        assert f"No {role} is on the PCI bus of bare; take it out of the group {group}" in text


def test_the_labs_authorities_are_trusted_by_the_system(host: Host, tmp_path: Path) -> None:
    bundle, key = tmp_path / "lab.pem", tmp_path / "key.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    names = ["-subj", "/CN=Lab of this test", "-keyout", str(key), "-out", str(bundle)]
    subprocess.run([*made, *names], check=True, capture_output=True)
    asked = SMALL | {"benchfleet_ca_bundle": str(bundle)}
    assert changed(host.play("system.yml", **asked)) >= 1
    trusted = host.sh("cat /etc/ssl/certs/ca-certificates.crt")
    assert bundle.read_text().strip() in trusted
    assert changed(host.play("system.yml", **asked)) == 0
