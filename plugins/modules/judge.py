#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: judge
short_description: Fail a host that has a cell without a valid result
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Turns the outcomes of a host into the play's exit code. Skipped cells do not fail a host.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
attributes:
  check_mode:
    description: Reads only, so it does the same.
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
- name: Judge
  benchfleet.mlperf.judge:
    session: "{{ benchfleet_plan.session }}"
"""

RETURN = r"""
msg:
  description: The first cells that are not valid.
  returned: always
  type: str
"""
