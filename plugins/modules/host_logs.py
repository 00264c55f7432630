#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: host_logs
short_description: Bring the ends of a host's logs to the controller
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Reads the newest logs below the home folder, up to 1 MiB of each, the state file and the
    names of host and user, and keeps them in C(logs/<host>/) of the results folder.
options:
  results:
    description: The folder on the controller that keeps the results.
    type: str
    required: true
  home:
    description: The folder on the host that holds everything of benchfleet's.
    type: str
    default: ~/.benchfleet
attributes:
  check_mode:
    description: Brings nothing.
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
- name: Bring the logs
  benchfleet.mlperf.host_logs:
    results: ./results
"""

RETURN = r"""
files:
  description: Paths on the controller.
  returned: success
  type: list
  elements: str
"""
