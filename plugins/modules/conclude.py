#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: conclude
short_description: Assess what arrived and show the outcome of every cell
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Judges each run by its own files, writes an outcome for every planned cell and the index, and
    shows one table.
  - Hands the outcomes on as JSON in its result and, for workflows, as C(set_stats) data named
    C(benchfleet).
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  plan_only:
    description: Show the plan instead, with what each cell still needs and how long that will take.
    type: bool
    default: false
attributes:
  check_mode:
    description: Shows the plan and writes nothing.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
  action:
    description: The whole work is done by an action plugin on the controller.
    support: full
notes:
  - This is the documentation of an action plugin; nothing of it runs on the target.
"""

EXAMPLES = r"""
- name: Conclude
  benchfleet.mlperf.conclude:
    session: "{{ benchfleet_plan.session }}"
  run_once: true
"""

RETURN = r"""
cells:
  description: A short outcome of each cell.
  returned: success
  type: list
  elements: dict
results:
  description: The folder that keeps the runs.
  returned: when something was assessed
  type: str
"""
