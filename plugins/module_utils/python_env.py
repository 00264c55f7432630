# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One locked virtual environment per implementation and round, never the system's Python."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .host_store import HostError, locked

OLDEST, NEWEST = (3, 9), (3, 13)
_PROBE = (
    "import sys, importlib.util as u; print(*sys.version_info[:2], sys.executable,"
    " *(bool(u.find_spec(n)) for n in ('venv', 'ensurepip', 'pip')), sep='\\t')"
)


@dataclass
class Spec:
    """What an environment must hold.

    `requirements` are hash-locked texts by file name; `loadgen` names the one that holds LoadGen;
    `wheels` are the machine types for which PyPI has wheels of everything.
    """

    name: str
    requirements: dict[str, str]
    loadgen: str
    wheels: list[str]
    python: str = "auto"
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Interpreter:
    """A Python on the host: version (major, minor), path, and what it can do."""

    version: tuple[int, int]
    path: str
    venv: bool
    ensurepip: bool
    pip: bool


def ready(home: str, name: str) -> bool:
    """Return whether the environment is complete."""
    return Path(home, "envs", name, "benchfleet.json").exists()


def missing_packages(spec: Spec) -> list[str]:
    """Return the packages of the operating system (by its own names) that building `spec` needs
    first.

    Raises HostError when no supported Python is there at all and the lab named one.
    """
    found = interpreters(spec.python)
    if not found:
        if spec.python != "auto":
            raise HostError(f"benchfleet_python={spec.python} does not run on this host.")
        return _os_names(["python3", "venv"])
    wanted = []
    if not any(i.venv and (i.ensurepip or i.pip) for i in found):
        wanted.append("venv")
    if _must_build(spec, found) and not (shutil.which("g++") and _has_headers(found)):
        wanted.append("build")
    return _os_names(wanted)


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
        out = _output([path, "-I", "-c", _PROBE]) if path else None
        if out and len(out.split("\t")) == 6:
            major, minor, where, venv, ensurepip, pip = out.split("\t")
            version = (int(major), int(minor))
            if OLDEST <= version <= NEWEST or wanted != "auto":
                found.append(
                    Interpreter(version, where, venv == "True", ensurepip == "True", pip == "True")
                )
    return sorted(found, key=lambda i: not (i.venv and (i.ensurepip or i.pip)))


def build(home: str, spec: Spec) -> bool:
    """Build the environment if it is not there; return True if it was built.

    pip's output goes to `<home>/logs/env-<name>.log`. Raises HostError with the line that matters.
    """
    if ready(home, spec.name):
        return False
    with locked(str(Path(home, "envs", ".lock"))):
        if ready(home, spec.name):
            return False
        if shutil.disk_usage(home).free < 1 << 30:
            raise HostError(f"{home} has less than 1 GB free; the environment needs about 300 MB.")
        _build(home, spec)
    return True


def _build(home: str, spec: Spec) -> None:
    candidates = interpreters(spec.python)
    if not candidates:
        raise HostError(
            f"no Python {OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]} here;"
            " set benchfleet_python."
        )
    python = candidates[0]
    final = Path(home, "envs", spec.name)
    shutil.rmtree(final, ignore_errors=True)
    log = Path(home, "logs", f"env-{spec.name}.log")
    log.parent.mkdir(exist_ok=True)
    log.write_bytes(b"")
    without = [] if python.ensurepip else ["--without-pip"]
    _run([python.path, "-m", "venv", *without, str(final)], log, {})
    inner = str(final / "bin" / "python")
    pip = (
        [inner, "-I", "-m", "pip"]
        if python.ensurepip
        else [python.path, "-I", "-m", "pip", "--python", inner]
    )
    locks = final / "requirements"
    locks.mkdir(parents=True)
    for name, text in spec.requirements.items():
        (locks / name).write_text(text, encoding="utf-8")
    install = [*pip, "install", "--no-input", "--disable-pip-version-check", "--no-compile"]
    environment = dict(spec.environment, PIP_NO_WARN_SCRIPT_LOCATION="1")
    source = _must_build(spec, [python])
    locked_files = [n for n in spec.requirements if n != spec.loadgen or not source]
    arguments = [a for n in locked_files for a in ("-r", str(locks / n))]
    _run([*install, "--require-hashes", "--only-binary", ":all:", *arguments], log, environment)
    if source:
        wheel = _loadgen_wheel(home, spec, python, pip, log)
        _run([*install, "--no-index", "--no-deps", wheel], log, environment)
    record = {
        "python": ".".join(map(str, python.version)),
        "requirements": sorted(spec.requirements),
    }
    (final / "benchfleet.json").write_text(json.dumps(record), encoding="utf-8")


def _loadgen_wheel(home: str, spec: Spec, python: Interpreter, pip: list[str], log: Path) -> str:
    """Build LoadGen once from its locked source package and keep the wheel; return its path."""
    lock = Path(home, "envs", spec.name, "requirements", spec.loadgen)
    version = "".join(map(str, python.version))
    folder = Path(home, "wheels", f"{lock.stem}-cp{version}-{platform.machine()}")
    if not folder.is_dir():
        staging = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        from_source = ["--require-hashes", "--no-deps", "--no-binary", "mlcommons-loadgen"]
        argv = [*pip, "wheel", *from_source, "-w", str(staging), "-r", str(lock)]
        _run(argv, log, spec.environment)
        staging.rename(folder)
    return str(sorted(folder.iterdir())[0])


def _must_build(spec: Spec, found: list[Interpreter]) -> bool:
    return platform.machine() not in spec.wheels or found[0].version > NEWEST


def _has_headers(found: list[Interpreter]) -> bool:
    code = "import sysconfig; print(sysconfig.get_paths()['include'])"
    folder = _output([found[0].path, "-I", "-c", code])
    return bool(folder) and Path(str(folder), "Python.h").exists()


def _os_names(wanted: list[str]) -> list[str]:
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


def _output(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=20, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _run(argv: list[str], log: Path, environment: dict[str, str]) -> None:
    with log.open("ab") as f:
        f.write(f"$ {' '.join(argv)}\n".encode())
        f.flush()
        env: dict[str, Any] = {**os.environ, **environment}
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, env=env, check=False
        )
    if done.returncode != 0:
        raise HostError(
            f"building the Python environment failed: {_telling_line(log)} The whole output: {log}",
            str(log),
        )


def _telling_line(log: Path) -> str:
    with log.open(encoding="utf-8", errors="replace") as f:
        lines = [line.strip() for line in f.readlines()[-400:] if line.strip()]
    errors = [
        line for line in lines if line.lower().startswith(("error", "fatal")) or "Error:" in line
    ]
    return (errors or lines or ["no output."])[-1][:300]
