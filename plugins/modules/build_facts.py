#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: build_facts
short_description: Read what wheels and packages a host would need to build environments
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Tells for each environment of the host's cells which Python it would be built with, and which
    packages of the operating system are missing. M(benchfleet.mlperf.mirror) fills a store by that.
  - Reads only.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  internet:
    description: Whether the host reaches the internet.
    type: bool
    default: true
  python:
    description: The Python to build environments with, or V(auto) for the newest supported one.
    type: str
    default: auto
  envs:
    description: The locked environments. Set by the controller half.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Reads only, so it does the same.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Read what environments would be built with
  benchfleet.mlperf.build_facts:
    session: "{{ benchfleet_plan.session }}"
"""

RETURN = r"""
targets:
  description: What wheels must fit, by environment.
  returned: success
  type: dict
faults:
  description: Why an environment cannot be built, by its name.
  returned: success
  type: dict
missing_packages:
  description: Packages of the operating system that building them needs.
  returned: success
  type: list
  elements: str
system:
  description: Identity and version of the operating system, and the machine type.
  returned: success
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import packages, python_env
from ..module_utils.host_store import HostError


def main() -> None:
    """Run the target half."""
    module = AnsibleModule(
        argument_spec={
            "session": {"type": "str", "required": True},
            "internet": {"type": "bool", "default": True},
            "python": {"type": "str", "default": "auto"},
            "envs": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **_facts(module.params))


def _facts(params: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"targets": {}, "faults": {}, "system": packages.system()}
    missing: dict[str, None] = {}
    for env in params["envs"]:
        spec = python_env.Spec(**dict(env, python=params["python"]))
        try:
            target = python_env.target(spec)
            missing.update(dict.fromkeys(python_env.missing_packages(spec)))
        except HostError as e:
            found["faults"][spec.name] = str(e)
            continue
        if target:
            found["targets"][spec.name] = target
        else:
            found["faults"][spec.name] = "the host has no Python yet"
    return {**found, "missing_packages": list(missing)}


if __name__ == "__main__":
    main()
