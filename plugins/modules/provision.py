#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: provision
short_description: Make a host ready to run benchmark cells
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Puts harnesses, the job supervisor, models and datasets on a host and builds the locked Python
    environments that the host's cells need.
  - The controller half reads the plan, brings what is to be downloaded to the controller, pushes
    what the host lacks over sftp, and runs the target half until nothing is missing. It needs no
    root.
options:
  session:
    description: The session folder that M(benchfleet.mlperf.plan) returned.
    type: str
    required: true
  store:
    description: The controller's artifact store. Read by the controller half.
    type: path
  downloads:
    description:
      - Who downloads models and datasets. V(controller) does it once and sends them to every host,
        V(host) lets each host fetch its own.
    type: str
    choices: [controller, host]
    default: controller
  internet:
    description:
      - Whether the host reaches the internet. V(false) takes everything from the controller, wheels
        and packages of the operating system included.
    type: bool
    default: true
  python:
    description: The Python to build environments with, or V(auto) for the newest supported one.
    type: str
    default: auto
  environment:
    description: Environment variables for downloads and builds.
    type: dict
    default: {}
  secrets:
    description: The same, but never shown. Set by the controller half.
    type: dict
    default: {}
  proxy:
    description: Proxies, V(http), V(https) and V(no). Read by the controller half.
    type: dict
  ca_bundle:
    description: File on the controller with the lab's own certificate authorities.
    type: path
  pip_index_url:
    description: The lab's package index in place of PyPI. Read by the controller half.
    type: str
  pip_extra_index_urls:
    description: Package indexes beside it. Read by the controller half.
    type: list
    elements: str
  hf_endpoint:
    description: Where Hugging Face repositories are downloaded from.
    type: str
    default: https://huggingface.co
  mirror:
    description: Web server with the folder C(artifacts) of a store; asked before the origins.
    type: str
    default: ""
  home:
    description:
      - The folder on the host that holds everything of benchfleet's. Set by the controller half.
    type: str
  host_dir:
    description: This host's own folder below O(home). Set by the controller half.
    type: str
  folders:
    description: Source folders to publish. Set by the controller half.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path of the folder, named by its content.
        type: str
        required: true
      files:
        description: The files, each with C(path) and base64 C(content).
        type: list
        elements: dict
        required: true
  wanted:
    description: Artifacts that the cells need. Set by the controller half.
    type: list
    elements: dict
    default: []
    suboptions:
      identity:
        description: What the plan calls it.
        type: str
        required: true
      sha256:
        description: Its digest, where that is known.
        type: str
      spec:
        description: Where the host takes it from; without it the controller sends it.
        type: dict
      layout:
        description: What a copy of the lab's must hold.
        type: list
        elements: dict
        default: []
  parts:
    description: Files that were sent, path by sha256. Set by the controller half.
    type: dict
    default: {}
  packs:
    description: Packs of small files that were sent. Set by the controller half.
    type: list
    elements: str
    default: []
  listings:
    description: Listings of trees that were sent, path by digest. Set by the controller half.
    type: dict
    default: {}
  records:
    description: What the files that were sent are, by sha256. Set by the controller half.
    type: dict
    default: {}
  envs:
    description: The locked environments to build. Set by the controller half.
    type: list
    elements: dict
    default: []
  wheelhouses:
    description: Digests of trees of wheels, by environment. Set by the controller half.
    type: dict
    default: {}
  derived:
    description: Artifacts to make of others on the host. Set by the controller half.
    type: list
    elements: dict
    default: []
    suboptions:
      identity:
        description: What the plan calls it.
        type: str
        required: true
      name:
        description: Its name in the catalog.
        type: str
        required: true
      type:
        description: What it is, such as V(dataset).
        type: str
        required: true
      derive:
        description: The program, as the catalog says it.
        type: dict
        required: true
      layout:
        description: What must come of it.
        type: list
        elements: dict
        required: true
      sources:
        description: What the plan calls its sources, by placeholder.
        type: dict
        required: true
      tree:
        description: What the plan calls the source tree.
        type: str
        required: true
      folder:
        description: The program's folder in the source tree.
        type: str
        required: true
      env:
        description: The environment that the program runs in.
        type: str
        required: true
