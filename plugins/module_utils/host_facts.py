# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What kind of machine this is, as far as getting it ready depends on it; read from files only."""

from __future__ import annotations

import ctypes
import os
import platform
import re
from pathlib import Path
from typing import Any

FAMILIES = {
    "Debian": ("debian", "ubuntu"),
    "RedHat": ("rhel", "fedora", "centos", "rocky", "almalinux"),
    "Suse": ("suse", "sles", "opensuse"),
}
# Names of processes as /proc/<pid>/comm has them, which ends after 15 characters.
CLOCK_DAEMONS = ("chronyd", "ntpd", "systemd-timesyn", "ptp4l", "phc2sys")
NVIDIA, AMD = "0x10de", "0x1002"  # PCI vendors
DISPLAY, BRIDGE, ACCELERATOR = "0x03", "0x0680", "0x1200"  # PCI classes; an NVSwitch is a bridge
_TIME_ERROR = 5  # adjtimex(2): the clock is not synchronised
_SYS_RESOURCE = 1 << 24  # capabilities(7): may raise limits


def read(root: str = "/") -> dict[str, Any]:
    """Return the facts below `root`; see the documentation of the module system_info."""
    top = Path(root)
    kernel = platform.release()
    return {
        **operating_system(_text(top / "etc/os-release") or ""),
        "machine": platform.machine(),
        "kernel": kernel,
        "headers": (top / "lib/modules" / kernel / "build/Makefile").exists(),
        "systemd": (top / "run/systemd/system").is_dir(),
        "clock_daemon": clock_daemon(top),
        "may_raise_limits": bool(_capabilities(top) & _SYS_RESOURCE),
        "most_open_files": int(_text(top / "proc/sys/fs/nr_open") or 0),
        "nouveau": (top / "sys/module/nouveau").is_dir(),
        "nvidia": {
            **pci(top, NVIDIA),
            "loaded": _text(top / "sys/module/nvidia/version") or "",
        },
        "amd": {**pci(top, AMD), "loaded": _text(top / "sys/module/amdgpu/version") or ""},
    }


def operating_system(release: str) -> dict[str, str]:
    """Return family, id, version and codename from the text of /etc/os-release.

    The family is one of FAMILIES, or empty for a system that is none of them.
    """
    found = dict(re.findall(r"^([A-Z_]+)=[\"']?([^\"'\n]*)", release, re.M))
    words = f"{found.get('ID', '')} {found.get('ID_LIKE', '')}".replace("-", " ").split()
    families = (f for word in words for f, names in FAMILIES.items() if word in names)
    return {
        "family": next(families, ""),
        "id": found.get("ID", ""),
        "version": found.get("VERSION_ID", ""),
        "codename": found.get("VERSION_CODENAME", ""),
    }


def clock_daemon(top: Path) -> str:
    """Return the name of a process that keeps the clock, empty when there is none."""
    for comm in (top / "proc").glob("[0-9]*/comm"):
        name = _text(comm)
        if name in CLOCK_DAEMONS:
            return name
    return ""


def _capabilities(top: Path) -> int:
    """The capabilities of this process, as a set of bits."""
    status = _text(top / "proc/self/status") or ""
    found = re.search(r"^CapEff:\s*([0-9a-f]+)", status, re.M)
    return int(found.group(1), 16) if found else 0


def clock_synchronised() -> bool:
    """Return whether the kernel says that something keeps its clock right.

    False also where the kernel may not be asked, as in some containers.
    """
    buffer = ctypes.create_string_buffer(512)  # struct timex, modes = 0: only read
    try:
        answer = int(ctypes.CDLL(None).adjtimex(buffer))
    except (OSError, AttributeError):
        return False
    return 0 <= answer < _TIME_ERROR


def pci(top: Path, vendor: str) -> dict[str, Any]:
    """Return how many accelerators of a PCI vendor there are, and whether they have a switch."""
    classes = [
        _text(device / "class") or ""
        for device in (top / "sys/bus/pci/devices").glob("*")
        if _text(device / "vendor") == vendor
    ]
    return {
        "devices": sum(c.startswith((DISPLAY, ACCELERATOR)) for c in classes),
        "switch": any(c.startswith(BRIDGE) for c in classes),
    }


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None


def login_home() -> str:
    """Return the home of the user who logged in, also where sudo has made us root since."""
    user = os.environ.get("SUDO_USER") if os.geteuid() == 0 else None
    return os.path.expanduser(f"~{user}" if user else "~")


def expand(path: str) -> str:
    """Return `path` with a leading ~ as the home of the user who logged in."""
    if path == "~" or path.startswith("~/"):
        return login_home() + path[1:]
    return os.path.expanduser(path)


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, owned as the first one above that is there: what root
    makes in a user's home must stay the user's. Raises OSError."""
    new = [p for p in (folder, *folder.parents) if not p.exists()]
    for path in reversed(new):
        path.mkdir(mode=0o755)
        owner = path.parent.stat()
        if os.geteuid() == 0:
            os.chown(path, owner.st_uid, owner.st_gid)
