# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The roles for the operating system: what they ask for, on each family, as Ansible renders it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]
MAPPED = ("host_base", "nvidia_driver", "rocm", "container_runtime")
FAMILIES = ("Debian", "RedHat", "Suse")

SYSTEMS: dict[str, dict[str, Any]] = {
    "ubuntu24": {"family": "Debian", "id": "ubuntu", "version": "24.04", "codename": "noble"},
    "ubuntu22": {"family": "Debian", "id": "ubuntu", "version": "22.04", "codename": "jammy"},
    "debian12": {"family": "Debian", "id": "debian", "version": "12", "codename": "bookworm"},
    "rocky9": {"family": "RedHat", "id": "rocky", "version": "9.6", "codename": ""},
    "rhel10": {"family": "RedHat", "id": "rhel", "version": "10.0", "codename": ""},
    "fedora42": {"family": "RedHat", "id": "fedora", "version": "42", "codename": ""},
    "leap15": {"family": "Suse", "id": "opensuse-leap", "version": "15.6", "codename": ""},
    "sles15": {"family": "Suse", "id": "sles", "version": "15.6", "codename": ""},
}
KERNELS = {
    "Debian": "6.8.0-60-generic",
    "RedHat": "5.14.0-570.12.1.el9_6.x86_64",
    "Suse": "6.4.0-150600.23.38-default",
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def trusted(value: Any) -> Any:
    """The same value with its strings marked as templates, as those of a role's files are."""
    if isinstance(value, dict):
        return {key: trusted(one) for key, one in value.items()}
    if isinstance(value, list):
        return [trusted(one) for one in value]
    return trust_as_template(value) if isinstance(value, str) else value


def system(name: str, **facts: Any) -> dict[str, Any]:
    """What the module system_info returns on such a host."""
    none = {"devices": 0, "switch": False, "loaded": "", "installed": ""}
    family = SYSTEMS[name]["family"]
    return {
        **SYSTEMS[name],
        "machine": "x86_64",
        "kernel": KERNELS[family],
        "root": True,
        "login_home": "/home/bench",
        "login_user": "bench",
        "clock_synchronised": True,
        "clock_daemon": "",
        "systemd": True,
        "measuring": "",
        "nouveau": False,
        "may_raise_limits": True,
        "most_open_files": 1048576,
        "nvidia": none,
        "amd": none,
        **facts,
    }


def variables(role: str, name: str, facts: dict[str, Any], **given: Any) -> Templar:
    """The variables of a role on such a host, to be rendered."""
    folder = ROOT / "roles" / role
    found: dict[str, Any] = {"group_names": [], "inventory_hostname": "sut1"}
    for path in ("defaults/main.yml", "vars/main.yml", f"vars/{SYSTEMS[name]['family']}.yml"):
        found |= trusted(read(folder / path))
    found[f"__{role}_system"] = system(name, **facts)
    return Templar(DataLoader(), variables=found | given)


def render(templar: Templar, name: str) -> Any:
    return templar.template(trust_as_template("{{ " + name + " }}"))


@pytest.mark.parametrize("role", ["nvidia_driver", "rocm"])
def test_readme_says_what_was_not_run(role: str) -> None:
    text = (ROOT / "roles" / role / "README.md").read_text(encoding="utf-8")
    assert "Not yet run on hardware" in text


@pytest.mark.parametrize("role", MAPPED)
def test_every_family_has_the_same_names(role: str) -> None:
    folder = ROOT / "roles" / role / "vars"
    assert {p.stem for p in folder.glob("*.yml")} == {"main", *FAMILIES}
    keys, words = [], []
    for family in FAMILIES:
        found = read(folder / f"{family}.yml")
        used = (folder / "main.yml").read_text() + "".join(
            p.read_text()
            for p in (ROOT / "roles" / role).glob("*/*.yml")
            if p.parent.name != "vars"
        )
        keys.append({name for name in found if name in used})
        words.append(set(found.get(f"__{role}_map", {})))
    assert keys[0] == keys[1] == keys[2]
    assert words[0] == words[1] == words[2]


def test_host_base_knows_each_word_that_it_takes() -> None:
    option = read(ROOT / "roles/host_base/meta/argument_specs.yml")["argument_specs"]["main"]
    choices = option["options"]["host_base_packages"]["choices"]
    assert {*choices, "chrony"} == set(
        read(ROOT / "roles/host_base/vars/Debian.yml")["__host_base_map"]
    )


PYTHONS = {
    "debian12": ["python3", "python3-venv", "g++", "python3-dev"],
    "rocky9": ["python3.11", "python3.11-pip", "gcc-c++", "python3.11-devel"],
    "rhel10": ["python3", "python3-pip", "gcc-c++", "python3-devel"],
    "leap15": ["python311", "python311-pip", "gcc-c++", "python311-devel"],
}


@pytest.mark.parametrize("name", PYTHONS)
def test_packages_of_host_base(name: str) -> None:
    got = render(variables("host_base", name, {}), "__host_base_names")
    assert got[:4] == PYTHONS[name]
    assert "chrony" not in got


CLOCKS = [
    ({"clock_synchronised": True}, True, False),
    ({"clock_synchronised": False}, True, True),
    ({"clock_synchronised": False, "clock_daemon": "ntpd"}, True, False),
    ({"clock_synchronised": False, "clock_daemon": "chronyd"}, True, True),
    ({"clock_synchronised": False}, False, False),
]


@pytest.mark.parametrize(("facts", "wanted", "expected"), CLOCKS)
def test_a_clock_that_is_kept_is_left_alone(
    facts: dict[str, Any], wanted: bool, expected: bool
) -> None:
    templar = variables("host_base", "debian12", facts, host_base_time_sync=wanted)
    assert ("chrony" in render(templar, "__host_base_names")) is expected


LIMITS = [(True, True, True), (True, False, False), (False, False, True)]


@pytest.mark.parametrize(("root", "may", "expected"), LIMITS)
def test_limits_are_set_only_where_logins_survive_them(
    root: bool, may: bool, expected: bool
) -> None:
    templar = variables("host_base", "debian12", {"root": root, "may_raise_limits": may})
    assert render(templar, "__host_base_sets_limits") is expected


def test_limits_do_not_exceed_the_kernels() -> None:
    templar = variables("host_base", "debian12", {"most_open_files": 4096})
    source = (ROOT / "roles/host_base/templates/limits.conf.j2").read_text()
    text = templar.template(trust_as_template(source))
    assert "* hard nofile 4096\n" in text
    assert text.count("* soft ") == text.count("* hard ") == 3


def gpu(installed: str = "", loaded: str = "", switch: bool = False) -> dict[str, Any]:
    return {"nvidia": {"devices": 8, "switch": switch, "loaded": loaded, "installed": installed}}


NVIDIA = {
    "ubuntu24": ("ubuntu2404/x86_64", ["nvidia-driver-pinning-580"], []),
    "debian12": ("debian12/x86_64", ["nvidia-driver-pinning-580"], []),
    "rocky9": ("rhel9/x86_64", [], ["nvidia-driver:580-open"]),
    "rhel10": ("rhel10/x86_64", [], []),
    "fedora42": ("fedora42/x86_64", [], []),
    "leap15": ("opensuse15/x86_64", [], []),
    "sles15": ("sles15/x86_64", [], []),
}


@pytest.mark.parametrize("name", NVIDIA)
def test_nvidia_driver_of_a_branch(name: str) -> None:
    folder, pin, streams = NVIDIA[name]
    templar = variables("nvidia_driver", name, gpu())
    base = "https://developer.download.nvidia.com/compute/cuda/repos"
    assert render(templar, "__nvidia_driver_url") == f"{base}/{folder}"
    assert render(templar, "__nvidia_driver_pin") == pin
    assert render(templar, "__nvidia_driver_streams") == streams
    assert render(templar, "__nvidia_driver_packages") == ["nvidia-open"]
    assert render(templar, "__nvidia_driver_present") is False
    assert render(templar, "__nvidia_driver_reboot_why") == ""


def test_a_folder_holds_one_branch_of_the_driver() -> None:
    for name in ("ubuntu24", "rocky9"):
        templar = variables("nvidia_driver", name, gpu(), nvidia_driver_package_folder="/srv/p")
        assert render(templar, "__nvidia_driver_pin") == []
        assert render(templar, "__nvidia_driver_streams") == []


def test_nvidia_headers_are_those_of_the_kernel_that_runs() -> None:
    for name, expected in {
        "ubuntu24": ["linux-headers-6.8.0-60-generic"],
        "rocky9": ["kernel-devel-5.14.0-570.12.1.el9_6"],
        "sles15": ["kernel-default-devel"],
    }.items():
        assert (
            render(variables("nvidia_driver", name, gpu()), "__nvidia_driver_headers") == expected
        )
        assert render(variables("rocm", name, {}), "__rocm_headers") == expected


def test_nvidia_driver_proprietary_on_arm_with_a_toolkit() -> None:
    templar = variables(
        "nvidia_driver",
        "rocky9",
        gpu() | {"machine": "aarch64"},
        nvidia_driver_kernel_modules="proprietary",
        nvidia_driver_cuda_toolkit="12.9",
    )
    assert render(templar, "__nvidia_driver_url").endswith("/rhel9/sbsa")
    assert render(templar, "__nvidia_driver_streams") == ["nvidia-driver:580-dkms"]
    assert render(templar, "__nvidia_driver_packages") == ["cuda-drivers"]
    assert render(templar, "__nvidia_driver_toolkit") == ["cuda-toolkit-12-9"]


PRESENT = [("580", "580.65.06", True), ("580", "570.133.20", False), ("", "570.133.20", True)]


@pytest.mark.parametrize(("branch", "installed", "expected"), PRESENT)
def test_a_driver_of_the_branch_is_left_alone(branch: str, installed: str, expected: bool) -> None:
    templar = variables("nvidia_driver", "debian12", gpu(installed), nvidia_driver_branch=branch)
    assert render(templar, "__nvidia_driver_present") is expected


FABRIC = {
    ("ubuntu24", "580.65.06"): "nvidia-fabricmanager-580=580.65.06",
    ("ubuntu24", "590.44.01"): "nvidia-fabricmanager=590.44.01",
    ("rocky9", "570.133.20"): "nvidia-fabric-manager=570.133.20",
    ("rocky9", "580.65.06"): "nvidia-fabricmanager=580.65.06",
    ("sles15", "580.65.06"): "nvidia-fabricmanager=580.65.06",
}


@pytest.mark.parametrize(("name", "version"), FABRIC)
def test_fabric_manager_has_the_drivers_version(name: str, version: str) -> None:
    facts = gpu(version, version, switch=True)
    found = render(variables("nvidia_driver", name, facts), "__nvidia_driver_fabric_names")
    assert found == [FABRIC[name, version]]
    without = variables("nvidia_driver", name, gpu(version, version))
    assert render(without, "__nvidia_driver_fabric_names") == []


def test_fabric_manager_follows_the_driver_that_was_just_installed() -> None:
    templar = variables(
        "nvidia_driver",
        "ubuntu24",
        gpu(switch=True),
        __nvidia_driver_after=system("ubuntu24", **gpu("580.65.06", switch=True)),
    )
    names = render(templar, "__nvidia_driver_fabric_names")
    assert names == ["nvidia-fabricmanager-580=580.65.06"]
    assert render(templar, "__nvidia_driver_reboot_why") == (
        "driver 580.65.06 is installed and none is loaded"
    )


def test_nouveau_asks_for_a_reboot() -> None:
    facts = gpu("580.65.06") | {"nouveau": True}
    why = render(variables("nvidia_driver", "debian12", facts), "__nvidia_driver_reboot_why")
    assert why.startswith("nouveau is loaded")


ROCM = {
    "ubuntu24": ("noble", "rocm/apt/7.0.2", "amdgpu/30.10.2/ubuntu"),
    "debian12": ("jammy", "rocm/apt/7.0.2", "amdgpu/30.10.2/ubuntu"),
    "rocky9": ("/", "rocm/el9/7.0.2/main", "amdgpu/30.10.2/el/9.6/main/x86_64"),
    "sles15": ("/", "rocm/zyp/7.0.2/main", "amdgpu/30.10.2/sle/15.6/main/x86_64"),
}


@pytest.mark.parametrize("name", ROCM)
def test_repositories_of_rocm(name: str) -> None:
    suite, rocm, amdgpu = ROCM[name]
    templar = variables("rocm", name, {})
    assert render(templar, "__rocm_suite") == suite
    assert render(templar, "__rocm_repositories") == {
        "rocm": f"https://repo.radeon.com/{rocm}",
        "amdgpu": f"https://repo.radeon.com/{amdgpu}",
    }
    assert render(templar, "__rocm_driver_names") == ["amdgpu-dkms"]
    assert render(templar, "__rocm_members") == ["bench"]


def test_rocm_keeps_a_driver_that_is_loaded_or_not_wanted() -> None:
    loaded = {"amd": {"devices": 8, "switch": False, "loaded": "6.14.14"}}
    assert render(variables("rocm", "ubuntu24", loaded), "__rocm_driver_names") == []
    without = variables("rocm", "ubuntu24", {}, rocm_install_driver=False)
    assert render(without, "__rocm_driver_names") == []


ENGINES = {
    ("debian12", "docker", "distribution"): ["docker.io"],
    ("rocky9", "docker", "upstream"): ["docker-ce", "docker-ce-cli", "containerd.io"],
    ("fedora42", "docker", "distribution"): ["moby-engine"],
    ("sles15", "docker", "distribution"): ["docker"],
    ("debian12", "podman", "upstream"): ["podman", "crun", "uidmap"],
    ("rocky9", "apptainer", "distribution"): ["apptainer"],
}


@pytest.mark.parametrize(("name", "engine", "source"), ENGINES)
def test_packages_of_an_engine(name: str, engine: str, source: str) -> None:
    given = {"container_runtime_engine": engine, "container_runtime_source": source}
    plain = render(variables("container_runtime", name, {}, **given), "__container_runtime_names")
    expected = ENGINES[name, engine, source]
    assert plain[: len(expected)] == expected
    assert "nvidia-container-toolkit" not in plain
    templar = variables("container_runtime", name, gpu(), **given)
    assert render(templar, "__container_runtime_names") == [*plain, "nvidia-container-toolkit"]
    names = [r["name"] for r in render(templar, "__container_runtime_repositories")]
    docker = ["benchfleet-docker"] if engine == "docker" and source == "upstream" else []
    assert names == [*docker, "benchfleet-nvidia-containers"]


def test_podman_has_a_network_on_old_and_new_releases() -> None:
    given = {"container_runtime_engine": "podman"}
    for name, package in {
        "ubuntu22": "containernetworking-plugins",
        "debian12": "netavark",
    }.items():
        found = render(
            variables("container_runtime", name, {}, **given), "__container_runtime_names"
        )
        assert found[-1] == package


def test_dockers_repository_of_a_distribution() -> None:
    given = {"container_runtime_engine": "docker", "container_runtime_source": "upstream"}
    urls = {
        "debian12": "https://download.docker.com/linux/debian",
        "rocky9": "https://download.docker.com/linux/rhel/$releasever/$basearch/stable",
        "fedora42": "https://download.docker.com/linux/fedora/$releasever/$basearch/stable",
    }
    for name, url in urls.items():
        templar = variables("container_runtime", name, {}, **given)
        (found,) = render(templar, "__container_runtime_repositories")
        assert found["url"] == url
        assert found["key"].endswith("/gpg")


def test_settings_of_dockerd_are_merged_with_the_runtime_of_nvidia() -> None:
    mine = {"runtimes": {"mine": {"path": "/opt/mine"}}, "data-root": "/data"}
    templar = variables(
        "container_runtime",
        "debian12",
        gpu(),
        container_runtime_engine="docker",
        container_runtime_docker_settings=mine,
    )
    found = render(templar, "__container_runtime_daemon")
    assert found["data-root"] == "/data"
    assert set(found["runtimes"]) == {"mine", "nvidia"}


@pytest.mark.parametrize("role", MAPPED)
def test_package_managers_know_the_labs_proxies(role: str) -> None:
    given = {
        "benchfleet_proxy": {"http": "http://p:1", "https": "http://p:2", "no": "localhost"},
        "benchfleet_environment": {"https_proxy": "http://q:3", "A": "b"},
        f"{role}_environment": {"A": "c"},
    }
    assert render(variables(role, "debian12", {}, **given), f"__{role}_environment") == {
        "http_proxy": "http://p:1",
        "https_proxy": "http://q:3",
        "no_proxy": "localhost",
        "A": "c",
    }
    assert render(variables(role, "debian12", {}), f"__{role}_environment") == {}
