#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: python_env
short_description: Build a locked Python environment
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Builds a virtual environment from hash-locked requirements below O(home), with uv where the host
    has it and pip otherwise. It needs no root and never touches the Python of the operating system.
  - The folder is named by what it holds. M(benchfleet.mlperf.provision) makes the same one for the
    same locks, so that a run finds it ready.
  - An environment that was interrupted while it was built is built anew.
options:
  locks:
    description:
      - Locked files of this collection, V(<role>/<file>) for
        C(roles/<role>/files/requirements/<file>).
    type: list
    elements: str
    default: []
  requirements:
    description: Locked texts of your own, with hashes, by file name.
    type: dict
    default: {}
  round:
    description: The MLPerf round whose LoadGen is installed too, such as V(v6.1).
    type: str
    default: ""
  loadgen_version:
    description: The version of LoadGen to install, instead of that of O(round).
    type: str
    default: ""
  loadgen_source:
    description:
      - A folder on the host with LoadGen's sources, which are built in place of the locked LoadGen.
    type: str
    default: ""
  wheels_folder:
    description: A folder on the host with wheels, which replaces every package index.
    type: str
    default: ""
  home:
    description: The folder on the host that holds everything of benchfleet's.
    type: path
    default: ~/.benchfleet
  python:
    description: The Python to build with, or V(auto) for the newest supported one.
    type: str
    default: auto
  environment:
    description:
      - Environment variables for downloads and builds, such as proxies, C(PIP_INDEX_URL) or
        C(SSL_CERT_FILE). Passwords in addresses stay out of logs and of the process list.
    type: dict
    default: {}
  secrets:
    description: Variables like those of O(environment), never shown. Set by the controller half.
    type: dict
    default: {}
  proxy:
    description: Proxies, V(http), V(https) and V(no). Read by the controller half.
    type: dict
  ca_bundle:
    description: File on the controller with the lab's own certificate authorities.
    type: str
  pip_index_url:
    description: The lab's package index in place of PyPI. Read by the controller half.
    type: str
  pip_extra_index_urls:
    description: Package indexes beside it. Read by the controller half.
    type: list
    elements: str
  ca:
    description: Certificates as a folder to publish. Set by the controller half.
    type: dict
  catalog_path:
    description: A folder of the lab's own catalog files, for O(round).
    type: str
    default: ""
  name:
    description: The environment's name. Set by the controller half.
    type: str
  loadgen:
    description: Which of the locked files holds LoadGen. Set by the controller half.
    type: str
    default: ""
  wheels:
    description: Machine types that have wheels of everything. Set by the controller half.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    description: Reports what would be built and writes nothing.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
"""

EXAMPLES = r"""
- name: LoadGen of a round beside PyTorch
  benchfleet.mlperf.python_env:
    round: v6.1
    locks: [framework/pytorch-cpu.txt]
  register: env

- name: A lock of your own
  benchfleet.mlperf.python_env:
    requirements:
      tools.txt: "{{ lookup('ansible.builtin.file', 'tools.txt') }}"
    environment:
      PIP_INDEX_URL: https://pypi.example.org/simple
"""

RETURN = r"""
name:
  description: The environment's name.
  returned: success
  type: str
path:
  description: The environment's folder.
  returned: success
  type: str
python:
  description: The environment's Python.
  returned: success
  type: str
built:
  description: Whether it was built now.
  returned: success
  type: bool
loadgen:
  description: The version of LoadGen that it holds; empty where it holds none, or is not built yet.
  returned: success
  type: str
log:
  description: The log of its last build.
  returned: success
  type: str
missing_packages:
  description:
    - Packages of the operating system that must be installed first. The task fails when there are
      any, except in check mode.
  returned: always
  type: list
  elements: str
"""

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import host_store, python_env


def main() -> None:
    """Run the target half."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str"},
            "locks": {"type": "list", "elements": "str", "default": []},
            "requirements": {"type": "dict", "default": {}},
            "round": {"type": "str", "default": ""},
            "loadgen": {"type": "str", "default": ""},
            "loadgen_version": {"type": "str", "default": ""},
            "loadgen_source": {"type": "str", "default": ""},
            "wheels": {"type": "list", "elements": "str", "default": []},
            "wheels_folder": {"type": "str", "default": ""},
            "home": {"type": "path", "default": "~/.benchfleet"},
            "python": {"type": "str", "default": "auto"},
            "environment": {"type": "dict", "default": {}},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "proxy": {"type": "dict"},
            "ca_bundle": {"type": "str"},
            "pip_index_url": {"type": "str"},
            "pip_extra_index_urls": {"type": "list", "elements": "str"},
            "ca": {"type": "dict"},
            "catalog_path": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    result: dict[str, Any] = {"changed": False, "missing_packages": []}
    try:
        _make(module.params, module.check_mode, result)
    except host_store.HostError as e:
        module.fail_json(msg=str(e), **result)
    except OSError as e:
        module.fail_json(msg=f"{e.filename or 'the host'}: {e.strerror}.", **result)
    if result["missing_packages"] and not module.check_mode:
        names = " ".join(result["missing_packages"])
        module.fail_json(msg=f"this host lacks packages, which root can install: {names}", **result)
    module.exit_json(**result)


def _make(params: dict[str, Any], check: bool, result: dict[str, Any]) -> None:
    home = params["home"]
    given = {**params["environment"], **params["secrets"]}
    spec = python_env.Spec(
        name=params["name"],
        requirements=params["requirements"],
        loadgen=params["loadgen"],
        wheels=params["wheels"],
        python=params["python"],
        environment={k: str(v).replace("@home@", home) for k, v in given.items()},
        wheels_folder=params["wheels_folder"] or None,
        loadgen_source=params["loadgen_source"] or None,
    )
    waiting = not python_env.ready(home, spec)
    if waiting:
        result["missing_packages"] = python_env.missing_packages(spec)
    if waiting and not check and not result["missing_packages"]:
        Path(home).mkdir(parents=True, exist_ok=True)
        if params["ca"]:
            folder = str(Path(home, "src", params["ca"]["name"]))
            host_store.write_files(folder, params["ca"]["files"], check)
        result["built"] = python_env.build(home, spec)
    else:
        result["built"] = False
    result["changed"] = waiting if check else result["built"]
    result.update(python_env.facts(home, spec.name))


if __name__ == "__main__":
    main()
