# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build an environment once, and know whether it is there."""

from __future__ import annotations

import json
import os
import platform
import shutil
from pathlib import Path
from typing import Any, Iterable

from ..host_store import HostError, locked
from . import loadgen
from .commands import Commands
from .installer import Pip, Source, Uv, choose, pip_settings, uv_program
from .interpreter import Interpreter, interpreters, os_names, output
from .locks import ANY_NEWER, Lock
from .spec import Spec

_RECORD = "benchfleet.json"
_IMPORT_LOADGEN = "import mlperf_loadgen"
_LOADGEN_VERSION = "import importlib.metadata as m; print(m.version('mlcommons_loadgen'))"


def facts(home: str, name: str) -> dict[str, str]:
    """Return {name, path, python, log, loadgen}: where an environment lies, and the version of
    LoadGen in it ("" where there is none)."""
    folder = Path(home, "envs", name)
    return {
        "name": name,
        "path": str(folder),
        "python": str(folder / "bin" / "python"),
        "log": str(Path(home, "logs", f"env-{name}.log")),
        "loadgen": str(_record(home, name).get("loadgen", "")),
    }


def ready(home: str, spec: Spec) -> bool:
    """Return whether the environment is complete, holds what `spec` says, and its Python is still
    on the host."""
    said = _record(home, spec.name).get("digest")
    python = Path(facts(home, spec.name)["python"])
    return said is not None and python.exists() and said == spec.digest()


def waiting(home: str, specs: Iterable[Spec]) -> list[Spec]:
    """Return the environments that are not ready, or whose LoadGen sources have yet to come."""
    return [
        spec
        for spec in specs
        if (spec.loadgen_source and not Path(spec.loadgen_source).is_dir()) or not ready(home, spec)
    ]


def missing_packages(spec: Spec) -> list[str]:
    """Return the packages of the operating system (by its own names) that building `spec` needs
    first.

    Raises HostError when no package of the operating system would help.
    """
    spec.check_machine()
    everything = interpreters(spec.python)
    if not everything:
        if spec.python != "auto":
            raise HostError(f"benchfleet_python={spec.python} does not run on this host.")
        return os_names(["python3", "venv"])
    found = _suitable(spec, everything)
    build = loadgen.must_build(spec, found[0])
    wanted = []
    if not any(i.able() for i in found) and (build or not uv_program()):
        wanted.append("venv")
    if build and not (shutil.which("g++") and found[0].has_headers()):
        wanted.append("build")
    return os_names(wanted)


def target(spec: Spec) -> dict[str, Any] | None:
    """Return what wheels for `spec` must fit on this host: {"python": "3.11", "machine": "x86_64",
    "glibc": [2, 36]}; None where there is no Python yet.

    Raises HostError when no Python of the host is supported, or its C library is not glibc.
    """
    spec.check_machine()
    found = interpreters(spec.python)
    if not found:
        return None
    python = _suitable(spec, found)[0]
    name, version = platform.libc_ver()
    if name != "glibc":
        raise HostError("this host's C library is not glibc, for which there are wheels.")
    return {
        "python": ".".join(map(str, python.version)),
        "machine": platform.machine(),
        "glibc": [int(part) for part in version.split(".")[:2]],
    }


def build(home: str, spec: Spec) -> bool:
    """Build the environment if it is not there; return True if it was built.

    What the installer prints goes to `<home>/logs/env-<name>.log`, without secrets. Raises
    HostError with the reason in one line.
    """
    if ready(home, spec):
        return False
    with locked(str(Path(home, "envs", ".lock"))) as lock:
        if ready(home, spec):
            return False
        _check_disk(home, spec)
        log = Path(facts(home, spec.name)["log"])
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(b"")
        _build(home, spec, Commands(log, Path(home, "envs", ".tmp"), lock))
    return True


