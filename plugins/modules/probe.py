#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: probe
short_description: Read the state of a host and decide what is to do there
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Reads everything that could change a result, our own state file and the user's files with one
    shell command; no module and no Python is started on the host.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  home:
    description: The folder on the host that holds everything of benchfleet's.
    type: path
    default: ~/.benchfleet
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
- name: Probe
  benchfleet.mlperf.probe:
    session: "{{ benchfleet_plan.session }}"
  register: benchfleet_probe
"""

RETURN = r"""
todo:
  description: Whether a cell of the host must be run, attached to or collected.
  returned: when the host answered
  type: bool
settled:
  description: Whether each cell of the host has a valid result stored, or nothing to do here.
  returned: when the host answered
  type: bool
fault:
  description:
    - Why the host could not be probed. The host is not failed, so that every host gets an
      outcome.
  returned: when it could not
  type: str
"""