attributes:
  check_mode:
    description: Reports what would be installed and writes nothing.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Make the host ready
  benchfleet.mlperf.provision:
    session: "{{ benchfleet_plan.session }}"
"""

RETURN = r"""
missing_artifacts:
  description: Digests of artifacts that the host does not hold yet.
  returned: always
  type: list
  elements: str
missing_files:
  description: Digests of files that trees still lack, some thousand at most at a time.
  returned: always
  type: list
  elements: str
missing_packages:
  description: Packages of the operating system that must be installed first.
  returned: always
  type: list
  elements: str
targets:
  description: What wheels must fit, by environment that waits for them.
  returned: without O(internet)
  type: dict
system:
  description: Identity and version of the operating system, and the machine type.
  returned: always
  type: dict
artifacts:
  description:
    - Path, sha256 and size in bytes of each artifact, by the plan's name for it, and whether it is
      C(new) here.
  returned: always
  type: dict
built:
  description: Names of the environments that were built.
  returned: always
  type: list
  elements: str
waiting:
  description: Names of the environments that are not there.
  returned: always
  type: list
  elements: str
fault:
  description:
    - What could not be done, in one sentence. The host is not failed, so that every host gets an
      outcome.
  returned: when something could not be done
  type: str
log:
  description: The file on the host that holds the whole output of what failed.
  returned: when something that keeps a log could not be done
  type: str
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import host_store, packages, python_env
from ..module_utils.artifacts import derive, receive
from ..module_utils.artifacts.base import Access
from ..module_utils.artifacts.obtain import Obtained
from ..module_utils.artifacts.store import Store

_DERIVED_WORDS = ("identity", "name", "type", "tree", "folder", "env")


def main() -> None:
    """Run the target half of provisioning."""
    module = AnsibleModule(argument_spec=_specification(), supports_check_mode=True)
    result: dict[str, Any] = {
        "changed": False,
        "missing_artifacts": [],
        "missing_files": [],
        "missing_packages": [],
        "system": packages.system(),
        "targets": {},
        "artifacts": {},
        "built": [],
        "waiting": [],
    }
    try:
        _provision(module.params, module.check_mode, result)
    except host_store.HostError as e:
        result["fault"] = str(e)
        if e.log:
            result["log"] = e.log
    except OSError as e:
        result["fault"] = f"{e.filename or 'the host'}: {e.strerror}."
    module.exit_json(**result)


def _specification() -> dict[str, Any]:
    suboptions = {
        "folders": {
            "path": {"type": "str", "required": True},
            "files": {"type": "list", "elements": "dict", "required": True},
        },
        "wanted": {
            "identity": {"type": "str", "required": True},
            "sha256": {"type": "str"},
            "spec": {"type": "dict"},
            "layout": {"type": "list", "elements": "dict", "default": []},
        },
        "derived": {
            **{n: {"type": "str", "required": True} for n in _DERIVED_WORDS},
            **{n: {"type": "dict", "required": True} for n in ("derive", "sources")},
            "layout": {"type": "list", "elements": "dict", "required": True},
        },
    }
    return {
        "session": {"type": "str", "required": True},
        "store": {"type": "path"},
        "downloads": {
            "type": "str",
            "choices": ["controller", "host"],
            "default": "controller",
        },
        "internet": {"type": "bool", "default": True},
        "python": {"type": "str", "default": "auto"},
        "environment": {"type": "dict", "default": {}},
        "secrets": {"type": "dict", "default": {}, "no_log": True},
        "proxy": {"type": "dict"},
        "ca_bundle": {"type": "path"},
        "pip_index_url": {"type": "str"},
        "pip_extra_index_urls": {"type": "list", "elements": "str"},
        "hf_endpoint": {"type": "str", "default": "https://huggingface.co"},
        "mirror": {"type": "str", "default": ""},
        "home": {"type": "str"},
        "host_dir": {"type": "str"},
        **{
            name: {"type": "list", "elements": "dict", "default": [], "options": options}
            for name, options in suboptions.items()
        },
        "parts": {"type": "dict", "default": {}},
        "packs": {"type": "list", "elements": "str", "default": []},
        "listings": {"type": "dict", "default": {}},
        "records": {"type": "dict", "default": {}},
        "envs": {"type": "list", "elements": "dict", "default": []},
        "wheelhouses": {"type": "dict", "default": {}},
    }


