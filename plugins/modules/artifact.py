#!/usr/bin/python
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: artifact
short_description: Obtain, verify or remove an artifact on a host
version_added: 0.1.0
author: benchfleet contributors (@benchfleet)
description:
  - Keeps models, datasets, source trees and wheels in a store, named by the sha256 of what is in
    them.
  - Downloads go on where they stopped, are checked by digest before they get their name, and happen
    once when several processes ask for the same artifact.
  - With O(downloads=controller) the controller brings it, once for all hosts, and sends to each
    what it lacks. With O(benchmark) the catalog says where it comes from, or what program makes it
    of others on the host.
options:
  store:
    description: The folder that holds the store, such as the host's home of benchfleet.
    type: path
    required: true
    aliases: [home]
  name:
    description:
      - The artifact's name. Needed unless O(state=absent); with O(benchmark) one of the catalog's,
        by default the model or dataset that the benchmark uses.
    type: str
  names:
    description:
      - Patterns such as V(llama*), of which an entry must fit one. For O(state=absent) without
        O(sha256) and O(origins) only.
    type: list
    elements: str
    default: []
  type:
    description: What the artifact is.
    type: str
    choices: [model, dataset, source, wheels, file]
    default: file
  origins:
    description:
      - Where it can be had, tried in this order. Each has one of the following keys.
      - C(url), with C(sha256) or C(md5), and C(unpack) V(tar), V(zip) or V(gz).
      - C(mlcommons), the address of a C(.uri) file of the MLCommons store; C(files) are patterns.
      - C(hf), a repository, with C(revision); C(files) are patterns.
      - C(git), an address or a clone, with C(commit), C(paths) and C(submodules).
      - C(path), a place on this host; C(copy) puts it into the store.
    type: list
    elements: dict
    default: []
  sha256:
    description: Digest of the file, or of the tree. What upstream publishes is enough without it.
    type: str
  bytes:
    description: Size of the whole, to show how far a download is.
    type: int
  state:
    description:
      - V(present) obtains it where it is not there, V(verified) reads what is there and fails when
        it is damaged, V(absent) removes it and what of it no other artifact needs.
      - V(absent) without O(sha256) and O(origins) removes all that O(names) and O(tags) choose,
        with environments, wheels and source folders, but nothing that a running job uses.
    type: str
    choices: [present, absent, verified]
    default: present
  tags:
    description: Words to find it by. With O(state=absent) an entry must have all of them.
    type: list
    elements: str
    default: []
  benchmark:
    description: The benchmark of the catalog that has the artifact. For O(state=present) only.
    type: str
    default: ""
  backend:
    description: The backend of upstream's harness whose model or dataset is meant.
    type: str
    default: ""
  downloads:
    description:
      - V(controller) downloads it once for all hosts and sends to each what it lacks, V(host) lets
        each fetch its own. Source trees are the controller's in any case. For O(state=present).
      - Without it and without O(benchmark) nothing but the host takes part, and what is named
        below as going with it does not count.
      - A C(path) is looked for on the host, then on the controller.
    type: str
    choices: [controller, host]
  round:
    description: The MLPerf round whose commit a C(git) origin without C(commit) is taken at.
    type: str
    default: ""
  patches:
    description:
      - Names of patches of the catalog that are applied to a private copy of the source tree. With
        O(downloads).
    type: list
    elements: str
    default: []
  layout:
    description:
      - What a copy of the lab's own must hold, a list of C(path) with C(lines), C(sha256) or
        C(md5), or of C(files), a pattern, with C(count). With O(downloads).
    type: list
    elements: dict
    default: []
  artifact_paths:
    description: The lab's own copies by the catalog's names. With O(benchmark).
    type: dict
    default: {}
  controller_store:
    description: The controller's store. With O(downloads) or O(benchmark).
    type: path
    default: ~/.cache/benchfleet
  results:
    description: Folder on the controller that holds the consents. With O(benchmark).
    type: path
    default: ./results
  catalog_path:
    description: Folder of the lab's own catalog.
    type: str
    default: ""
  inference_repo:
    description: Clone of mlcommons/inference for programs of upstream's. With O(benchmark).
    type: str
    default: https://github.com/mlcommons/inference
  python:
    description: The Python to build a program's environment with, or V(auto).
    type: str
    default: auto
  proxy:
    description: Proxies, V(http), V(https) and V(no). With O(downloads) or O(benchmark).
    type: dict
    default: {}
  ca_bundle:
    description:
      - File on the controller with the lab's own certificate authorities. With O(downloads)
        or O(benchmark).
    type: str
    default: ""
  pip_index_url:
    description: The lab's package index, for a program's environment. With O(benchmark).
    type: str
    default: ""
  pip_extra_index_urls:
    description: Package indexes beside it.
    type: list
    elements: str
    default: []
  environment:
    description: Variables for downloads, such as C(https_proxy) and C(SSL_CERT_FILE).
    type: dict
    default: {}
  hf_endpoint:
    description: The Hugging Face Hub or a mirror of it.
    type: str
    default: https://huggingface.co
  mirror:
    description: Base URL of a web server in the lab that serves a store.
    type: str
    default: ""
  token:
    description:
      - Token for the Hugging Face Hub, sent to O(hf_endpoint) only. By default C(HF_TOKEN) of the
        environment that the module runs in.
    type: str
