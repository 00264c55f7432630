# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages and repositories: what is decided, what is read, and the module with a simulated dnf."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import (
    openpgp,
    packages,
    repositories,
)
from ansible_collections.benchfleet.mlperf.plugins.module_utils.packages import Wanted
from ansible_collections.benchfleet.mlperf.plugins.modules.json_settings import merged

ROOT = Path(__file__).resolve().parents[2]

# What the tools print, and the words of it that a person needs.
SAID = {
    "apt: no such package": (
        "Reading package lists...\nBuilding dependency tree...\nReading state information...\n"
        "E: Unable to locate package no-such\n",
        "E: Unable to locate package no-such",
    ),
    "apt: no candidate": (
        "Package python3-venv is not available, but is referred to by another package.\n"
        "This may mean that the package is missing, has been obsoleted, or\n"
        "is only available from another source\n\n"
        "E: Package 'python3-venv' has no installation candidate\n",
        "E: Package 'python3-venv' has no installation candidate",
    ),
    "apt: no such version": (
        "E: Version '580.65.06-*' for 'nvidia-fabricmanager-580' was not found\n",
        "E: Version '580.65.06-*' for 'nvidia-fabricmanager-580' was not found",
    ),
    "apt: unmet": (
        "Some packages could not be installed. This may mean that you have\n"
        "requested an impossible situation or if you are using the unstable\n"
        "distribution that some required packages have not yet been created\n"
        "or been moved out of Incoming.\n"
        "The following information may help to resolve the situation:\n\n"
        "The following packages have unmet dependencies:\n"
        " nvidia-open : Depends: nvidia-driver (>= 580.65.06) but it is not going to be installed\n"
        "E: Unable to correct problems, you have held broken packages.\n",
        "nvidia-open : Depends: nvidia-driver (>= 580.65.06) but it is not going to be installed",
    ),
    "apt: no network": (
        "Err:1 http://deb.debian.org/debian bookworm/main amd64 numactl amd64 2.0.16-1\n"
        "  Could not resolve 'deb.debian.org'\n"
        "E: Failed to fetch http://deb.debian.org/n/numactl_2.0.16-1_amd64.deb"
        "  Could not resolve 'deb.debian.org'\n"
        "E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?\n",
        "E: Failed to fetch http://deb.debian.org/n/numactl_2.0.16-1_amd64.deb"
        " Could not resolve 'deb.debian.org'",
    ),
    "apt: update": (
        "W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease"
        "  Could not resolve 'deb.debian.org'\n"
        "W: Some index files failed to download. They have been ignored.\n",
        "W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease"
        " Could not resolve 'deb.debian.org'",
    ),
    "apt: interrupted": (
        "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct. \n",
        "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct.",
    ),
    "dpkg: script": (
        "Setting up chrony (4.3-2+deb12u1) ...\n"
        "dpkg: error processing package chrony (--configure):\n"
        " installed chrony package post-installation script subprocess returned error exit"
        " status 1\n"
        "Errors were encountered while processing:\n chrony\n"
        "E: Sub-process /usr/bin/dpkg returned an error code (1)\n",
        "dpkg: error processing package chrony (--configure): installed chrony package"
        " post-installation script subprocess returned error exit status 1",
    ),
    "dkms": (
        "Building initial module for 6.1.0-37-amd64\n"
        "Error! Bad return status for module build on kernel: 6.1.0-37-amd64 (x86_64)\n"
        "Consult /var/lib/dkms/nvidia/580.65.06/build/make.log for more information.\n"
        "dpkg: error processing package nvidia-kernel-open-dkms (--configure):\n"
        " installed nvidia-kernel-open-dkms package post-installation script subprocess returned"
        " error exit status 10\n",
        "Error! Bad return status for module build on kernel: 6.1.0-37-amd64 (x86_64) Consult"
        " /var/lib/dkms/nvidia/580.65.06/build/make.log for more information.",
    ),
    "disk": (
        "dpkg: error processing archive /var/cache/apt/archives/g++_12_amd64.deb (--unpack):\n"
        " cannot copy extracted data for './usr/bin/x' to '/usr/bin/x.dpkg-new':"
        " failed to write (No space left on device)\n",
        "cannot copy extracted data for './usr/bin/x' to '/usr/bin/x.dpkg-new':"
        " failed to write (No space left on device)",
    ),
    "dnf: no match": (
        "Last metadata expiration check: 0:01:05 ago on Mon 02 Jun 2025 10:00:00 AM UTC.\n"
        "No match for argument: no-such\nError: Unable to find a match: no-such\n",
        "Error: Unable to find a match: no-such",
    ),
    "dnf5: no match": (
        "Updating and loading repositories:\nRepositories loaded.\n"
        "Failed to resolve the transaction:\nNo match for argument: no-such\n"
        "You can try to add to command line:\n  --skip-unavailable to skip unavailable packages\n",
        "No match for argument: no-such",
    ),
    "dnf: repository": (
        "Errors during downloading metadata for repository 'benchfleet-nvidia':\n"
        "  - Curl error (6): Couldn't resolve host name for https://developer.download.nvidia.com/"
        "repodata/repomd.xml [Could not resolve host: developer.download.nvidia.com]\n"
        "Error: Failed to download metadata for repo 'benchfleet-nvidia': Cannot download"
        " repomd.xml: Cannot download repodata/repomd.xml: All mirrors were tried\n",
        "Error: Failed to download metadata for repo 'benchfleet-nvidia': Cannot download"
        " repomd.xml: Cannot download repodata/repomd.xml: All mirrors were tried",
    ),
    "dnf: unmet": (
        "Error: \n Problem: conflicting requests\n"
        "  - nothing provides dkms needed by kmod-nvidia-open-dkms-3:580.65.06-1.el9.noarch\n"
        "(try to add '--skip-broken' to skip uninstallable packages)\n",
        "- nothing provides dkms needed by kmod-nvidia-open-dkms-3:580.65.06-1.el9.noarch",
    ),
    "dnf: stream": (
        "Error: Problems in request:\nmissing groups or modules: nvidia-driver:999-open\n",
        "missing groups or modules: nvidia-driver:999-open",
    ),
    "zypper: no provider": (
        "Loading repository data...\nReading installed packages...\n"
        "No provider of 'no-such' found.\n",
        "No provider of 'no-such' found.",
    ),
    "zypper: package": (
        "'no-such' not found in package names. Trying capabilities.\n"
        "Package 'no-such' not found.\n",
        "Package 'no-such' not found.",
    ),
    "zypper: unmet": (
        "Problem: 1: nothing provides 'dkms' needed by the to be installed amdgpu-dkms-1.noarch\n"
        " Solution 1: do not install amdgpu-dkms-1.noarch\n",
        "Problem: 1: nothing provides 'dkms' needed by the to be installed amdgpu-dkms-1.noarch",
    ),
    "unknown words": ("one\ntwo\n\n", "two"),
    "nothing": ("", "no output."),
}


