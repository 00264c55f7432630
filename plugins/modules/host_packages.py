#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_packages
short_description: Install packages of the operating system, with a log on the host
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Installs packages with C(apt-get), C(dnf), C(yum) or C(zypper), from the host's repositories or
    from a folder of files. What is there already is found with C(dpkg-query) or C(rpm), so that a
    host that lacks nothing asks no repository.
  - While a job of benchfleet's measures on the host, nothing is installed.
  - The package manager's whole output goes to C(<home>/logs/packages-<UTC>.log). A failure is one
    message with the line that tells why and the place of the log.
options:
  names:
    description:
      - Packages as the host's own system names them. V(name=version) asks for exactly this upstream
        version, whatever the packaging revision, and also goes back to an older one.
    type: list
    elements: str
    required: true
  folder:
    description:
      - Folder on the host with C(.deb) or C(.rpm) files, used in place of every repository. It
        holds the packages and everything they depend on that the host lacks.
      - Of C(.deb) files those are installed that O(names) need; of C(.rpm) files all whose package
        the host lacks.
    type: path
  module_streams:
    description: Module streams of dnf's to enable first, as V(module:stream).
    type: list
    elements: str
    default: []
  home:
    description:
      - Folder of benchfleet on the host. A leading C(~) is the home of the user who logged in, also
        with become. Where root cannot write there, the log goes to C(/var/log/benchfleet).
    type: str
    default: ~/.benchfleet
  limit_s:
    description: How long the package manager may take altogether, in seconds.
    type: int
    default: 3600
  lock_wait_s:
    description: How long to wait for another package manager at work, in seconds.
    type: int
    default: 300
attributes:
  check_mode:
    description: Says what would be installed. It needs no root.
    support: full
  diff_mode:
    description: Shows the packages that would come.
    support: full
"""

EXAMPLES = r"""
- name: Install what building a wheel needs
  benchfleet.mlperf.host_packages:
    names: [g++, python3-dev]
  become: true

- name: Install the fabric manager of exactly this driver, from files
  benchfleet.mlperf.host_packages:
    names: [nvidia-fabricmanager-580=580.65.06]
    folder: /srv/packages
  become: true
"""

RETURN = r"""
missing:
  description: What was not there before.
  returned: always
  type: list
  elements: str
manager:
  description: The package manager of the host.
  returned: always
  type: str
log:
  description: The package manager's output; empty when it was not called.
  returned: always
  type: str
"""

import os
from pathlib import Path
from typing import Any, Sequence

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import host_store, packages
from ..module_utils.job import lock
from ..module_utils.package_manager import Manager, install_debs, new_log


def main() -> None:
    """Install what is missing."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "folder": {"type": "path"},
            "module_streams": {"type": "list", "elements": "str", "default": []},
            "home": {"type": "str", "default": "~/.benchfleet"},
            "limit_s": {"type": "int", "default": 3600},
            "lock_wait_s": {"type": "int", "default": 300},
        },
        supports_check_mode=True,
    )
    try:
        result = _install(module)
    except host_store.HostError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or 'the host'}: {error.strerror}.")
    module.exit_json(**result)


def _install(module: AnsibleModule) -> dict[str, Any]:
    params = module.params
    name = next((m for m in packages.MANAGERS if module.get_bin_path(m)), None)
    if name is None:
        raise host_store.HostError(
            f"this host has none of {', '.join(packages.MANAGERS)}: install"
            f" {' '.join(params['names'])} by hand."
        )
    wanted = [packages.Wanted.parse(text) for text in dict.fromkeys(params["names"])]
    missing = packages.missing(wanted, _installed(module, name, wanted))
    words = [str(one) for one in missing]
    streams = [s for s in params["module_streams"] if not _stream_enabled(s)]
    result: dict[str, Any] = {
        "changed": bool(missing or streams),
        "missing": words,
        "manager": name,
        "log": "",
        "diff": {"before": "", "after": "".join(f"{word}\n" for word in words)},
    }
    if module.check_mode or not result["changed"]:
        return result
    if os.geteuid() != 0:
        raise host_store.HostError(
            f"installing {' '.join(words + streams)} needs root: set become."
        )
    _nobody_measures()
    manager = Manager(name, new_log(params["home"]), params["limit_s"], params["lock_wait_s"])
    result["log"] = str(manager.log)
    for stream in streams:
        manager.must(packages.stream_argv(stream))
    if missing:
        _install_missing(module, manager, missing, params["folder"])
        _verify(module, manager, missing)
    return result


def _install_missing(
    module: AnsibleModule,
    manager: Manager,
    missing: Sequence[packages.Wanted],
    folder: str | None,
) -> None:
    install = packages.install_argv(manager.name, missing, manager.lock_wait_s)
    if folder:
        files = sorted(Path(folder).glob(f"*{packages.SUFFIX[manager.name]}"))
        if not files:
            raise host_store.HostError(
                f"{folder} on this host has no {packages.SUFFIX[manager.name]} files."
            )
        if manager.name == "apt-get":
            install_debs(manager, install, files)
        else:
            manager.must(packages.install_files_argv(manager.name, _new_rpms(module, files)))
        return
    refresh = packages.refresh_argv(manager.name, manager.lock_wait_s)
    if refresh:
        # One broken repository of many is the lab's affair as long as the packages can be had.
        code, text = manager.run(refresh)
        if code != 0:
            module.warn(f"{' '.join(refresh[:1])} update: {packages.telling_line(text)}")
    manager.must(install)


def _new_rpms(module: AnsibleModule, files: Sequence[Path]) -> list[str]:
    """Return the files whose package the host lacks."""
    shape = "%{NAME}\n"
    new = []
    for file in files:
        code, out, _err = module.run_command(["rpm", "-qp", "--queryformat", shape, str(file)])
        if code != 0:
            raise host_store.HostError(f"{file} is no RPM package.")
        code, _out, _err = module.run_command(["rpm", "-q", out.strip()])
        if code != 0:
            new.append(str(file))
    return new


def _installed(
    module: AnsibleModule, manager: str, wanted: Sequence[packages.Wanted]
) -> dict[str, str]:
    if not wanted:
        return {}
    argv = packages.query_argv(manager, [w.name for w in wanted])
    # its exit code only says that one of them is missing
    _code, out, _err = module.run_command(argv, environ_update={"LC_ALL": "C"})
    return packages.parse_query(out)


def _verify(module: AnsibleModule, manager: Manager, wanted: Sequence[packages.Wanted]) -> None:
    still = packages.missing(wanted, _installed(module, manager.name, wanted))
    if still:
        raise host_store.HostError(
            f"{manager.name} succeeded, but {' '.join(map(str, still))} is not installed."
            f" The whole output: {manager.log}"
        )


def _nobody_measures() -> None:
    holder = lock.holder()
    if holder is not None:
        raise host_store.HostError(
            f"{holder['user']} measures on this host; nothing was changed. Wait until it has ended."
        )


def _stream_enabled(stream: str) -> bool:
    record = Path("/etc/dnf/modules.d", f"{stream.partition(':')[0]}.module")
    try:
        return packages.stream_enabled(stream, record.read_text(encoding="utf-8"))
    except OSError:
        return False


if __name__ == "__main__":
    main()