def _provision(params: dict[str, Any], check: bool, result: dict[str, Any]) -> None:
    store = Store(params["home"])
    environment = {**params["environment"], **params["secrets"]}
    if not check:
        os.makedirs(params["host_dir"], mode=0o755, exist_ok=True)
        store.base.joinpath(".parts").mkdir(parents=True, exist_ok=True)
        result["missing_files"] = receive.receive(store, params)
    for folder in params["folders"]:
        result["changed"] |= host_store.write_files(folder["path"], folder["files"], check)
    access = Access(params["hf_endpoint"], params["mirror"], environment)
    for entry in params["wanted"]:
        _have(store, entry, access, check, result)
    _build(params, environment, check, result)
    for entry in params["derived"]:
        _derive(store, entry, environment, check, result)


def _have(
    store: Store, entry: dict[str, Any], access: Access, check: bool, result: dict[str, Any]
) -> None:
    """Find an artifact, or take it from where its spec says; note what the controller must send."""
    found = receive.find(store, entry) if check else receive.have(store, entry, access)
    if found is None:
        result["missing_artifacts"].append(entry["sha256"] or entry["identity"])
        return
    _is_here(store, entry["identity"], found, result)


def _is_here(store: Store, identity: str, found: Obtained, result: dict[str, Any]) -> None:
    record = (store.record(found.digest) if found.digest else None) or {}
    result["artifacts"][identity] = {
        "sha256": found.digest,
        "path": str(found.path),
        "bytes": record.get("bytes"),
        "new": found.changed,
    }
    result["changed"] |= found.changed


def _derive(
    store: Store,
    entry: dict[str, Any],
    environment: dict[str, str],
    check: bool,
    result: dict[str, Any],
) -> None:
    """Find what is made of other artifacts, or make it once these and the environment are here."""
    waiting = result["missing_artifacts"] or result["missing_packages"]
    known = {i: (a["path"], a["sha256"]) for i, a in result["artifacts"].items() if a["sha256"]}
    sources = {word: known.get(i) for word, i in entry["sources"].items()}
    tree = known.get(entry["tree"])
    found = None
    if tree and None not in sources.values():
        recipe = derive.Recipe(
            **{n: entry[n] for n in ("name", "type", "derive", "layout", "folder")},
            sources={word: place for word, place in sources.items() if place},
            tree=tree,
            python=python_env.facts(str(store.root), entry["env"])["python"],
        )
        found = derive.find(store, recipe)
        lacking = derive.missing_programs(entry["derive"]) if found is None else []
        result["missing_packages"] = list(dict.fromkeys([*result["missing_packages"], *lacking]))
        if found is None and not check and not waiting and not lacking:
            found = derive.make(store, recipe, environment)
    if found:
        _is_here(store, entry["identity"], found, result)
    result["changed"] |= check and found is None


def _build(
    params: dict[str, Any], environment: dict[str, str], check: bool, result: dict[str, Any]
) -> None:
    home = params["home"]
    specs = [_environment(params, env, environment) for env in params["envs"]]
    waiting = python_env.waiting(home, specs)
    result["waiting"] = [s.name for s in waiting]
    missing = [name for spec in waiting for name in python_env.missing_packages(spec)]
    result["missing_packages"] = list(dict.fromkeys(missing))
    if not params["internet"]:
        lacking = [s for s in waiting if s.name not in params["wheelhouses"]]
        targets = {s.name: python_env.target(s) for s in lacking}
        result["targets"] = {name: target for name, target in targets.items() if target}
    if check:
        result["changed"] |= bool(waiting or result["missing_artifacts"])
    elif not any(result[n] for n in ("missing_packages", "missing_artifacts", "targets")):
        result["built"] = [s.name for s in waiting if python_env.build(home, s)]
        result["waiting"] = []
        result["changed"] |= bool(result["built"])


def _environment(
    params: dict[str, Any], env: dict[str, Any], environment: dict[str, str]
) -> python_env.Spec:
    own: dict[str, Any] = {"python": params["python"], "environment": environment}
    wheels = params["wheelhouses"].get(env["name"])
    if wheels:  # where they will lie: nothing is built before they are there
        own["wheels_folder"] = str(Store(params["home"]).tree_path(wheels))
    return python_env.Spec.planned(params["home"], env, **own)


if __name__ == "__main__":
    main()
