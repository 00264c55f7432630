#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: json_settings
short_description: Merge settings into a JSON file that others write to as well
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Sets some values of a JSON file, such as dockerd's C(daemon.json), and leaves all others as they
    are. Objects are merged key by key; of a list, what is missing is appended.
  - A file that is no JSON object is not touched.
options:
  path:
    description: The file; made when it is missing.
    type: path
    required: true
  values:
    description: The settings that the file must have.
    type: dict
    required: true
attributes:
  check_mode:
    description: Computed from the file as it is.
    support: full
  diff_mode:
    description: Shows the file before and after.
    support: full
"""

EXAMPLES = r"""
- name: Let docker keep its images on the large disk
  benchfleet.mlperf.json_settings:
    path: /etc/docker/daemon.json
    values:
      data-root: /data/docker
  become: true
"""

RETURN = r"""
backup:
  description: Copy of the file as it was; empty when there was none or nothing changed.
  returned: always
  type: str
"""

import json
import os
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def merged(present: Any, wanted: Any) -> Any:
    """Return `present` with `wanted` in it: objects key by key, lists by what is missing."""
    if isinstance(present, dict) and isinstance(wanted, dict):
        common = {key: merged(present.get(key), value) for key, value in wanted.items()}
        return {**present, **common}
    if isinstance(present, list) and isinstance(wanted, list):
        return present + [value for value in wanted if value not in present]
    return wanted


def main() -> None:
    """Merge the settings."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "values": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    path = Path(module.params["path"])
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        present = json.loads(text) if text.strip() else {}
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{path} is not read: {error}. Mend it first; nothing was changed.")
    if not isinstance(present, dict):
        module.fail_json(msg=f"{path} holds no JSON object. Mend it first; nothing was changed.")
    after = merged(present, module.params["values"])
    changed = after != present
    new = json.dumps(after, indent=2) + "\n" if changed else text
    backup = ""
    if changed and not module.check_mode:
        try:
            backup = _write(module, path, new, keep=bool(text))
        except OSError as error:
            module.fail_json(msg=f"{path} is not written: {error.strerror}.")
    module.exit_json(changed=changed, backup=backup, diff={"before": text, "after": new})


def _write(module: AnsibleModule, path: Path, text: str, *, keep: bool) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    backup = str(module.backup_local(str(path))) if keep else ""
    part = Path(f"{path}.partial")
    part.write_text(text, encoding="utf-8")
    part.chmod(path.stat().st_mode & 0o777 if keep else 0o644)
    os.replace(part, path)
    return backup


if __name__ == "__main__":
    main()