@pytest.mark.parametrize("name", SAID)
def test_the_telling_line(name: str) -> None:
    text, expected = SAID[name]
    assert packages.telling_line(text) == expected


LOCKS = [
    "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812",
    "E: Unable to lock directory /var/lib/apt/lists/",
    "System management is locked by the application with pid 1234 (/usr/bin/zypper).",
]


@pytest.mark.parametrize("text", LOCKS)
def test_another_package_manager_at_work(text: str) -> None:
    assert packages.locked(text)
    assert not packages.locked(SAID["apt: no network"][0])


def test_what_is_installed() -> None:
    dpkg = "tar\tinstalled\t1.34+dfsg-1.2\ngit\tconfig-files\t1:2.39.5-0\nno\tnot-installed\t\n"
    assert set(packages.parse_query(dpkg)) == {"tar", "tar-1.34+dfsg-1.2"}
    rpm = "package git is not installed\nkernel-devel\tinstalled\t5.14.0-570.el9\n"
    found = packages.parse_query(rpm)
    assert found["kernel-devel"] == "5.14.0-570.el9"
    wanted = [Wanted.parse(t) for t in ("git", "kernel-devel-5.14.0-570.el9", "kernel-devel-6-1")]
    assert [w.name for w in packages.missing(wanted, found)] == ["git", "kernel-devel-6-1"]


VERSIONS = [
    ("580.65.06-1", False),
    ("580.65.06-0ubuntu1", False),
    ("1:580.65.06-1.el9", False),
    ("580.65.060-1", True),
    ("580.82.07-1", True),
]


@pytest.mark.parametrize(("installed", "expected"), VERSIONS)
def test_an_exact_version(installed: str, expected: bool) -> None:
    wanted = [Wanted.parse("fm=580.65.06")]
    assert bool(packages.missing(wanted, {"fm": installed})) is expected


def test_commands_that_install() -> None:
    what = [Wanted("tar"), Wanted("fm", "580.65.06")]
    apt = packages.install_argv("apt-get", what, 60)
    assert apt[-3:] == ["install", "tar", "fm=580.65.06-*"]
    assert "DPkg::Lock::Timeout=60" in apt
    assert "--allow-downgrades" in apt
    assert "--allow-downgrades" not in packages.install_argv("apt-get", what[:1], 60)
    dnf = packages.install_argv("dnf", what, 60)
    assert dnf == [
        *("dnf", "-y", "--setopt=install_weak_deps=False", "install"),
        "tar",
        "fm-580.65.06",
    ]
    zypper = packages.install_argv("zypper", what, 60)
    assert zypper[-3:] == ["--oldpackage", "tar", "fm=580.65.06"]
    assert zypper[:2] == ["zypper", "--non-interactive"]


