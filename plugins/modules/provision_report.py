#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: provision_report
short_description: Show what provisioning made ready on all hosts
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Prints one table of the environments and artifacts that the cells of the session need, and why
    hosts are not ready.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
attributes:
  check_mode:
    description: Shows what the stages found; what is not there is missing.
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
- name: Show what is ready
  benchfleet.mlperf.provision_report:
    session: "{{ benchfleet_plan.session }}"
  run_once: true
"""

RETURN = r"""
parts:
  description:
    - The rows of the table, each with C(sut), C(what), C(name), C(size) in words, and C(state),
      which is V(ready) for what was there, V(built), V(brought) or V(made) for what this call did,
      and V(missing).
  returned: success
  type: list
  elements: dict
unready:
  description: Why hosts are not ready, a list of reasons for each.
  returned: success
  type: dict
places:
  description: Paths on the host, by host, cell and placeholder such as C(model).
  returned: success
  type: dict
"""
