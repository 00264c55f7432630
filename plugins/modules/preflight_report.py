#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Show what the preflight found on all hosts
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Prints one table of the checks that are not well, of all checks with C(-v), and writes all of
    them with the facts to C(preflight/<request>.json) in the results folder.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
attributes:
  check_mode:
    description: The report is news of the call itself; it is shown and written all the same.
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
- name: Show the preflight
  benchfleet.mlperf.preflight_report:
    session: "{{ benchfleet_plan.session }}"
  run_once: true
"""

RETURN = r"""
report:
  description: Path of the report on the controller.
  returned: success
  type: str
checks:
  description: How many checks are C(ok), C(warn) and C(fail).
  returned: success
  type: dict
"""
