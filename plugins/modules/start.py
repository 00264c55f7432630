#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: start
short_description: Start a host's cells as one detached job
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Hands the host its whole list of cells and starts the supervisor that works through them,
    detached from the connection and from this module.
  - Cells that a living job of the host works on already are left to it, so that the same call
    attaches to a job instead of starting a second one. Jobs that died are tidied up first; their
    unfinished runs are kept as lost.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  wait_limit:
    description: How long the job may wait for another measurement on the host, in seconds.
    type: int
    default: 86400
  min_free_mb:
    description: Free disk space that must be there before each run, in MB.
    type: int
    default: 500
  accuracy_log_max_mb:
    description:
      - Accuracy logs over this size, in MB, stay on the host; their two ends go home.
    type: int
    default: 100
  job:
    description: The job. Set by the controller half.
    type: dict
  source:
    description: The supervisor's folder on the host. Set by the controller half.
    type: str
  debug:
    description: Prepare the first cell, start nothing. Set by the controller half from the request.
    type: bool
    default: false
  recover:
    description: Tidy up after dead jobs only. Set by M(benchfleet.mlperf.watch).
    type: bool
    default: false
attributes:
  check_mode:
    description: Starts nothing.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Start the job
  benchfleet.mlperf.start:
    session: "{{ benchfleet_plan.session }}"
"""

RETURN = r"""
job_id:
  description: The job that was started.
  returned: when one was started
  type: str
attached:
  description: Jobs under way that do some of the cells.
  returned: always
  type: list
  elements: str
busy:
  description: Who measures on the host at the moment.
  returned: when somebody does
  type: dict
recovered:
  description: Jobs that had died, each with C(job_id), C(reason) and C(runs).
  returned: always
  type: list
  elements: dict
debug_dir:
  description: The prepared run directory.
  returned: with O(debug)
  type: str
command:
  description: The command that was prepared; C(launch.sh) in O(debug)'s directory runs it.
  returned: with O(debug)
  type: str
fault:
  description: Why nothing was started, in one sentence.
  returned: when nothing could be started
  type: str
"""

import os
import sys
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.job import by_hand, process, state


def main() -> None:
    """Run the target half of the start."""
    module = AnsibleModule(
        argument_spec={
            "session": {"type": "str", "required": True},
            "wait_limit": {"type": "int", "default": 86400},
            "min_free_mb": {"type": "int", "default": 500},
            "accuracy_log_max_mb": {"type": "int", "default": 100},
            "job": {"type": "dict"},
            "source": {"type": "str"},
            "debug": {"type": "bool", "default": False},
            "recover": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {"changed": False, "attached": [], "recovered": []}
    if not module.check_mode:
        try:
            result.update(_start(module.params))
        except (TimeoutError, ValueError) as e:
            result["fault"] = str(e)
        except OSError as e:
            result["fault"] = f"{e.filename or 'the host'}: {e.strerror}."
    module.exit_json(**result)


def _start(params: dict[str, Any]) -> dict[str, Any]:
    job = params["job"]
    host_dir = Path(job["host_dir"])
    if params["debug"]:
        folder = by_hand.prepare(host_dir, job["cells"][0])
        command = by_hand.command_in(folder, job["cells"][0])
        return {"debug_dir": str(folder), "command": command}
    recovered = state.recover(host_dir, process.boot_id())
    result: dict[str, Any] = {"changed": bool(recovered), "recovered": recovered}
    if not params["recover"]:
        answer = state.submit(host_dir, job, _python(), params["source"])
        if not answer["started"]:
            del answer["job_id"]
        result.update(answer, changed=bool(recovered) or answer["started"])
    return result


def _python() -> str:
    """Return the interpreter of the supervisor: this module's own, by its real path."""
    return os.path.realpath(sys.executable)


if __name__ == "__main__":
    main()
