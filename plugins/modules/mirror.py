#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror
short_description: Fill the controller's store for hosts and controllers without internet
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Brings every artifact that the cells of a plan need into the controller's store, and the wheels
    of their environments for the hosts of the play, then shows all as one table.
  - What must not be downloaded, or is the lab's own, is listed with where to get it.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  store:
    description: The controller's artifact store.
    type: path
    required: true
  targets:
    description:
      - Hosts that are not in reach, as Python and machine such as V(cp311-x86_64), with the version
        of glibc where it is not 2.28 or later, V(cp312-aarch64-2.17).
    type: list
    elements: str
    default: []
  packages:
    description: What M(benchfleet.mlperf.package_archive) returned.
    type: dict
    default: {}
  proxy:
    description: Proxies, V(http), V(https) and V(no).
    type: dict
    default: {}
  ca_bundle:
    description: File with the lab's own certificate authorities.
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
  hf_endpoint:
    description: Where Hugging Face repositories are downloaded from.
    type: str
    default: https://huggingface.co
  mirror:
    description: Web server with the folder C(artifacts) of a store; asked before the origins.
    type: str
    default: ""
attributes:
  check_mode:
    description: Downloads nothing and tells what would be.
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
- name: Fill the store
  benchfleet.mlperf.mirror:
    session: "{{ benchfleet_plan.session }}"
    store: ~/.cache/benchfleet
    targets: [cp311-x86_64]
  run_once: true
"""

RETURN = r"""
things:
  description: The rows of the table.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: What it is.
      type: str
    type:
      description: Its type, such as V(model) or V(wheels).
      type: str
    state:
      description: V(had it), V(fetched), V(to fetch) in check mode, V(refused) or V(failed).
      type: str
    bytes:
      description: Its size, where that is known.
      type: int
    source:
      description: Where it came from, or would come from.
      type: str
    why:
      description: Why it is refused, or has failed.
      type: str
"""
