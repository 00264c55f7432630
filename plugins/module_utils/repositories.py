# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that make a package manager know a repository: its entry, its key, its priority."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence
from urllib.parse import urlparse

HEAD = "# written by benchfleet.mlperf; changes are undone by its next run\n"
# apt prefers the greater number (500 is usual), dnf and zypper the smaller one (99 is usual)
APT_PRIORITY, RPM_PRIORITY = 600, 50


@dataclass(frozen=True)
class Repository:
    """A repository of packages; suite and components mean something to apt only.

    A suite that ends with / is a flat repository and has no components.
    """

    name: str
    url: str
    suite: str = "/"
    components: Sequence[str] = ()
    preferred: bool = False


def key_path(family: str, name: str, armored: bool) -> str:
    """Return where the key of a repository belongs."""
    if family == "Debian":
        return f"/etc/apt/keyrings/{name}.{'asc' if armored else 'gpg'}"
    return f"/etc/pki/rpm-gpg/RPM-GPG-KEY-{name}"


def files(family: str, repository: Repository, key: str) -> dict[str, str]:
    """Return path -> text of the files that describe a repository whose key lies at `key`."""
    if family == "Debian":
        return _apt(repository, key)
    folder = "/etc/zypp/repos.d" if family == "Suse" else "/etc/yum.repos.d"
    lines = [
        f"[{repository.name}]",
        f"name={repository.name}",
        f"baseurl={repository.url}",
        "enabled=1",
        "gpgcheck=1",
        f"gpgkey=file://{key}",
    ]
    if repository.preferred:
        lines.append(f"priority={RPM_PRIORITY}")
    return {f"{folder}/{repository.name}.repo": HEAD + "\n".join(lines) + "\n"}


def _apt(repository: Repository, key: str) -> dict[str, str]:
    lines = ["Types: deb", f"URIs: {repository.url}", f"Suites: {repository.suite}"]
    if repository.components:
        lines.append(f"Components: {' '.join(repository.components)}")
    lines.append(f"Signed-By: {key}")
    found = {
        f"/etc/apt/sources.list.d/{repository.name}.sources": HEAD + "\n".join(lines) + "\n",
    }
    if repository.preferred:
        host = urlparse(repository.url).hostname
        pin = f'Package: *\nPin: origin "{host}"\nPin-Priority: {APT_PRIORITY}\n'
        found[f"/etc/apt/preferences.d/{repository.name}"] = HEAD + pin
    return found


def untrusted(found: Sequence[str], expected: Sequence[str]) -> list[str]:
    """Return the fingerprints of a key file that nobody named; spaces and case do not count."""
    known = {"".join(word.split()).upper() for word in expected}
    return [one for one in found if one not in known]
