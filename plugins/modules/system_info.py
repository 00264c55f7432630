#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: system_info
short_description: Read what getting a machine ready depends on
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Returns the operating system, the accelerators and their drivers, who keeps the clock, and who
    measures on the host, in one read. It needs no root and changes nothing.
  - It is what the roles for the operating system decide by.
options: {}
attributes:
  check_mode:
    description: It only reads.
    support: full
  diff_mode:
    description: It changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: Read what the host is
  benchfleet.mlperf.system_info:
  register: system
"""

RETURN = r"""
family:
  description: V(Debian), V(RedHat) or V(Suse); empty for another operating system.
  returned: always
  type: str
id:
  description: What the operating system calls itself, such as V(ubuntu).
  returned: always
  type: str
version:
  description: Its version, such as V(24.04).
  returned: always
  type: str
codename:
  description: Its code name, such as V(noble); empty where it has none.
  returned: always
  type: str
machine:
  description: The machine type, such as V(x86_64).
  returned: always
  type: str
kernel:
  description: The release of the running kernel.
  returned: always
  type: str
headers:
  description: Whether the headers of the running kernel are there.
  returned: always
  type: bool
systemd:
  description: Whether systemd runs the host.
  returned: always
  type: bool
root:
  description: Whether the module ran as root, as the tasks beside it do.
  returned: always
  type: bool
login_home:
  description: Home of the user who logged in, also where sudo has made it root since.
  returned: always
  type: str
login_user:
  description: Name of that user.
  returned: always
  type: str
clock_synchronised:
  description: Whether the kernel says that something keeps its clock right.
  returned: always
  type: bool
clock_daemon:
  description: Name of a process that keeps the clock; empty when none runs.
  returned: always
  type: str
may_raise_limits:
  description: >-
    Whether the module may raise limits of processes. Root of a container often may not, and a login
    that asks for more then fails.
  returned: always
  type: bool
most_open_files:
  description: The most that the kernel takes as a limit of open files.
  returned: always
  type: int
nouveau:
  description: Whether the kernel module nouveau is loaded.
  returned: always
  type: bool
nvidia:
  description: NVIDIA's devices and driver.
  returned: always
  type: dict
  contains:
    devices:
      description: How many accelerators there are.
      type: int
    switch:
      description: Whether there is an NVSwitch on the PCI bus.
      type: bool
    loaded:
      description: Version of the loaded driver; empty when none is loaded.
      type: str
    installed:
      description: Version of the driver that the running kernel would load; empty when none.
      type: str
amd:
  description: AMD's devices and driver.
  returned: always
  type: dict
  contains:
    devices:
      description: How many accelerators there are.
      type: int
    switch:
      description: Always false in practice; here for both vendors to look alike.
      type: bool
    loaded:
      description: >-
        Version of the loaded driver of AMD's own packages; empty for the kernel's own driver, and
        when none is loaded.
      type: str
measuring:
  description: Who holds the host's measurement lock, in words; empty when nobody measures.
  returned: always
  type: str
"""

import os
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import host_facts
from ..module_utils.job import lock


def main() -> None:
    """Read the facts."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    found = host_facts.read()
    found["nvidia"]["installed"] = _module_version(module, "nvidia")
    home = host_facts.login_home()
    found.update(
        root=os.geteuid() == 0,
        login_home=home,
        login_user=os.environ.get("SUDO_USER") or pwd.getpwuid(os.geteuid()).pw_name,
        clock_synchronised=host_facts.clock_synchronised(),
        measuring=_measuring(),
    )
    module.exit_json(changed=False, **found)


def _module_version(module: AnsibleModule, name: str) -> str:
    modinfo = module.get_bin_path("modinfo")
    if not modinfo:
        return ""
    code, out, _err = module.run_command([modinfo, "-F", "version", name])
    return str(out).strip() if code == 0 else ""


def _measuring() -> str:
    holder: dict[str, Any] | None = lock.holder()
    if holder is None:
        return ""
    what = f" ({holder['what']})" if holder.get("what") else ""
    return f"{holder['user']}, process {holder['pid']}{what}"


if __name__ == "__main__":
    main()
