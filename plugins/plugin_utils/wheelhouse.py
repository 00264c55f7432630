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
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..module_utils import python_env
from ..module_utils.artifacts import mirror
from ..module_utils.artifacts.base import Access, ArtifactError, Say, size
from ..module_utils.artifacts.errand import Errand
from ..module_utils.artifacts.store import Store
from ..module_utils.artifacts.tree import Files, entry
from ..module_utils.host_store import HostError, locked, sha256_of
from ..module_utils.python_env.commands import Commands
from .digest import canonical
from .errors import BenchfleetError

_EVERY_S = 10.0
_TARGET = re.compile(r"cp3(\d+)-(x86_64|aarch64)(?:-2\.(\d+))?")
_USUAL_GLIBC = (2, 28)  # what most packages' newest wheels need: RHEL 8, Debian 10, Ubuntu 20.04
_MARKED = re.compile(r"^([^\s;#]+==\S+) ; (.+?)( \\)?$")
_OLDEST_GLIBC = {"x86_64": 5, "aarch64": 17}  # minor versions with which manylinux began there
_LEGACY = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
# what LoadGen's source package (5.0 to 6.0) says it is built with
_LOADGEN_BUILD = ("setuptools>=42", "wheel", "pybind11==2.11.1")


@dataclass(frozen=True)
class Target:
    """The host: its Python ("3.11"), machine type, and glibc as (major, minor)."""

    python: str
    machine: str
    glibc: tuple[int, int]

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> Target:
        """Read what a host said (see python_env.target)."""
        major, minor = found["glibc"]
        return cls(str(found["python"]), str(found["machine"]), (int(major), int(minor)))

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read `cp311-x86_64`, or `cp311-x86_64-2.35` with the version of glibc.

        Raises BenchfleetError.
        """
        found = _TARGET.fullmatch(text)
        if not found:
            raise BenchfleetError(
                f"mirror_targets={text} is not cp3<minor>-<machine>, such as cp311-x86_64, or"
                " cp312-aarch64-2.35 with the version of glibc."
            )
        glibc = (2, int(found[3])) if found[3] else _USUAL_GLIBC
        return cls(f"3.{found[1]}", found[2], glibc)

    def __str__(self) -> str:
        return f"cp{self.python.replace('.', '')}-{self.machine}"

    @property
    def version(self) -> tuple[int, int]:
        """The Python's (major, minor)."""
        major, minor = self.python.split(".")
        return int(major), int(minor)

    def why_not(self, env: Mapping[str, Any]) -> str | None:
        """Return why an environment cannot exist there, None when it can."""
        if env["wheels"] and self.machine not in env["wheels"]:
            return f"its packages exist for {', '.join(env['wheels'])} only"
        for name, text in env["requirements"].items():
            oldest, newest = python_env.read(text).pythons
            if not oldest <= self.version <= newest:
                return f"{name} is not for Python {self.python}"
        return None

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
        numbers = [*self.python.split("."), "0"]  # markers tell minor versions apart only
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


def find(store: Store, env: Mapping[str, Any], target: Target) -> str | None:
    """Return the digest of the wheels of an environment (as payload.environment makes it) for a
    host, None where the store has none. Those for an older C library serve a newer one."""
    known = (store.pin(pin) for pin in _pins(env, target))
    return next((digest for digest in known if digest and store.has(digest)), None)


def have(
    store: Store, env: Mapping[str, Any], target: Target, access: Access, say: Say
) -> tuple[str, bool]:
    """Find the wheels of an environment for a host in the store, or bring them there, from the
    lab's mirror or the package index; return (digest of the tree, whether they were brought).

    Raises BenchfleetError with the reason in one line.
    """
    what = f"wheels of {env['name']} for {target}"
    pins = _pins(env, target)
    with store.lock(store.pin_name(pins[0]), say):
        found = find(store, env, target)
        if found:
            return found, False
        about = {
            "name": f"{env['name']} for {target}",
            "type": "wheels",
            "tags": ["wheels", env["name"], str(target)],
            "origin": {"url": "package index"},
            "checked_by": "sha256",
        }
        try:
            files = _mirrored(store, what, pins, access, say)
            files = files or _fetched(store, env, target, access, say)
            digest = store.add_tree(files, about)
        except HostError as e:
            raise BenchfleetError(f"{what} are not in the store. {e}") from None
        store.set_pin(pins[0], digest)
    return digest, True