def test_files_ask_no_repository() -> None:
    assert packages.install_files_argv("dnf", ["/p/a.rpm"]) == [
        *("dnf", "-y", "--disablerepo=*", "install", "/p/a.rpm")
    ]
    assert "--disable-repositories" in packages.install_files_argv("zypper", ["/p/a.rpm"])
    assert "Dir::Etc::sourceparts=-" in packages.apt_folder_options("/tmp/x")


def test_module_streams() -> None:
    record = "[nvidia-driver]\nname=nvidia-driver\nprofiles=\nstate=enabled\nstream=580-open\n"
    assert packages.stream_enabled("nvidia-driver:580-open", record)
    assert not packages.stream_enabled("nvidia-driver:570-open", record)
    assert not packages.stream_enabled("nvidia-driver:580-open", record.replace("enabled", ""))


# A key that gpg made for this test, and the fingerprint that gpg tells of it.
KEY = """-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawVxdhYJKwYBBAHaRw8BAQdAKMXAjcjw9c9BoRH2F9XfOLHAmJj+Jb45FPhe
WVrGqOm0FHRlc3QgPHRAZXhhbXBsZS5vcmc+iJAEExYIADgWIQSrNsl37UfmMzr3
QRu+FhlgEhU8TgUCawVxdgIbAwULCQgHAgYVCgkICwIEFgIDAQIeAQIXgAAKCRC+
FhlgEhU8TrJ1APwJ/YflJtfbvBhwFlWXWzs4/jUZ685/PqBX8lKuSk74NAD+Jqeo
LrDfundcuZPALaPR337+KbQ8t0w4mmnAIrwPYwU=
=2i8d
-----END PGP PUBLIC KEY BLOCK-----
"""
FINGERPRINT = "AB36C977ED47E6333AF7411BBE16196012153C4E"


def test_fingerprint_of_a_key() -> None:
    binary = base64.b64decode("".join(KEY.split("\n")[2:-3]))
    assert openpgp.fingerprints(KEY.encode()) == [FINGERPRINT]
    assert openpgp.fingerprints(b"Comment before\r\n" + KEY.replace("\n", "\r\n").encode())
    assert openpgp.fingerprints(KEY.encode() * 2) == [FINGERPRINT] * 2
    assert openpgp.fingerprints(binary) == [FINGERPRINT]
    assert openpgp.armored(KEY.encode())
    assert not openpgp.armored(binary)


@pytest.mark.parametrize("data", [b"", b"<html>404</html>", KEY[:180].encode(), b"\x99\x01"])
def test_what_is_no_key(data: bytes) -> None:
    with pytest.raises(openpgp.KeyFormatError):
        openpgp.fingerprints(data)


def test_only_named_fingerprints_are_trusted() -> None:
    spaced = " ".join(FINGERPRINT[i : i + 4] for i in range(0, 40, 4)).lower()
    assert repositories.untrusted([FINGERPRINT], ["0" * 40, spaced]) == []
    assert repositories.untrusted([FINGERPRINT, "1" * 40], [FINGERPRINT]) == ["1" * 40]
    assert repositories.untrusted([FINGERPRINT], []) == [FINGERPRINT]


def test_files_of_a_repository() -> None:
    flat = repositories.Repository("benchfleet-nvidia", "https://mirror/cuda")
    (entry,) = repositories.files("Debian", flat, "/etc/apt/keyrings/k.asc").items()
    assert entry[0] == "/etc/apt/sources.list.d/benchfleet-nvidia.sources"
    assert "Suites: /\nSigned-By: /etc/apt/keyrings/k.asc\n" in entry[1]
    assert "Components" not in entry[1]
    suite = repositories.Repository("rocm", "https://repo.radeon.com/rocm", "noble", ["main"], True)
    found = repositories.files("Debian", suite, "/k")
    assert "Suites: noble\nComponents: main\n" in found["/etc/apt/sources.list.d/rocm.sources"]
    pin = found["/etc/apt/preferences.d/rocm"]
    assert 'Pin: origin "repo.radeon.com"\nPin-Priority: 600\n' in pin
    for family, folder in (("RedHat", "yum.repos.d"), ("Suse", "zypp/repos.d")):
        ((path, text),) = repositories.files(family, suite, "/k").items()
        assert path == f"/etc/{folder}/rocm.repo"
        assert "gpgcheck=1\ngpgkey=file:///k\npriority=50\n" in text
        assert "priority" not in str(repositories.files(family, flat, "/k"))


