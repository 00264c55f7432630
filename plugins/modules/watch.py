#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: watch
short_description: Watch the jobs of a host until they end
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Looks in with one small read at a slow, growing interval, shows what changed, and survives cut
    connections.
  - A job whose process is gone is recorded as lost.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  patience:
    description:
      - How long a host may stay silent, in seconds, before the watch is given up. Its job goes
        on.
    type: int
    default: 3600
attributes:
  check_mode:
    description: Watches nothing, because nothing was started.
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
- name: Watch
  benchfleet.mlperf.watch:
    session: "{{ benchfleet_plan.session }}"
"""

RETURN = r"""
fault:
  description: Why the watch was given up.
  returned: when it was
  type: str
"""
