# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Wheels for hosts without internet, downloaded on the controller for the Python and machine of the
host."""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from packaging.markers import Marker

from ..module_utils import python_env
from ..module_utils.host_store import HostError, locked
from ..module_utils.python_env.commands import Commands
from .digest import canonical
from .errors import BenchfleetError

_MARKED = re.compile(r"^([^\s;#]+==\S+) ; (.+?)( \\)?$")
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}  # minor versions with which manylinux began there
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# what LoadGen's source package (5.0 to 6.0) says it is built with
_LOADGEN_BUILD = ("setuptools>=42", "wheel", "pybind11==2.11.1")


@dataclass(frozen=True)
class Target:
    """The host: its Python ("3.11.7"; "3.11" counts as 3.11.0), machine type, and glibc as (major,
    minor)."""

    python: str
    machine: str
    glibc: tuple[int, int]

    def platforms(self) -> list[str]:
        """Return the platform tags that the host can use, the best first."""
        oldest = _OLDEST_GLIBC.get(self.machine, 17)
        found = []
        for minor in range(self.glibc[1], oldest - 1, -1):
            found.append(f"manylinux_2_{minor}_{self.machine}")
            if minor in _LEGACY:
                found.append(f"{_LEGACY[minor]}_{self.machine}")
        return found

    def markers(self) -> dict[str, str]:
        """Return what the markers of a requirement are compared with."""
        numbers = [*self.python.split("."), "0"][:3]
        return {
            "implementation_name": "cpython",
            "implementation_version": ".".join(numbers),
            "os_name": "posix",
            "platform_machine": self.machine,
            "platform_python_implementation": "CPython",
            "platform_system": "Linux",
            "python_full_version": ".".join(numbers),
            "python_version": ".".join(numbers[:2]),
            "sys_platform": "linux",
        }


def fetch(
    envs: Sequence[Mapping[str, Any]], target: Target, store: Path, environment: Mapping[str, str]
) -> Path:
    """Download all that environments (as payload.environment makes them) need on `target`; return
    the folder, which is named by what is in it and downloaded once.

    `environment` are variables such as proxies and PIP_INDEX_URL. Raises BenchfleetError with the
    reason in one line.
    """
    if importlib.util.find_spec("pip") is None:
        raise BenchfleetError(
            f"the controller's Python ({sys.executable}) has no pip, which downloads the wheels of"
            f" hosts without internet: run {sys.executable} -m ensurepip, or install python3-pip."
        )
    contents = [[e["requirements"], e["loadgen"]] for e in envs]
    final = store / "wheels" / canonical([contents, asdict(target)])[:16]
    partial = final.with_name(f"{final.name}.partial")
    with locked(str(store / "wheels" / ".lock")) as lock:
        if final.is_dir():
            return final
        shutil.rmtree(partial, ignore_errors=True)
        (partial / "wheels").mkdir(parents=True)
        log = store / "wheels" / f"{final.name}.log"
        log.write_bytes(b"")
        commands = Commands(log, partial, lock, "downloading wheels for hosts")
        try:
            for env in envs:
                _download(env, target, partial, commands, dict(environment))
        except HostError as e:
            raise BenchfleetError(str(e)) from None
        (partial / "wheels").rename(final)
        shutil.rmtree(partial)
    return final


def _download(
    env: Mapping[str, Any],
    target: Target,
    folder: Path,
    commands: Commands,
    environment: dict[str, str],
) -> None:
    """Download one environment's packages, each part of its locks from where it is."""
    fits = [w for p in target.platforms() for w in ("--platform", p)]
    binary = ["--python-version", target.python, *fits, "--only-binary", ":all:"]
    for name, text in env["requirements"].items():
        lock = python_env.read(text)
        for part, content in lock.parts().items():
            file = folder / f"{part}-{name}"
            file.write_text(unmarked(content, target), encoding="utf-8")
            options = ["--require-hashes", "-r", str(file)]
            if part == "index" and "index-url" not in python_env.pip_settings(environment):
                options += ["--extra-index-url", lock.index]
            if name == env["loadgen"] and target.machine != python_env.LOADGEN_WHEELS_FOR:
                _run(commands, folder, [*binary, *_LOADGEN_BUILD], environment)
                options += ["--no-binary", ":all:"]
            elif part == "source":
                options += ["--no-binary", ":all:"]
            else:
                options += binary
            _run(commands, folder, options, environment)


def _run(
    commands: Commands, folder: Path, options: Sequence[str], environment: dict[str, str]
) -> None:
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off", "--no-deps"]
    argv = [sys.executable, "-m", "pip", "download", *quiet, "-d", str(folder / "wheels"), *options]
    missing = "the index has no file of {} for that Python and machine."
    commands.run(argv, environment, missing)


def unmarked(text: str, target: Target) -> str:
    """Return those packages of a locked text that `target` needs, without their markers: pip would
    compare them with the controller."""
    kept, keep = [], False
    for line in text.splitlines():
        if not line.startswith((" ", "\t", "#")):
            marked = _MARKED.match(line)
            keep = marked is None or Marker(marked[2]).evaluate(target.markers())
            line = f"{marked[1]}{marked[3] or ''}" if marked else line
        if keep:
            kept.append(line)
    return "\n".join(kept) + "\n"
