# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Pythons of a host, and which packages of the operating system they need."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .locks import NEWEST, OLDEST

_PROBE = """
import sys
from importlib import metadata, util
there = {name: util.find_spec(name) is not None for name in ("venv", "ensurepip", "pip")}
if there["pip"]:
    pip = [int(n) for n in metadata.version("pip").split(".")[:2]]
    there["pip"] = pip >= [22, 3]  # the first one that installs into another environment
print(*sys.version_info[:2], sys.executable, *there.values(), sep="\\t")
"""


@dataclass
class Interpreter:
    """A Python on the host: version (major, minor), path, and what it can do; `pip` is one that can
    install into another environment."""

    version: tuple[int, int]
    path: str
    venv: bool
    ensurepip: bool
    pip: bool

    def able(self) -> bool:
        """Return whether it can make an environment and install into it by itself."""
        return self.venv and (self.ensurepip or self.pip)

    def has_headers(self) -> bool:
        """Return whether extensions can be compiled for it."""
        code = "import sysconfig; print(sysconfig.get_paths()['include'])"
        folder = output([self.path, "-I", "-c", code])
        return bool(folder) and Path(str(folder), "Python.h").exists()


def interpreters(wanted: str) -> list[Interpreter]:
    """Return the supported interpreters, best first: the named one, or the newest with venv and
    pip."""
    names = (
        [wanted]
        if wanted != "auto"
        else [f"python3.{m}" for m in range(NEWEST[1], OLDEST[1] - 1, -1)] + ["python3"]
    )
    found = []
    for name in names:
        path = shutil.which(str(Path(name).expanduser()))
        out = output([path, "-I", "-c", _PROBE]) if path else None
        if out and len(out.split("\t")) == 6:
            major, minor, where, venv, ensurepip, pip = out.split("\t")
            version = (int(major), int(minor))
            if OLDEST <= version <= NEWEST or wanted != "auto":
                found.append(
                    Interpreter(version, where, venv == "True", ensurepip == "True", pip == "True")
                )
    return sorted(found, key=lambda i: not i.able())


def os_names(wanted: list[str]) -> list[str]:
    """Return this operating system's packages for `python3`, `venv` and `build`."""
    if not wanted:
        return []
    try:
        release = Path("/etc/os-release").read_text(encoding="utf-8")
        like = " ".join(re.findall(r'^ID(?:_LIKE)?="?([^"\n]+)', release, re.M))
    except OSError:
        like = ""
    family = next((n for n in ("debian", "suse", "rhel", "fedora") if n in like), "debian")
    names = {
        "debian": {
            "python3": ["python3"],
            "venv": ["python3-venv"],
            "build": ["g++", "python3-dev"],
        },
        "suse": {
            "python3": ["python311"],
            "venv": ["python311-pip"],
            "build": ["gcc-c++", "python311-devel"],
        },
    }.get(
        family,
        {
            "python3": ["python3.11"],
            "venv": ["python3.11-pip"],
            "build": ["gcc-c++", "python3.11-devel"],
        },
    )
    return [package for word in wanted for package in names[word]]


def output(argv: list[str]) -> str | None:
    """Return what a command prints, stripped; None when it fails or takes longer than 20 s."""
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None
