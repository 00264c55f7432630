#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cache
short_description: Show what the whole fleet keeps as one table
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Takes what M(benchfleet.mlperf.artifact_info) or M(benchfleet.mlperf.artifact) found on every
    host of the play, does the same with the controller's own store, and shows both as one table.
  - Each thing has one line, with the hosts that keep it.
options:
  cache:
    description: What is done with the store.
    type: str
    choices: [show, verify, remove]
    default: show
  store:
    description: The controller's store.
    type: path
    required: true
  tags:
    description: Only what has all of these tags.
    type: list
    elements: str
    default: []
  names:
    description: Only what has one of these names; patterns such as V(llama*) are fine.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Removes nothing and tells what that would free.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
  action:
    description: The whole work is done by an action plugin on the controller.
    support: full
notes:
  - This is the documentation of an action plugin; nothing of it runs on the target.
  - Reads the variables C(benchfleet_cache_listed) and C(benchfleet_cache_removed) of the hosts.
"""

EXAMPLES = r"""
- name: List what each host keeps
  benchfleet.mlperf.artifact_info:
    store: ~/.benchfleet
  register: benchfleet_cache_listed

- name: Show all
  benchfleet.mlperf.cache:
    store: ~/.cache/benchfleet
  run_once: true
"""

RETURN = r"""
bytes:
  description: What removing frees, has freed, or what is kept, on all hosts together.
  returned: success
  type: int
damaged:
  description: Hosts by the name of each damaged artifact.
  returned: with O(cache=verify)
  type: dict
"""