def _build(home: str, spec: Spec, commands: Commands) -> None:
    spec.check_machine()
    found = interpreters(spec.python)
    if not found:
        raise HostError("there is no supported Python on this host; set benchfleet_python.")
    python = _suitable(spec, found)[0]
    final = Path(home, "envs", spec.name)
    for folder in (final, commands.scratch):
        shutil.rmtree(folder, ignore_errors=True)
    commands.scratch.mkdir()
    builds = loadgen.must_build(spec, python)
    installer = choose(python, final, builds)
    commands.run(installer.make(), {})
    _install(spec, installer, commands, builds)
    if isinstance(installer, Pip) and builds:
        wheel = loadgen.wheel(home, spec, installer, commands)
        argv = [*installer.command(), "install", "--no-compile", "--no-index", "--no-deps", wheel]
        commands.run(argv, installer.environment(spec.environment))
    if spec.loadgen:
        # a wheel can be for a newer C library than the host's
        commands.run([facts(home, spec.name)["python"], "-I", "-c", _IMPORT_LOADGEN], {})
    shutil.rmtree(commands.scratch, ignore_errors=True)
    _write_record(home, spec, python)


def _install(spec: Spec, installer: Pip | Uv, commands: Commands, builds: bool) -> None:
    """Install the locked files: first what has wheels at the index, then what lies elsewhere, then
    what is built from source with what the first ones brought."""
    folder = installer.env / "requirements"
    folder.mkdir()
    parts: dict[str, list[Path]] = {}
    for name, lock in spec.locks().items():
        (folder / name).write_text(lock.text, encoding="utf-8")
        if name == spec.loadgen and builds:
            continue
        divided = lock.parts()
        for part, text in divided.items():
            path = folder / (name if len(divided) == 1 else f"{Path(name).stem}.{part}.txt")
            path.write_text(text, encoding="utf-8")
            parts.setdefault(part, []).append(path)
    environment = installer.environment(spec.environment)
    locks = list(spec.locks().values())
    for part in ("wheels", "index", "source"):
        if part in parts:
            source = _source(spec, locks, part)
            commands.run(installer.install(parts[part], source), environment, source.missing())


def _source(spec: Spec, locks: list[Lock], part: str) -> Source:
    """Return where a part comes from.

    A lab that names an index of its own, or a folder of wheels, is not sent anywhere else.
    """
    if part == "source":
        built = tuple(name for lock in locks for name in lock.from_source)
        return Source(spec.wheels_folder, built=built)
    if part == "wheels" or spec.wheels_folder:
        return Source(spec.wheels_folder)
    index = next(lock.index for lock in locks if lock.index)
    if "index-url" not in pip_settings(spec.environment):
        return Source(index=index)
    return Source(elsewhere=index)


def _suitable(spec: Spec, found: list[Interpreter]) -> list[Interpreter]:
    """Return those interpreters that all locked files support; raise HostError when none is."""
    oldest, newest = spec.pythons()
    good = [i for i in found if oldest <= i.version <= newest]
    if good:
        return good
    span = f"Python {oldest[0]}.{oldest[1]}"
    span += " or later" if newest == ANY_NEWER else f" to {newest[0]}.{newest[1]}"
    here = ", ".join(f"{major}.{minor}" for major, minor in sorted({i.version for i in found}))
    raise HostError(
        f"{', '.join(sorted(spec.requirements))} need {span} and this host has {here}; install one"
        " and name it with benchfleet_python."
    )


def _check_disk(home: str, spec: Spec) -> None:
    need, free = spec.disk_mb(), shutil.disk_usage(home).free >> 20
    if free < need * 3 // 2:
        raise HostError(
            f"{home} has {free} MB free; the environment {spec.name} takes about {need} MB and"
            " half as much again while it is built."
        )


def _record(home: str, name: str) -> dict[str, Any]:
    try:
        text = Path(home, "envs", name, _RECORD).read_text(encoding="utf-8")
        return dict(json.loads(text))
    except (OSError, ValueError):
        return {}


def _write_record(home: str, spec: Spec, python: Interpreter) -> None:
    """Mark the environment as complete; this is written last."""
    inner = facts(home, spec.name)["python"]
    record = {
        "python": ".".join(map(str, python.version)),
        "requirements": sorted(spec.requirements),
        "loadgen": output([inner, "-I", "-c", _LOADGEN_VERSION]) if spec.loadgen else "",
        "digest": spec.digest(),
    }
    path = Path(home, "envs", spec.name, _RECORD)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(json.dumps(record), encoding="utf-8")
    os.replace(partial, path)