attributes:
  check_mode:
    description: Tells whether the artifact is there, and what removing would free; asks no server.
    support: full
  diff_mode:
    description: There is no textual difference to show.
    support: none
"""

EXAMPLES = r"""
- name: Obtain a model by its md5
  benchfleet.mlperf.artifact:
    store: ~/.benchfleet
    name: resnet50-onnx
    type: model
    origins:
      - url: https://zenodo.org/record/4735647/files/resnet50_v1.onnx
        md5: f6a4da60cd5f084d97efc2c1ddb10beb
    tags: [mlperf, resnet50]

- name: Send each host the dataset of a benchmark
  benchfleet.mlperf.artifact:
    store: ~/.benchfleet
    benchmark: bert
    type: dataset

- name: Bring a folder of mlcommons/inference at the commit of a round
  benchfleet.mlperf.artifact:
    store: ~/.benchfleet
    name: inference
    type: source
    origins:
      - git: https://github.com/mlcommons/inference
        paths: [language/bert]
    round: v6.1
    downloads: controller

- name: Remove all environments that no job uses
  benchfleet.mlperf.artifact:
    store: ~/.benchfleet
    tags: [env]
    state: absent
"""

RETURN = r"""
digest:
  description: The sha256 that names the artifact; none in check mode when it is not known yet.
  returned: when one artifact was asked for
  type: str
path:
  description: Where it lies.
  returned: when it is there
  type: str
kind:
  description: V(file) or V(tree).
  returned: when it is there, without O(downloads) and O(benchmark)
  type: str
bytes:
  description: Size of its files.
  returned: when it is there
  type: int
checked_by:
  description: By what it was found to be the right one when it came, such as V(sha256) or V(md5).
  returned: when it is there, without O(downloads) and O(benchmark)
  type: str
commit:
  description: The commit of a source tree.
  returned: with O(downloads)
  type: str
missing_packages:
  description:
    - Packages of the operating system that a program's environment needs first. The task fails when
      there are any, except in check mode.
  returned: with O(benchmark), when it is not there
  type: list
  elements: str
removed:
  description: Names of what was removed, or would be in check mode.
  returned: with O(state=absent)
  type: list
  elements: str
freed:
  description: Bytes that removing freed, or would free.
  returned: with O(state=absent)
  type: int
notes:
  description: What happened on the way, a line each.
  returned: success
  type: list
  elements: str
