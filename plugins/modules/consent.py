#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: consent
short_description: Record a consent to a licence
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Records once in C(consents.json) of the results folder who agreed to the terms that an artifact
    of the catalog asks for, and shows which consents are asked for and which were given.
  - A consent that was given is never overwritten.
options:
  results:
    description: The folder on the controller that keeps the consents.
    type: str
    required: true
  catalog_path:
    description: A folder of the lab's own catalog files.
    type: str
    default: ""
  settings:
    description: Names of the lab's settings that exist.
    type: list
    elements: str
    default: []
  other_vars:
    description: Names of extra-vars of the lab's own, which would be refused as misspelt otherwise.
    type: list
    elements: str
    default: []
  consent:
    description: Name of the consent that is given; empty to show the list only.
    type: str
    default: ""
  by:
    description: Who agrees, a person and for whom; required with O(consent).
    type: str
    default: ""
attributes:
  check_mode:
    description: Records nothing.
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
- name: Agree to a licence
  benchfleet.mlperf.consent:
    results: ./results
    consent: llama2
    by: Jane Doe, Acme
  run_once: true
"""

RETURN = r"""
consents:
  description: The consents that were given, each with C(by), C(at), C(where) and C(terms).
  returned: success
  type: dict
"""
