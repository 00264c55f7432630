# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What installs packages: uv where a host has it, pip otherwise, from the same index."""

from __future__ import annotations

import configparser
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from .interpreter import Interpreter, output

_OLDEST_UV = (0, 5)
_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}


@dataclass(frozen=True)
class Source:
    """Where one installation takes its packages from. `folder` is a folder of wheels that replaces
    every index, `index` an index besides the configured ones, `elsewhere` one that is not asked
    though the packages are there, `built` what has no wheel."""

    folder: str | None = None
    index: str = ""
    elsewhere: str = ""
    built: tuple[str, ...] = ()

    def arguments(self) -> list[str]:
        """Return the options that pip and uv have in common."""
        found = []
        if self.folder:
            found = ["--no-index", "--find-links", self.folder]
        elif self.index:
            found = ["--extra-index-url", self.index]
        if self.built:
            return [*found, "--no-build-isolation", "--no-binary", ",".join(self.built)]
        return [*found, "--only-binary", ":all:"]

    def missing(self) -> str:
        """Return what to say of a package (a place holder) that is not there."""
        place = self.folder or "the index"
        said = f"{place} has no file of {{}} for this Python and machine."
        if self.elsewhere:
            said += f" It is at {self.elsewhere}: add that to benchfleet_pip_extra_index_urls."
        return said


@dataclass(frozen=True)
class Pip:
    """Python's own installer: that of the interpreter, or where it has none, the environment's.

    Giving the environment one takes seconds, and uv would give it none either.
    """

    python: Interpreter
    env: Path

    def make(self) -> list[str]:
        """Return the command that makes the empty environment."""
        without = ["--without-pip"] if self.python.pip else []
        return [self.python.path, "-m", "venv", *without, str(self.env)]

    def command(self) -> list[str]:
        """Return the command that stands for pip."""
        inner = str(self.env / "bin" / "python")
        if self.python.pip:
            return [self.python.path, "-I", "-m", "pip", "--python", inner]
        return [inner, "-I", "-m", "pip"]

    def install(self, locks: list[Path], source: Source) -> list[str]:
        """Return the command that installs locked files, which are complete: nothing else."""
        quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar", "off"]
        return [
            *(*self.command(), "install", *quiet, "--no-compile", "--no-deps", "--require-hashes"),
            *source.arguments(),
            *_files(locks),
        ]

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        """Return the variables to run with."""
        bundle = {"PIP_CERT": given["SSL_CERT_FILE"]} if "SSL_CERT_FILE" in given else {}
        return {"PIP_NO_WARN_SCRIPT_LOCATION": "1", **bundle, **given}


@dataclass(frozen=True)
class Uv:
    """uv, told pip's settings: it reads neither pip's variables nor its configuration files."""

    program: str
    python: Interpreter
    env: Path

    def make(self) -> list[str]:
        """Return the command that makes the empty environment."""
        return [self.program, "venv", "--no-config", "--python", self.python.path, str(self.env)]

    def install(self, locks: list[Path], source: Source) -> list[str]:
        """Return the command that installs locked files, which are complete: nothing else."""
        inner = str(self.env / "bin" / "python")
        # as pip does, all indexes count alike: the hashes say which file is meant
        alike = ["--index-strategy", "unsafe-best-match"]
        return [
            *(self.program, "pip", "install", "--python", inner, *alike),
            *("--no-deps", "--require-hashes", *source.arguments(), *_files(locks)),
        ]

    def environment(self, given: dict[str, str]) -> dict[str, str]:
        """Return the variables to run with; pip's settings where `given` has none of uv's own."""
        settings = pip_settings(given)
        found = {"UV_NO_PROGRESS": "1", "UV_PYTHON_DOWNLOADS": "never"}
        if {"index-url", "extra-index-url", "find-links"} & set(settings):
            found["UV_NO_CONFIG"] = "1"
        for key, name in _UV_NAMES.items():
            if key in settings:
                separator = "," if key == "find-links" else " "
                found[name] = separator.join(settings[key].split())
        return {**found, **given}


def choose(python: Interpreter, env: Path, builds: bool) -> Pip | Uv:
    """Return uv if the host has it and LoadGen is not to be built (which uv has no command for),
    else pip."""
    program = None if builds else uv_program()
    return Uv(program, python, env) if program else Pip(python, env)


def uv_program() -> str | None:
    """Return the path of a uv that is new enough; ssh commands do not see ~/.local/bin."""
    own = os.path.expanduser("~/.local/bin")
    program = shutil.which("uv", path=os.pathsep.join([os.environ.get("PATH", os.defpath), own]))
    said = output([program, "--version"]) if program else None
    version = re.match(r"uv (\d+)\.(\d+)", said or "")
    if version and (int(version[1]), int(version[2])) >= _OLDEST_UV:
        return program
    return None


def pip_settings(given: dict[str, str]) -> dict[str, str]:
    """Return what pip would be told by its configuration files and by variables, `given` ones
    last: {"index-url": …}."""
    variables = {**os.environ, **given}
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(_pip_files(variables), encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        return {}
    found: dict[str, str] = {}
    for section in ("global", "install"):
        if parser.has_section(section):
            found.update(parser.items(section))
    for name, value in variables.items():
        if name.startswith("PIP_"):
            found[name[4:].lower().replace("_", "-")] = value
    return found


def _pip_files(variables: dict[str, str]) -> list[str]:
    """Return the paths of pip's configuration files, the least important first."""
    own = variables.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return []
    folders = variables.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")
    home = variables.get("XDG_CONFIG_HOME") or "~/.config"
    files = ["/etc/pip.conf", *(f"{folder}/pip/pip.conf" for folder in folders)]
    files += ["~/.pip/pip.conf", f"{home}/pip/pip.conf", own]
    return [os.path.expanduser(file) for file in files if file]


def _files(locks: list[Path]) -> list[str]:
    return [word for lock in locks for word in ("-r", str(lock))]