def _pins(env: Mapping[str, Any], target: Target) -> list[dict[str, Any]]:
    """Return what the store knows wheels by, those for this very host first."""
    content = canonical([env["requirements"], env["loadgen"], bool(env.get("loadgen_source"))])
    about = {"wheels": content, "python": target.python, "machine": target.machine}
    oldest = _OLDEST_GLIBC.get(target.machine, 17)
    return [about | {"glibc": [2, minor]} for minor in range(target.glibc[1], oldest - 1, -1)]


def _mirrored(
    store: Store, what: str, pins: list[dict[str, Any]], access: Access, say: Say
) -> Files | None:
    """Return the wheels that the lab's mirror has, None where it has none."""
    if not access.mirror:
        return None
    try:
        return mirror.take(Errand(store, what, access, say), pins).files
    except ArtifactError as e:
        say(f"{e} Trying the package index.")
        return None


def _fetched(
    store: Store, env: Mapping[str, Any], target: Target, access: Access, say: Say
) -> Files:
    """Download wheels into the store, one download at a time on this controller; what was not
    whole is begun anew. Raises HostError."""
    if importlib.util.find_spec("pip") is None:
        raise HostError(
            f"The controller's Python ({sys.executable}) has no pip, which downloads the wheels of"
            f" hosts without internet: run {sys.executable} -m ensurepip, or install python3-pip."
        )
    folder = store.part("").with_name(f"wheels-{env['name']}-{target}")
    log = store.root / "logs" / f"{folder.name}.log"
    log.parent.mkdir(exist_ok=True)
    with locked(str(store.base / ".locks" / "wheels")) as lock:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "wheels").mkdir(parents=True)
        log.write_bytes(b"")
        commands = Commands(log, folder, lock, "Downloading them")
        say(f"{env['name']}: downloads wheels for {target}, see {log}")
        with _spoken(folder, env["name"], say):
            _download(env, target, folder, commands, dict(access.environment))
        files = {}
        for path in sorted((folder / "wheels").iterdir()):
            sha256 = sha256_of(str(path))
            files[path.name] = entry(sha256, path.stat().st_size, False)
            store.publish(path, sha256)
        shutil.rmtree(folder)
    return files


@contextmanager
def _spoken(folder: Path, name: str, say: Say) -> Iterator[None]:
    """Say every few seconds how much has come into a folder; pip only tells terminals."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY_S):
            with suppress(OSError):  # pip moves its files about
                total = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
                say(f"{name}: {size(total)} of wheels")

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        watcher.join()


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
            if name == env["loadgen"] and _builds_loadgen(env, target):
                _run(commands, folder, [*binary, *_LOADGEN_BUILD], environment)
                if env.get("loadgen_source"):
                    continue
                options += ["--no-binary", ":all:"]
            elif part == "source":
                options += ["--no-binary", ":all:"]
            else:
                options += binary
            _run(commands, folder, options, environment)


def _builds_loadgen(env: Mapping[str, Any], target: Target) -> bool:
    """Return whether the host compiles LoadGen (see python_env.loadgen.must_build)."""
    wheel = target.machine == python_env.LOADGEN_WHEELS_FOR and target.version <= python_env.NEWEST
    return bool(env.get("loadgen_source")) or not wheel


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
    from packaging.markers import Marker  # comes with ansible-core; ansible-test imports without it

    kept, keep = [], False
    for line in text.splitlines():
        if not line.startswith((" ", "\t", "#")):
            marked = _MARKED.match(line)
            keep = marked is None or Marker(marked[2]).evaluate(target.markers())
            line = f"{marked[1]}{marked[3] or ''}" if marked else line
        if keep:
            kept.append(line)
    return "\n".join(kept) + "\n"
