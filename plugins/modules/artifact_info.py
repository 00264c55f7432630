#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact_info
short_description: List what a host's store holds
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Lists the artifacts of a store, and the environments, wheels and source folders beside them,
    with their sizes and the running jobs that use them.
options:
  store:
    description: The folder that holds the store, such as the host's home of benchfleet.
    type: path
    required: true
    aliases: [home]
  tags:
    description: Only what has all of these tags.
    type: list
    elements: str
    default: []
  type:
    description:
      - Only what is of this type, such as V(model), V(dataset), V(source), V(wheels), V(env), or
        V(unfinished) for what interrupted downloads left.
    type: str
  names:
    description: Only what has one of these names; patterns such as V(llama*) are fine.
    type: list
    elements: str
    default: []
  verify:
    description: Read each artifact again and compare it with its digest.
    type: bool
    default: false
attributes:
  check_mode:
    description: Only reads, whatever the mode.
    support: full
  diff_mode:
    description: Changes nothing.
    support: none
"""

EXAMPLES = r"""
- name: List the models that are there
  benchfleet.mlperf.artifact_info:
    store: ~/.benchfleet
    type: model
  register: models

- name: Read all artifacts of a benchmark again
  benchfleet.mlperf.artifact_info:
    store: ~/.benchfleet
    tags: [resnet50]
    verify: true
"""

RETURN = r"""
entries:
  description: What is there, by type and name.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its name.
      type: str
      returned: always
    type:
      description: What it is.
      type: str
      returned: always
    path:
      description: Where it lies.
      type: str
      returned: always
    bytes:
      description: What its files take; none for a copy that the lab keeps in its own place.
      type: int
      returned: always
    tags:
      description: Words to find it by.
      type: list
      elements: str
      returned: always
    digest:
      description: The sha256 that names an artifact.
      type: str
      returned: always
    used_by:
      description: The running jobs and downloads that use it.
      type: list
      elements: str
      returned: always
    about:
      description: The rest of an artifact's record, such as C(origin) and C(checked_by).
      type: dict
      returned: always
    problems:
      description: What is wrong with it, a sentence each.
      type: list
      elements: str
      returned: with O(verify=true)
bytes:
  description: What removing all of these entries would free.
  returned: success
  type: int
free:
  description: Bytes that are free on the file system of the store.
  returned: success
  type: int
damaged:
  description: Names of what is damaged.
  returned: success
  type: list
  elements: str
"""

import os
import shutil
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.artifacts import entries
from ..module_utils.artifacts.store import Store
from ..module_utils.host_store import HostError


def main() -> None:
    """List the entries of a store."""
    module = AnsibleModule(
        argument_spec={
            "store": {"type": "path", "required": True, "aliases": ["home"]},
            "tags": {"type": "list", "elements": "str", "default": []},
            "type": {"type": "str"},
            "names": {"type": "list", "elements": "str", "default": []},
            "verify": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, **_listed(module.params))
    except HostError as e:
        module.fail_json(msg=str(e))
    except OSError as e:
        module.fail_json(msg=f"{e.filename or 'the host'}: {e.strerror}.")


def _listed(params: dict[str, Any]) -> dict[str, Any]:
    store = Store(params["store"])
    found = entries.chosen(entries.entries(store), params["tags"], params["names"], params["type"])
    listed = [e.as_dict() for e in found]
    if params["verify"]:
        for shown, entry in zip(listed, found):
            shown["problems"] = entries.problems(store, entry)
    there = store.root
    while not os.path.exists(there):
        there = there.parent
    return {
        "entries": listed,
        "bytes": entries.freed_by(store, found),
        "free": shutil.disk_usage(there).free,
        "damaged": [e["name"] for e in listed if e.get("problems")],
    }


if __name__ == "__main__":
    main()
