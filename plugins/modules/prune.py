#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: prune
short_description: Remove old runs
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Removes old runs from a host, and only those that the controller holds verified, or with
    O(where=controller) from the results folder.
  - A cell's newest valid run stays, as does one that an outcome file or a submission refers to, one
    that a job works on, and one that cannot be judged.
options:
  results:
    description: The folder on the controller that keeps the runs. Required by the controller half.
    type: str
  catalog_path:
    description: A folder of the lab's own catalog files.
    type: str
    default: ""
  home:
    description: The folder on the host that holds everything of benchfleet's.
    type: str
    default: ~/.benchfleet
  settings:
    description: Names of the lab's settings that exist.
    type: list
    elements: str
    default: []
  other_vars:
    description: Names of extra-vars of the lab's own, which would be refused as misspelt otherwise.
    type: list
    elements: str
    default: []
  keep:
    description:
      - How many of the newest runs of each cell stay, beside its newest valid one. Empty for no
        such rule; O(keep) or O(older_than) is required.
    type: str
    default: ""
  older_than:
    description: Age below which runs stay, such as V(12h), V(30d) or V(8w). Empty for no such rule.
    type: str
    default: ""
  where:
    description: Whose runs are removed.
    type: str
    choices: [suts, controller]
    default: suts
  host_dir:
    description: This host's own folder. Set by the controller half.
    type: str
  runs:
    description: Digest of the manifest of each run that may go. Set by the controller half.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Shows what would go and how much it frees.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Keep the newest three runs of each cell on the host
  benchfleet.mlperf.prune:
    results: ./results
    keep: "3"
"""

RETURN = r"""
removed:
  description: Bytes of each run that was removed.
  returned: success
  type: dict
kept:
  description: Why each run that might have gone stayed.
  returned: success
  type: dict
bytes:
  description: Bytes that were freed.
  returned: success
  type: int
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import retention


def main() -> None:
    """Run the target half of prune."""
    module = AnsibleModule(
        argument_spec={
            "results": {"type": "str"},
            "catalog_path": {"type": "str", "default": ""},
            "home": {"type": "str", "default": "~/.benchfleet"},
            "settings": {"type": "list", "elements": "str", "default": []},
            "other_vars": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "str", "default": ""},
            "older_than": {"type": "str", "default": ""},
            "where": {"type": "str", "default": "suts", "choices": ["suts", "controller"]},
            "host_dir": {"type": "str"},
            "runs": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    folder, runs = Path(module.params["host_dir"] or ""), module.params["runs"]
    try:
        result = retention.remove(folder, runs, module.check_mode)
    except OSError as e:
        module.fail_json(msg=f"{e.filename or folder}: {e.strerror}.")
    module.exit_json(
        changed=bool(result["removed"]), bytes=sum(result["removed"].values()), **result
    )


if __name__ == "__main__":
    main()
