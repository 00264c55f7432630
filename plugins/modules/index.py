#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: index
short_description: Make the index of the results anew
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Assesses every stored run again by the catalog as it is now and writes C(index.sqlite) anew. The
    run directories are only read.
options:
  results:
    description: The folder on the controller that keeps the runs.
    type: str
    required: true
  catalog_path:
    description: A folder of the lab's own catalog files.
    type: str
    default: ""
attributes:
  check_mode:
    description: Counts the runs and writes nothing.
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
- name: Make the index anew
  benchfleet.mlperf.index:
    results: ./results
"""

RETURN = r"""
runs:
  description: How many runs the index holds.
  returned: success
  type: int
"""
