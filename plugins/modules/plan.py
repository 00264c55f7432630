#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: plan
short_description: Plan the cells of a request
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Turns the request (short extra-vars such as C(benchmark) and C(scenario)), the inventory and the
    catalog into cells for every SUT in the play, before anything touches a host.
  - Fails with the valid names and the nearest spelling when something does not exist.
options:
  results:
    description: The folder on the controller that keeps the runs.
    type: str
    required: true
  catalog_path:
    description:
      - A folder of the lab's own catalog files, which take the place of ours of the same name.
    type: str
    default: ""
  settings:
    description: The names of all settings of the lab; an extra-var that is none of them is refused.
    type: list
    elements: str
    default: []
  other_vars:
    description: Extra-vars of the lab's own that are not ours to check.
    type: list
    elements: str
    default: []
  more_options:
    description: Extra-vars that the playbook itself takes beside the request.
    type: list
    elements: str
    default: []
  calibrate:
    description: Plan the calibration of each performance cell in place of its run.
    type: bool
    default: false
  store:
    description: The artifact store on the controller; a lab's own source tree is taken into it.
    type: str
    default: ~/.cache/benchfleet
  inference_repo:
    description: Clone of mlcommons/inference, an address or a path on the controller.
    type: str
    default: https://github.com/mlcommons/inference
  proxy:
    description: Proxies, V(http), V(https) and V(no).
    type: dict
    default: {}
  ca_bundle:
    description: File on the controller with the lab's own certificate authorities.
    type: str
    default: ""
  pip_index_url:
    description: The lab's package index in place of PyPI.
    type: str
    default: ""
  pip_extra_index_urls:
    description: Package indexes beside it.
    type: list
    elements: str
    default: []
  environment:
    description: Environment variables for downloads.
    type: dict
    default: {}
attributes:
  check_mode:
    description: Connects to nothing and writes only to the temporary folder of this call.
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
- name: Plan
  benchfleet.mlperf.plan:
    results: ./results
  run_once: true
  register: benchfleet_plan
"""

RETURN = r"""
session:
  description: The folder in which the stages of this call keep what they found.
  returned: success
  type: str
cells:
  description: How many cells were planned.
  returned: success
  type: int
hosts:
  description: The hosts that have cells.
  returned: success
  type: list
  elements: str
preflight_only:
  description: Whether the request ends after the hosts were checked.
  returned: success
  type: bool
"""
