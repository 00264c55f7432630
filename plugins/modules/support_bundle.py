#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: support_bundle
short_description: Make one redacted archive for a bug report
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Takes the versions of the controller, the latest request's outcomes and preflight, the small
    files of its runs and the hosts' logs that were brought, redacts them all, and writes
    C(support/<UTC>.tar.gz) in the results folder, readable by its owner alone. Nothing is sent.
options:
  results:
    description: The folder on the controller that keeps the results.
    type: str
    required: true
attributes:
  check_mode:
    description: Lists what would be in it and writes nothing.
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
- name: Make the archive
  benchfleet.mlperf.support_bundle:
    results: ./results
  run_once: true
"""

RETURN = r"""
path:
  description: Path of the archive.
  returned: success
  type: str
redacted:
  description: How many things of each kind were taken out.
  returned: success
  type: dict
files:
  description: Names of the files in the archive.
  returned: success
  type: list
  elements: str
"""