def test_json_is_merged_and_never_replaced() -> None:
    present = {"a": {"b": 1, "c": 2}, "mirrors": ["x"], "kept": None}
    wanted = {"a": {"b": 3}, "mirrors": ["x", "y"], "new": {"d": []}}
    assert merged(present, wanted) == {
        "a": {"b": 3, "c": 2},
        "mirrors": ["x", "y"],
        "kept": None,
        "new": {"d": []},
    }
    assert present == {"a": {"b": 1, "c": 2}, "mirrors": ["x"], "kept": None}


# A simulator of dnf and rpm: packages are lines of a file; it knows `tar` and `numactl` only.
DNF = """#!/bin/sh
case "$*" in
  *"module enable"*) echo "$*" >> "$SIMULATED/streams"; exit 0;;
esac
while [ "$1" != install ]; do shift; done; shift
[ -e "$SIMULATED/slow" ] && sleep 30
for name; do
  case $name in
    tar|numactl) printf '%s\\tinstalled\\t1-1\\n' "$name" >> "$SIMULATED/installed";;
    *) echo "No match for argument: $name"; echo "Error: Unable to find a match: $name"; exit 1;;
  esac
done
"""
RPM = """#!/bin/sh
shift 3
for name; do
  grep "^$name	" "$SIMULATED/installed" || echo "package $name is not installed"
done
"""


@pytest.fixture
def simulated(tmp_path: Path) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("dnf", DNF), ("rpm", RPM)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name in ("sh", "grep", "sleep"):
        (folder / name).symlink_to(f"/bin/{name}")
    (tmp_path / "installed").write_text("")
    return tmp_path


def call(simulated: Path, check: bool = False, **arguments: Any) -> dict[str, Any]:
    """Run the module as Ansible does, with nothing but the simulator in PATH, on a host where
    nobody measures: other tests do so on this one meanwhile."""
    given = {"home": str(simulated / "home"), **arguments, "_ansible_check_mode": check}
    start = (
        "import sys; from ansible.module_utils.testing import patch_module_args\n"
        "from ansible_collections.benchfleet.mlperf.plugins.modules import host_packages as m\n"
        "from ansible.module_utils import basic; import ansible.module_utils.common.process as p\n"
        "from unittest import mock; import json, os, shutil\n"
        "which = lambda name, *a, **k: shutil.which(name, path=os.environ['PATH'])\n"
        "with patch_module_args(json.loads(sys.argv[1])), \\\n"
        "    mock.patch.object(m.lock, 'holder', lambda: None), \\\n"
        "    mock.patch.object(basic, 'get_bin_path', which), \\\n"
        "    mock.patch.object(basic.AnsibleModule, 'get_bin_path', lambda s, n, *a: which(n)):\n"
        "    m.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start, json.dumps(given)],
        env={
            "PATH": str(simulated / "bin"),
            "SIMULATED": str(simulated),
            "PYTHONPATH": os.pathsep.join(["collections", *sys.path]),
        },
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_dnf_installs_what_is_missing_and_only_that(simulated: Path) -> None:
    wanted = {"names": ["tar", "numactl"]}
    check = call(simulated, check=True, **wanted)
    assert (check["changed"], check["missing"], check["log"]) == (True, ["tar", "numactl"], "")
    assert (simulated / "installed").read_text() == ""
    first = call(simulated, **wanted)
    assert (first["changed"], first["manager"]) == (True, "dnf")
    assert "$ dnf -y --setopt=install_weak_deps=False install tar numactl" in Path(
        first["log"]
    ).read_text(encoding="utf-8")
    again = call(simulated, **wanted)
    assert (again["changed"], again["missing"], again["log"]) == (False, [], "")


def test_dnf_that_fails_gives_one_line_and_the_log(simulated: Path) -> None:
    found = call(simulated, names=["tar", "no-such"])
    assert found["failed"] is True
    log = next((simulated / "home" / "logs").iterdir())
    assert found["msg"] == (
        f"dnf failed: Error: Unable to find a match: no-such The whole output: {log}"
    )
    assert "No match for argument: no-such" in log.read_text(encoding="utf-8")


def test_a_module_stream_is_enabled_first(simulated: Path) -> None:
    found = call(simulated, names=["tar"], module_streams=["nvidia-driver:580-open"])
    assert found["changed"] is True
    streams = (simulated / "streams").read_text()
    assert streams == "-y module enable nvidia-driver:580-open\n"


def test_a_package_manager_that_hangs_is_ended(simulated: Path) -> None:
    (simulated / "slow").touch()
    found = call(simulated, names=["tar"], limit_s=1)
    assert found["msg"].startswith("dnf was ended after 1 s. The whole output: ")


def test_a_host_without_a_package_manager(simulated: Path) -> None:
    (simulated / "bin" / "dnf").unlink()
    found = call(simulated, names=["tar"])
    assert found["msg"] == ("this host has none of apt-get, dnf, yum, zypper: install tar by hand.")
