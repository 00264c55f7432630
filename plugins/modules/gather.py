#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: gather
short_description: Bring the finished runs of a host home
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Streams each run over the connection's own sftp without compression, resumes what an earlier
    call began, verifies every file against the run's manifest and only then publishes the run. The
    host keeps its copy.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  max_gb:
    description: The largest size of one run, in GB.
    type: float
    default: 50
  wait_limit:
    description: How long to wait for another measurement on the host to end, in seconds.
    type: int
    default: 86400
attributes:
  check_mode:
    description: Gathers nothing, because nothing was started.
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
- name: Gather
  benchfleet.mlperf.gather:
    session: "{{ benchfleet_plan.session }}"
"""

RETURN = r"""
fault:
  description: Why nothing could be gathered.
  returned: when nothing could
  type: str
"""
