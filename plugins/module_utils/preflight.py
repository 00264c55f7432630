# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What must be known of a host before hours are spent there: facts, no verdict."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator

from . import python_env
from .host_store import artifact_path
from .job import lock, quiet

TIME_SERVICES = ("chronyd", "systemd-timesyn", "ntpd", "ptp4l", "openntpd")  # as /proc/*/comm
_LOGIND = ("usr/lib/systemd", "run/systemd", "etc/systemd")
_VERSION = re.compile(r"\d+(?:\.\d+)+")

Facts = Dict[str, Any]


def memory(root: Path = Path("/")) -> Facts:
    """Bytes of memory: {total, available, limit (of the cgroup, None: there is none)}."""
    figures = quiet.memory_figures(_text(root / "proc/meminfo"))
    limits = [
        int(text)
        for folder in _cgroups(root)
        for text in [
            _text(folder / "memory.max").strip(),
            _text(folder / "memory/memory.limit_in_bytes").strip(),
        ]
        # cgroup 1 says "no limit" by a number near 2**63
        if text.isdigit() and int(text) < 1 << 60
    ]
    return {
        "total": figures.get("MemTotal"),
        "available": figures.get("MemAvailable"),
        "limit": min(limits, default=None),
    }


def cpus(root: Path = Path("/")) -> Facts:
    """CPUs: {online, allowed (to this process), quota (of the cgroup, None: there is none)}."""
    quotas = []
    for folder in _cgroups(root):
        quota, _space, period = _text(folder / "cpu.max").strip().partition(" ")
        if quota.isdigit() and period.isdigit():
            quotas.append(int(quota) / int(period))
    return {
        "online": os.cpu_count() or 1,
        "allowed": len(os.sched_getaffinity(0)),
        "quota": min(quotas, default=None),
    }


def _cgroups(root: Path) -> Iterator[Path]:
    """Yield the cgroup of this process and all above it, up to the one it can see as its root."""
    top = root / "sys/fs/cgroup"
    own = re.search(r"^0::(/.*)$", _text(root / "proc/self/cgroup"), re.M)
    folder = top / own.group(1).strip("/") if own else top
    if ".." in folder.parts:
        folder = top
    while folder != top and top in folder.parents:
        yield folder
        folder = folder.parent
    yield top


def disk(home: str) -> Facts:
    """The file system that `home` is or will be on: {path (that exists), free, total, writable,
    read_only, noexec}; bytes that this user may take."""
    path = Path(home)
    while not path.exists() and path != path.parent:
        path = path.parent
    status = os.statvfs(str(path))
    return {
        "path": str(path),
        "free": status.f_bavail * status.f_frsize,
        "total": status.f_blocks * status.f_frsize,
        "writable": os.access(str(path), os.W_OK | os.X_OK),
        "read_only": bool(status.f_flag & os.ST_RDONLY),
        "noexec": bool(status.f_flag & os.ST_NOEXEC),
    }


def used(home: str) -> int:
    """Bytes that the files below `home` take; a file with several names counts once."""
    seen, total = set(), 0
    for folder, _folders, names in os.walk(home):
        for name in names:
            with contextlib.suppress(OSError):
                status = os.lstat(str(Path(folder, name)))
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
    return total


def sizes(home: str, digests: Iterable[str]) -> dict[str, int]:
    """Bytes of each artifact that the host holds already."""
    found = {}
    for digest in digests:
        with contextlib.suppress(OSError):
            found[digest] = Path(artifact_path(home, digest)).stat().st_size
    return found


def taken_ports(ports: Iterable[int]) -> list[int]:
    """Those of `ports` that somebody listens on."""
    taken = []
    for port in ports:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("", port))
            except OSError:
                taken.append(port)
    return taken


def runtimes(names: Iterable[str]) -> dict[str, str | None]:
    """Version of each container runtime ('docker', 'podman', 'apptainer'), None: not there."""
    found: dict[str, str | None] = {}
    for name in names:
        text = _output([name, "--version"]) if shutil.which(name) else None
        version = _VERSION.search(text or "")
        found[name] = version.group() if version else None
    return found


def time_service(root: Path = Path("/")) -> str | None:
    """Name of the service that keeps the clock right, None when none runs.

    A container has its host's clock: "the host of this container" for one that has no service.
    """
    for path in (root / "proc").glob("[0-9]*/comm"):
        name = _text(path).strip()
        if name in TIME_SERVICES:
            return "systemd-timesyncd" if name == "systemd-timesyn" else name
    if (root / "run/.containerenv").exists() or (root / ".dockerenv").exists():
        return "the host of this container"
    return None


def ends_at_logout(user: str, root: Path = Path("/")) -> bool:
    """Whether logind kills what this user leaves behind when the connection closes.

    Only processes of a logind session are ended, and only with KillUserProcesses; root's job is a
    system scope of its own.
    """
    if "/session-" not in _text(root / "proc/self/cgroup"):
        return False
    settings = logind(root)
    if settings.get("KillUserProcesses", "no").lower() not in ("yes", "true", "on", "1"):
        return False
    only = settings.get("KillOnlyUsers", "").split()
    spared = settings.get("KillExcludeUsers", "root").split()
    return user not in spared and (not only or user in only)


def logind(root: Path = Path("/")) -> dict[str, str]:
    """Settings of logind from its files, in the order in which one takes another's place."""
    first = next(
        (p for f in reversed(_LOGIND) if (p := root / f / "logind.conf").is_file()),
        root / "none",
    )
    parts = {p.name: p for f in _LOGIND for p in (root / f / "logind.conf.d").glob("*.conf")}
    settings = {}
    for path in (first, *(parts[name] for name in sorted(parts))):
        for name, value in re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", _text(path), re.M):
            settings[name] = value
    return settings


def may_become_root() -> bool:
    """Whether this user is root, or sudo works without a password."""
    if os.geteuid() == 0:
        return True
    return shutil.which("sudo") is not None and _output(["sudo", "-n", "true"]) is not None


def user_name() -> str:
    """The account's name, or its number where the host does not know it."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def missing_packages(specs: Iterable[python_env.Spec]) -> list[str]:
    """Packages of the operating system that building the environments needs.

    Raises HostError when the Python that the lab named does not run.
    """
    found: dict[str, None] = {}
    for spec in specs:
        found.update(dict.fromkeys(python_env.missing_packages(spec)))
    return list(found)


def measuring() -> Facts | None:
    """Who measures on the host now: {user, what, until}, None when nobody does."""
    with contextlib.suppress(OSError):
        holder = lock.holder()
        return {k: holder.get(k) for k in ("user", "what", "until")} if holder else None
    return None


def _output(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
