#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: provision
short_description: Make a host ready to run benchmark cells
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Puts the harness, the job supervisor, models and datasets on a host and builds the locked Python
    environment of each implementation that the host's cells need.
  - The controller half reads the plan, pushes the artifacts that the host lacks over sftp, and runs
    the target half once for everything. It needs no root.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  home:
    description:
      - The folder on the host that holds everything of benchfleet's. Set by the controller half.
    type: str
  python:
    description: The Python to build environments with, or V(auto) for the newest supported one.
    type: str
    default: auto
  environment:
    description: Environment variables for downloads and builds, such as proxies.
    type: dict
    default: {}
  host_dir:
    description: This host's own folder below O(home). Set by the controller half.
    type: str
  folders:
    description: Source folders to publish. Set by the controller half.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the folder, named by its content.
        type: str
        required: true
      files:
        description: The files, each with C(path) and base64 C(content).
        type: list
        elements: dict
        required: true
  artifacts:
    description: Digests that the cells need. Set by the controller half.
    type: list
    elements: str
    default: []
  parts:
    description:
      - Transferred files to verify and publish, path by sha256. Set by the controller half.
    type: dict
    default: {}
  paths:
    description:
      - Files of the user's on the host that are used in their place. Set by the controller half.
    type: list
    elements: str
    default: []
  envs:
    description: The locked environments to build. Set by the controller half.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    description: Reports what would be installed and writes nothing.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Make the host ready
  benchfleet.mlperf.provision:
    session: "{{ benchfleet_plan.session }}"
"""

RETURN = r"""
missing_artifacts:
  description: Digests that the host does not hold yet.
  returned: always
  type: list
  elements: str
missing_packages:
  description: Packages of the operating system that must be installed first.
  returned: always
  type: list
  elements: str
paths:
  description: Size, time and sha256 of each of the user's files.
  returned: always
  type: dict
built:
  description: Names of the environments that were built.
  returned: always
  type: list
  elements: str
fault:
  description:
    - What could not be done, in one sentence. The host is not failed, so that every host gets an
      outcome.
  returned: when something could not be done
  type: str
log:
  description: The file on the host that holds the whole output of what failed.
  returned: when something that keeps a log could not be done
  type: str
"""

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import host_store, python_env


def main() -> None:
    """Run the target half of provisioning."""
    module = AnsibleModule(
        argument_spec={
            "session": {"type": "str", "required": True},
            "home": {"type": "str"},
            "host_dir": {"type": "str"},
            "python": {"type": "str", "default": "auto"},
            "environment": {"type": "dict", "default": {}},
            "folders": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "files": {"type": "list", "elements": "dict", "required": True},
                },
            },
            "artifacts": {"type": "list", "elements": "str", "default": []},
            "parts": {"type": "dict", "default": {}},
            "paths": {"type": "list", "elements": "str", "default": []},
            "envs": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {
        "changed": False,
        "missing_artifacts": [],
        "missing_packages": [],
        "paths": {},
        "built": [],
    }
    try:
        _provision(module.params, module.check_mode, result)
    except host_store.HostError as e:
        result["fault"] = str(e)
        if e.log:
            result["log"] = e.log
    except OSError as e:
        result["fault"] = f"{e.filename or 'the host'}: {e.strerror}."
    module.exit_json(**result)


def _provision(params: dict[str, Any], check: bool, result: dict[str, Any]) -> None:
    home = params["home"]
    if not check:
        os.makedirs(params["host_dir"], mode=0o755, exist_ok=True)
    for sha256, part in params["parts"].items():
        host_store.publish_artifact(home, sha256, part)
        result["changed"] = True
    for folder in params["folders"]:
        result["changed"] |= host_store.write_files(folder["path"], folder["files"], check)
    result["missing_artifacts"] = host_store.missing_artifacts(home, params["artifacts"])
    result["paths"] = _paths(params["host_dir"], params["paths"], check)
    specs = [
        python_env.Spec(**dict(e, python=params["python"], environment=params["environment"]))
        for e in params["envs"]
    ]
    waiting = [s for s in specs if not python_env.ready(home, s.name)]
    for spec in waiting:
        result["missing_packages"] += python_env.missing_packages(spec)
    if check:
        result["changed"] |= bool(waiting or result["missing_artifacts"])
    elif not result["missing_packages"]:
        result["built"] = [s.name for s in waiting if python_env.build(home, s)]
        result["changed"] |= bool(result["built"])


def _paths(host_dir: str, paths: list[str], check: bool) -> dict[str, Any]:
    """Return the digests of the user's files, remembered so that a large file is hashed once."""
    memory = os.path.join(host_dir, "paths.json")
    try:
        with open(memory, encoding="utf-8") as f:
            known = json.load(f)
    except (OSError, ValueError):
        known = {}
    found = {p: host_store.path_digest(p, known.get(p, {})) for p in paths}
    if found and not check and any(known.get(p) != r for p, r in found.items()):
        with open(memory + ".partial", "w", encoding="utf-8") as f:
            json.dump(dict(known, **found), f)
        os.replace(memory + ".partial", memory)
    return found


if __name__ == "__main__":
    main()
