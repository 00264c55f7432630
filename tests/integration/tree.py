"""Copies of the tree under test and the environment to use them in."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

LINKS = ("collections", "playbooks/collections")
KEPT = ("PATH", "LANG", "LC_ALL", "TERM", "CI", "PYENV_VERSION")
KEPT_PREFIXES = ("PIP_", "SSL_", "REQUESTS_", "CURL_")
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def root() -> Path:
    """Root of the checkout under test."""
    return Path(__file__).resolve().parents[2]


def files() -> list[str]:
    """Relative paths of what git would track: tracked files, and new ones that it does not ignore.

    The two links that lead back to the root are left out. Raises CalledProcessError outside a
    git checkout.
    """
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root(),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = sorted(set(listing.split("\0")) - {""})
    inside = tuple(f"{link}/" for link in LINKS)
    return [
        name
        for name in names
        if name not in LINKS
        and not name.startswith(inside)
        and ((root() / name).is_file() or (root() / name).is_symlink())
    ]


def copy(target: Path, *, links: bool) -> Path:
    """Copy the tree to `target` (made); with `links`, as a checkout that resolves itself."""
    for name in files():
        to = target / name
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root() / name, to, follow_symlinks=False)
    if links:
        inner = target / "collections" / "ansible_collections" / "benchfleet"
        inner.mkdir(parents=True)
        (inner / "mlperf").symlink_to("../../..")
        (target / "playbooks").mkdir(exist_ok=True)
        (target / "playbooks" / "collections").symlink_to("../collections")
    return target


def pip_settings() -> str:
    """The user's pip settings as the text of a pip.conf, for processes with another home."""
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    lines = ["[global]"]
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        if key.startswith("global."):
            lines.append(f"{key.removeprefix('global.')} = {value.strip(chr(39))}")
    return "\n".join(lines) + "\n"


def controller_environment(home: Path) -> dict[str, str]:
    """Environment with a private home and none of the user's Ansible settings."""
    chosen = {
        name: value
        for name, value in os.environ.items()
        if name in KEPT or name.startswith(KEPT_PREFIXES) or name.upper() in PROXIES
    }
    conf = home / ".config" / "pip" / "pip.conf"
    conf.parent.mkdir(parents=True, exist_ok=True)
    conf.write_text(pip_settings())
    scripts = str(Path(sys.executable).parent)
    return chosen | {
        "HOME": str(home),
        "PATH": f"{scripts}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_HOME": str(home / ".ansible"),
        "ANSIBLE_NOCOLOR": "1",
    }
