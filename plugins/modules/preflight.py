#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check a host before hours are spent there
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Compares what the cells that must run on a host need with what the host has, such as disk,
    memory, accelerators, packages, free ports and the clock.
  - A check that fails refuses the cells that it concerns; the host's other cells go on. Reads only.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  python:
    description: The Python that environments are built with, or V(auto).
    type: str
    default: auto
  install_packages:
    description: Whether packages of the operating system may be installed with become.
    type: bool
    default: true
  min_free_mb:
    description: Free disk space that must be there before each run, in MB.
    type: int
    default: 500
  quota_gb:
    description: What everything of benchfleet's on the host may take, in GB; V(0) for no limit.
    type: float
    default: 0
  home:
    description: The folder on the host that holds everything. Set by the controller half.
    type: str
  artifacts:
    description: Digests that the cells need. Set by the controller half.
    type: list
    elements: str
    default: []
  envs:
    description: The locked environments that the cells use. Set by the controller half.
    type: list
    elements: dict
    default: []
  accelerators:
    description: Vendors whose accelerators the cells use. Set by the controller half.
    type: list
    elements: str
    choices: [nvidia, amdgpu]
    default: []
  ports:
    description: Ports that the cells' harnesses listen on. Set by the controller half.
    type: list
    elements: int
    default: []
  runtimes:
    description: Container runtimes that the cells need. Set by the controller half.
    type: list
    elements: str
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
- name: Check the host
  benchfleet.mlperf.preflight:
    session: "{{ benchfleet_plan.session }}"
"""

RETURN = r"""
facts:
  description: What was found on the host, in bytes where it is an amount.
  returned: success
  type: dict
fault:
  description:
    - Why the host could not be checked. The host is not failed, so that every host gets an
      outcome.
  returned: when it could not
  type: str
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import accelerators, preflight, python_env
from ..module_utils.host_store import HostError


def main() -> None:
    """Run the target half of the preflight."""
    module = AnsibleModule(
        argument_spec={
            "session": {"type": "str", "required": True},
            "python": {"type": "str", "default": "auto"},
            "install_packages": {"type": "bool", "default": True},
            "min_free_mb": {"type": "int", "default": 500},
            "quota_gb": {"type": "float", "default": 0},
            "home": {"type": "str"},
            "artifacts": {"type": "list", "elements": "str", "default": []},
            "envs": {"type": "list", "elements": "dict", "default": []},
            "accelerators": {
                "type": "list",
                "elements": "str",
                "choices": ["nvidia", "amdgpu"],
                "default": [],
            },
            "ports": {"type": "list", "elements": "int", "default": []},
            "runtimes": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {"changed": False}
    try:
        result["facts"] = _facts(module.params)
    except HostError as e:
        result["fault"] = str(e)
    except OSError as e:
        result["fault"] = f"{e.filename or 'the host'}: {e.strerror}."
    module.exit_json(**result)


def _facts(params: dict[str, Any]) -> dict[str, Any]:
    home, user = params["home"], preflight.user_name()
    specs = [python_env.Spec.planned(home, e, python=params["python"]) for e in params["envs"]]
    waiting = python_env.waiting(home, specs)
    packages = preflight.missing_packages(waiting)
    return {
        "user": user,
        "disk": preflight.disk(home),
        "used": preflight.used(home) if params["quota_gb"] else None,
        "artifacts": preflight.sizes(home, params["artifacts"]),
        "waiting_envs": [s.name for s in waiting],
        "missing_packages": packages,
        "root": preflight.may_become_root() if packages else None,
        "memory": preflight.memory(),
        "cpus": preflight.cpus(),
        "accelerators": {v: accelerators.read(v) for v in params["accelerators"]},
        "taken_ports": preflight.taken_ports(params["ports"]),
        "runtimes": preflight.runtimes(params["runtimes"]),
        "time_service": preflight.time_service(),
        "ends_at_logout": preflight.ends_at_logout(user),
        "measuring": preflight.measuring(),
    }


if __name__ == "__main__":
    main()
