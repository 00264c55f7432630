# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages of the operating system: which are missing, how each manager installs them, and which
line of its output tells why it failed.

Everything here decides and parses; running is the module's. A wanted package is `name` or
`name=version`, where the version is upstream's, whatever the packaging revision after it.
"""

from __future__ import annotations

import platform
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping, Sequence

from . import host_facts

MANAGERS = ("apt-get", "dnf", "yum", "zypper")
SUFFIX = {"apt-get": ".deb", "dnf": ".rpm", "yum": ".rpm", "zypper": ".rpm"}
ENVIRONMENT = {
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
    "NEEDRESTART_MODE": "l",  # name services to be restarted, restart none
}

# What tells why, the most telling first; what apt says last is rarely the reason.
_TELLING = tuple(
    re.compile(pattern, re.M)
    for pattern in (
        r"^.*No space left on device.*",
        r"^Error! .*(?:\n.*(?:Consult|DKMS).*)?",  # DKMS could not build a kernel module
        r"^dpkg: error processing .*\n.*",
        r"^ *\S+ : (?:Pre)?Depends: .*",
        r"^E: (?!Sub-process|Unable to correct|Unable to fetch some|Some index files"
        r"|Couldn't find any package by).+",
        r"^ *(?:- )?nothing provides .*",
        r"^(?:Error: )?Unable to find a match: .*",
        r"^No match for argument: .*",
        r"^missing groups or modules: .*",
        r"^(?:Error: )?Failed to download metadata for repo .*",
        r"^No provider of '.*' found\.",
        r"^Package '.*' not found\.",
        r"^System management is locked by .*",
        r"^Problem: (?:\d+: )?.*",
        r"^Error: .*(?:\n +.*)?",
        r"^E: .*",
        r"^W: Failed to fetch .*",
    )
)
_LOCKED = re.compile(
    r"Could not get lock|Unable to acquire the dpkg|Unable to lock|System management is locked"
)


@dataclass(frozen=True)
class Wanted:
    """A package, and the upstream version that it must have, or None for any."""

    name: str
    version: str | None = None

    @classmethod
    def parse(cls, text: str) -> Wanted:
        """From `name` or `name=version`."""
        name, _separator, version = text.partition("=")
        return cls(name.strip(), version.strip() or None)

    def __str__(self) -> str:
        return f"{self.name}={self.version}" if self.version else self.name


def system(release: Path = Path("/etc/os-release")) -> dict[str, str]:
    """Return what a file of packages is made for: {id, version, machine} of this host."""
    try:
        found = host_facts.operating_system(release.read_text(encoding="utf-8"))
    except OSError:
        found = {"id": "", "version": ""}
    return {"id": found["id"], "version": found["version"], "machine": platform.machine()}


def query_argv(manager: str, names: Sequence[str]) -> list[str]:
    """Return the command that says which of `names` are installed, and their versions."""
    if manager == "apt-get":
        shape = "${Package}\t${db:Status-Status}\t${Version}\n"
        return ["dpkg-query", "-W", f"--showformat={shape}", *names]
    return ["rpm", "-q", "--queryformat", "%{NAME}\tinstalled\t%{VERSION}-%{RELEASE}\n", *names]


def parse_query(text: str) -> dict[str, str]:
    """Return name -> version of what is installed, from the output of `query_argv`.

    `name-version-release`, which rpm and dnf take for a name too, is in it as well.
    """
    rows = [line.split("\t") for line in text.splitlines()]
    found = [(row[0], row[2]) for row in rows if len(row) == 3 and row[1] == "installed"]
    return {**dict(found), **{f"{name}-{version}": version for name, version in found}}


def missing(wanted: Sequence[Wanted], installed: Mapping[str, str]) -> list[Wanted]:
    """Return what is not installed, or not in the version that it must have."""
    return [
        w
        for w in wanted
        if w.name not in installed
        or (w.version is not None and upstream_version(installed[w.name]) != w.version)
    ]


def upstream_version(version: str) -> str:
    """`1:580.65.06-0ubuntu1` -> `580.65.06`: without epoch and packaging revision."""
    return version.split(":", 1)[-1].rsplit("-", 1)[0]


def refresh_argv(manager: str, lock_wait_s: int) -> list[str] | None:
    """Return the command that reads the repositories anew; None where installing does so."""
    if manager != "apt-get":
        return None
    return ["apt-get", "-q", "-o", f"DPkg::Lock::Timeout={lock_wait_s}", "update"]


def install_argv(manager: str, what: Sequence[Wanted], lock_wait_s: int) -> list[str]:
    """Return the command that installs packages from the repositories."""
    exact = any(w.version for w in what)
    if manager == "apt-get":
        # a trailing * is a prefix to apt; the dash keeps 1.2 from meaning 1.20
        names = [f"{w.name}={w.version}-*" if w.version else w.name for w in what]
        options = [
            "-y",
            "-q",
            "--no-install-recommends",
            "-o",
            f"DPkg::Lock::Timeout={lock_wait_s}",
        ]
        for choice in ("--force-confdef", "--force-confold"):  # keep the lab's configuration
            options += ["-o", f"Dpkg::Options::={choice}"]
        downgrade = ["--allow-downgrades", "--allow-change-held-packages"] if exact else []
        return ["apt-get", *options, *downgrade, "install", *names]
    if manager == "zypper":
        old = ["--oldpackage"] if exact else []
        return ["zypper", "--non-interactive", "install", "--no-recommends", *old, *map(str, what)]
    names = [f"{w.name}-{w.version}" if w.version else w.name for w in what]
    weak = ["--setopt=install_weak_deps=False"] if manager == "dnf" else []
    return [manager, "-y", *weak, "install", *names]


def install_files_argv(manager: str, files: Sequence[str]) -> list[str]:
    """Return the command that installs .rpm files and asks no repository."""
    if manager == "zypper":
        quiet = ["--non-interactive", "--no-refresh", "--no-gpg-checks", "--disable-repositories"]
        return ["zypper", *quiet, "install", "--no-recommends", *files]
    return [manager, "-y", "--disablerepo=*", "install", *files]


def closure_update_argv(manager: str, folder: str) -> list[str] | None:
    """Return the command that reads the repositories into `folder`; None where the other does."""
    return ["apt-get", "-q", *_apart(folder), "update"] if manager == "apt-get" else None


def closure_argv(manager: str, names: Sequence[str], folder: str) -> list[str] | None:
    """Return the command that puts packages and all that they depend on into `folder`, for a host
    of the same system whatever it has, without root; None for a manager that cannot."""
    if manager == "apt-get":
        options = ["-y", "-q", "--no-install-recommends", "--download-only"]
        return ["apt-get", *options, *_apart(folder), "install", *names]
    if manager == "dnf":
        return ["dnf", "-y", "download", "--resolve", "--alldeps", f"--destdir={folder}", *names]
    return None


def _apart(folder: str) -> list[str]:
    """Return options that make apt keep its state in `folder`, where nothing is installed: it
    checks what it downloads by the keys that the system has for its repositories."""
    settings = {
        "Dir::State": f"{folder}/.state",
        "Dir::State::status": f"{folder}/.state/status",
        "Dir::Cache": f"{folder}/.cache",
        "Dir::Cache::archives": folder,
        "Debug::NoLocking": "1",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def stream_argv(stream: str) -> list[str]:
    """Return the command that enables a module stream (`name:stream`) of dnf's."""
    return ["dnf", "-y", "module", "enable", stream]


def stream_enabled(stream: str, text: str) -> bool:
    """Whether dnf's own record of the module (/etc/dnf/modules.d/<name>.module) says so."""
    found = dict(re.findall(r"^(\w+) *= *(\S*)", text, re.M))
    return found.get("state") == "enabled" and found.get("stream") == stream.partition(":")[2]


def index_entry(control: str, filename: str, size: int, sha256: str) -> str:
    """Return the entry of a Packages file, from what `dpkg-deb --field` prints of a .deb."""
    return f"{control.strip()}\nFilename: ./{filename}\nSize: {size}\nSHA256: {sha256}\n\n"


def apt_folder_options(folder: str) -> list[str]:
    """Return options that make apt know only the packages below `folder`."""
    settings = {
        "Dir::Etc::sourcelist": f"{folder}/sources.list",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": f"{folder}/lists",
        "Dir::Cache": f"{folder}/cache",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def locked(text: str) -> bool:
    """Whether another package manager was at work."""
    return bool(_LOCKED.search(text))


def telling_line(text: str) -> str:
    """Return the words of a package manager's output that tell why it failed."""
    for pattern in _TELLING:
        found = pattern.search(text)
        if found:
            return " ".join(found.group(0).split())[:300]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no output."