"""

import re
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.artifacts import entries
from ..module_utils.artifacts.base import Access, ArtifactError
from ..module_utils.artifacts.obtain import obtain, resolve
from ..module_utils.artifacts.store import Store
from ..module_utils.host_store import HostError

# read by the controller half
_CONTROLLERS: dict[str, Any] = {
    "downloads": {"type": "str", "choices": ["controller", "host"]},
    "layout": {"type": "list", "elements": "dict", "default": []},
    "controller_store": {"type": "path", "default": "~/.cache/benchfleet"},
    "results": {"type": "path", "default": "./results"},
    "inference_repo": {"type": "str", "default": "https://github.com/mlcommons/inference"},
    "python": {"type": "str", "default": "auto"},
    **{n: {"type": "dict", "default": {}} for n in ("artifact_paths", "proxy")},
    **{
        n: {"type": "list", "elements": "str", "default": []}
        for n in ("patches", "pip_extra_index_urls")
    },
    **{
        n: {"type": "str", "default": ""}
        for n in ("benchmark", "backend", "round", "catalog_path", "ca_bundle", "pip_index_url")
    },
}


def main() -> None:
    """Bring the artifact to the asked-for state."""
    module = AnsibleModule(
        argument_spec={
            "store": {"type": "path", "required": True, "aliases": ["home"]},
            "name": {"type": "str"},
            "names": {"type": "list", "elements": "str", "default": []},
            "type": {
                "type": "str",
                "choices": ["model", "dataset", "source", "wheels", "file"],
                "default": "file",
            },
            "origins": {"type": "list", "elements": "dict", "default": []},
            "sha256": {"type": "str"},
            "bytes": {"type": "int"},
            "state": {
                "type": "str",
                "choices": ["present", "absent", "verified"],
                "default": "present",
            },
            "tags": {"type": "list", "elements": "str", "default": []},
            **_CONTROLLERS,
            "environment": {"type": "dict", "default": {}},
            "hf_endpoint": {"type": "str", "default": "https://huggingface.co"},
            "mirror": {"type": "str", "default": ""},
            "token": {"type": "str", "no_log": True},
        },
        required_if=[("state", "present", ["name"]), ("state", "verified", ["name"])],
        supports_check_mode=True,
    )
    # passwords of addresses must not come back with the arguments
    module.no_log_values |= set(re.findall(r"//[^/@:'\s]*:([^/@'\s]+)@", str(module.params)))
    notes: list[str] = []
    try:
        result = _brought(Store(module.params["store"]), module.params, module.check_mode, notes)
    except HostError as e:
        module.fail_json(msg=str(e), notes=notes)
    except OSError as e:
        module.fail_json(msg=f"{e.filename or 'the host'}: {e.strerror}.", notes=notes)
    module.exit_json(notes=notes, **result)


def _brought(store: Store, params: dict[str, Any], check: bool, notes: list[str]) -> dict[str, Any]:
    if params["state"] == "present":
        return _present(store, params, check, notes)
    if params["state"] == "absent":
        return _absent(store, params, check, notes)
    return _verified(store, params, notes)


def _spec(params: dict[str, Any]) -> dict[str, Any]:
    names = ("type", "origins", "sha256", "bytes", "tags")
    return {"name": params["name"] or params["sha256"] or "", **{n: params[n] for n in names}}


def _found(store: Store, digest: str | None) -> dict[str, Any]:
    if not digest or not store.has(digest):
        return {"digest": digest}
    record = store.record(digest) or {}
    about = {n: record.get(n) for n in ("kind", "bytes", "checked_by")}
    return {"digest": digest, "path": str(store.path(digest)), **about}


def _present(store: Store, params: dict[str, Any], check: bool, notes: list[str]) -> dict[str, Any]:
    spec = _spec(params)
    if check:
        found = _found(store, resolve(store, spec))
        return {**found, "changed": "path" not in found}
    environment = dict(params["environment"])
    if params["token"]:
        environment["HF_TOKEN"] = params["token"]
    access = Access(params["hf_endpoint"], params["mirror"], environment)
    obtained = obtain(store, spec, access, notes.append)
    return {**_found(store, obtained.digest), "changed": obtained.changed}


def _verified(store: Store, params: dict[str, Any], notes: list[str]) -> dict[str, Any]:
    found = _found(store, resolve(store, _spec(params)))
    if "path" not in found:
        raise ArtifactError(f"{params['name']} is not in {store.root}.")
    problems = store.verify(found["digest"])
    if problems:
        notes += problems[1:]
        raise ArtifactError(f"{params['name']} is damaged: {problems[0]}. Remove it and obtain it.")
    return {**found, "changed": False}


def _absent(store: Store, params: dict[str, Any], check: bool, notes: list[str]) -> dict[str, Any]:
    one = params["sha256"] or params["origins"]
    if not (one or params["names"] or params["tags"]):
        raise ArtifactError("nothing says what to remove: give names, tags, sha256 or origins.")
    digest = resolve(store, _spec(params)) if one else None
    there = entries.entries(store)
    if one:
        wanted = [e for e in there if e.digest and e.digest == digest]
    else:
        wanted = entries.chosen(there, params["tags"], params["names"])
    gone, freed, kept = entries.clear(store, wanted, check)
    notes += kept
    if kept and not gone:
        raise ArtifactError(f"{'; '.join(kept)}. Nothing was removed.")
    result = {"changed": bool(gone), "removed": [e.name for e in gone], "freed": freed}
    return dict(result, digest=digest) if one else result


if __name__ == "__main__":
    main()
