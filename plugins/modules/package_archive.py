#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: package_archive
short_description: Collect packages of an operating system for hosts without internet
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Downloads packages and everything they depend on from the repositories of a connected host, and
    publishes them in the controller's store, for hosts of the same system.
    M(benchfleet.mlperf.host_packages) installs from such a folder.
  - The package manager checks what it downloads by its repositories' keys. Nothing is installed on
    the host, and no root is needed.
  - Works with C(apt-get), and with C(dnf) that has its command C(download) (dnf-plugins-core).
options:
  names:
    description: Packages as the system names them.
    type: list
    elements: str
    required: true
  store:
    description: The controller's artifact store.
    type: path
    default: ~/.cache/benchfleet
  session:
    description:
      - The session folder that M(benchfleet.mlperf.plan) returned. Packages are then collected only
        for a system of its hosts without internet that lack some, as
        M(benchfleet.mlperf.build_facts) has found. Read by the controller half.
    type: str
  systems:
    description: The systems to collect for; any without it. Set by the controller half.
    type: list
    elements: dict
  held:
    description: Systems whose packages the store has. Set by the controller half.
    type: list
    elements: dict
    default: []
  home:
    description: Folder of benchfleet on the host, for the log.
    type: str
    default: ~/.benchfleet
attributes:
  check_mode:
    description: Says whether anything would be collected.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Collect what building environments takes
  benchfleet.mlperf.package_archive:
    names: [python3-venv, g++, python3-dev]
  delegate_to: connected-host
  run_once: true
"""

RETURN = r"""
system:
  description: Identity and version of the host's system, and its machine type.
  returned: success
  type: dict
digest:
  description: Digest of the tree in the controller's store, where it has one for this system.
  returned: success
  type: str
archive:
  description: The file that the controller half has fetched; empty when nothing was collected.
  returned: success
  type: str
sha256:
  description: Its digest.
  returned: when something was collected
  type: str
log:
  description: The package manager's output.
  returned: when something was collected
  type: str
"""

import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import host_store, packages
from ..module_utils.package_manager import Manager, new_log

LIMIT_S = 3600
LOCK_WAIT_S = 300


def main() -> None:
    """Run the target half."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "store": {"type": "path", "default": "~/.cache/benchfleet"},
            "session": {"type": "str"},
            "systems": {"type": "list", "elements": "dict"},
            "held": {"type": "list", "elements": "dict", "default": []},
            "home": {"type": "str", "default": "~/.benchfleet"},
        },
        supports_check_mode=True,
    )
    params, system = module.params, packages.system()
    only = params["systems"]
    wanted = system not in params["held"] and (only is None or system in only)
    result: dict[str, Any] = {"changed": wanted, "system": system, "archive": ""}
    if wanted and not module.check_mode:
        try:
            result.update(_collect(module))
        except host_store.HostError as error:
            module.fail_json(msg=str(error), system=system)
        except OSError as error:
            module.fail_json(msg=f"{error.filename or 'the host'}: {error.strerror}.")
    module.exit_json(**result)


def _collect(module: AnsibleModule) -> dict[str, str]:
    """Download the packages; return where they lie as one file that the caller takes away."""
    names = module.params["names"]
    name = next((m for m in packages.MANAGERS if module.get_bin_path(m)), None)
    folder = Path(tempfile.mkdtemp(prefix="benchfleet-packages-", dir="/var/tmp"))
    try:
        download = packages.closure_argv(name or "", names, str(folder))
        if name is None or download is None:
            raise host_store.HostError(
                f"{name or 'this host'} downloads no packages with all they depend on; put their"
                f" files ({' '.join(names)}) into a folder and use host_base_package_folder."
            )
        manager = Manager(name, new_log(module.params["home"]), LIMIT_S, LOCK_WAIT_S)
        update = packages.closure_update_argv(name, str(folder))
        if update:
            _make_state(folder)
            manager.must(update)
        manager.must(download)
        archive = folder / "packages.tar"
        with tarfile.open(archive, "w") as tar:
            for file in sorted(folder.glob(f"*{packages.SUFFIX[name]}")):
                tar.add(str(file), arcname=file.name)
                file.unlink()
        shutil.rmtree(folder / ".state", ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder)
        raise
    sha256 = host_store.sha256_of(str(archive))
    return {"archive": str(archive), "sha256": sha256, "log": str(manager.log)}


def _make_state(folder: Path) -> None:
    """Make the folders that apt expects, of a system where nothing is installed."""
    for part in (".state/lists/partial", ".cache", "partial"):
        (folder / part).mkdir(parents=True)
    (folder / ".state" / "status").write_bytes(b"")


if __name__ == "__main__":
    main()
