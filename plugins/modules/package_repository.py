#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: package_repository
short_description: Make the package manager know a repository whose key is known
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Writes the entry of a repository for apt, dnf or zypper, and its key. The key is accepted only
    when the fingerprint of each of its primary keys is one that the caller has named; the host
    needs no C(gpg) for that.
  - A key that is there and has the right fingerprint is not downloaded again.
options:
  name:
    description: Name of the repository; the files are named after it.
    type: str
    required: true
  url:
    description: Address of the repository.
    type: str
    required: true
  suite:
    description: apt's suite, or V(/) for a flat repository. dnf and zypper have none.
    type: str
    default: /
  components:
    description: apt's components; none in a flat repository.
    type: list
    elements: str
    default: []
  key:
    description: Address of the key, or its path on the host.
    type: str
    required: true
  fingerprints:
    description: Fingerprints that the key may have; spaces and case do not count.
    type: list
    elements: str
    required: true
  preferred:
    description: Prefer its packages to those of the same name elsewhere.
    type: bool
    default: false
attributes:
  check_mode:
    description: Says which files would be written; a missing key is not downloaded.
    support: full
  diff_mode:
    description: Shows the entry. An address with a password is shown as it is written.
    support: full
"""

EXAMPLES = r"""
- name: Know NVIDIA's repository
  benchfleet.mlperf.package_repository:
    name: benchfleet-nvidia
    url: https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64
    key: https://developer.download.nvidia.com/compute/cuda/repos/ubuntu2404/x86_64/3bf863cc.pub
    fingerprints: [EB693B3035CD5710E231E123A4B469963BF863CC]
  become: true
"""

RETURN = r"""
files:
  description: The files of the repository on the host, its key included.
  returned: always
  type: list
  elements: str
"""

import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.urls import open_url

from ..module_utils import host_facts, openpgp, repositories
from ..module_utils.host_store import HostError

KEY_LIMIT = 1 << 20  # bytes; a key file has a few thousand


def main() -> None:
    """Write what is missing or different."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "url": {"type": "str", "required": True},
            "suite": {"type": "str", "default": "/"},
            "components": {"type": "list", "elements": "str", "default": []},
            "key": {"type": "str", "required": True, "no_log": False},
            "fingerprints": {"type": "list", "elements": "str", "required": True},
            "preferred": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        result = _ensure(module)
    except HostError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or module.params['key']}: {error.strerror or error}."
        )
    module.exit_json(**result)


def _ensure(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    family = host_facts.read()["family"]
    if not family:
        raise HostError(
            "this operating system is none of " + ", ".join(host_facts.FAMILIES) + ": install the"
            " packages by hand."
        )
    path, data = _key(params, family, download=not module.check_mode)
    repository = repositories.Repository(
        params["name"],
        params["url"],
        params["suite"],
        params["components"],
        params["preferred"],
    )
    wanted = repositories.files(family, repository, path)
    before = {name: _text(name) for name in wanted}
    changed = data is not None or before != wanted
    if changed and not module.check_mode:
        _write(module, family, {path: data} if data else {}, wanted)
    return {
        "changed": changed,
        "files": [path, *wanted],
        "diff": {"before": "".join(before.values()), "after": "".join(wanted.values())},
    }


def _key(params: dict[str, Any], family: str, *, download: bool) -> tuple[str, bytes | None]:
    """Return where the key lies, and its content when it must be written (empty: not fetched)."""
    for armored in (True, False):
        path = repositories.key_path(family, params["name"], armored)
        try:
            present = Path(path).read_bytes()
            if not repositories.untrusted(openpgp.fingerprints(present), params["fingerprints"]):
                return path, None
        except (OSError, openpgp.KeyFormatError):
            continue
    if not download:
        return repositories.key_path(family, params["name"], True), b""
    data = _fetch(params["key"])
    try:
        strangers = repositories.untrusted(openpgp.fingerprints(data), params["fingerprints"])
    except openpgp.KeyFormatError as error:
        raise HostError(f"{params['key']} holds {error}.") from None
    if strangers:
        raise HostError(
            f"{params['key']} holds a key with the fingerprint {strangers[0]}, expected"
            f" {' or '.join(params['fingerprints'])}. Ask the vendor before you change the latter."
        )
    return repositories.key_path(family, params["name"], openpgp.armored(data)), data


def _fetch(source: str) -> bytes:
    if "://" not in source:
        return Path(source).read_bytes()
    with open_url(source, timeout=30) as answer:
        return bytes(answer.read(KEY_LIMIT))


def _write(
    module: AnsibleModule, family: str, keys: dict[str, bytes], texts: dict[str, str]
) -> None:
    contents = {**keys, **{name: text.encode() for name, text in texts.items()}}
    for name, content in contents.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        part = Path(f"{name}.partial")
        part.write_bytes(content)
        part.chmod(0o644)
        os.replace(part, name)
    if family == "Suse":  # zypper asks before it takes a key that rpm does not know
        for name in keys:
            module.run_command(["rpm", "--import", name], check_rc=True)


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


if __name__ == "__main__":
    main()
