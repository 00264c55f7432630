# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring what cells need to the controller: downloads, source trees, patched copies of them."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..module_utils.artifacts.base import Access, Say
from ..module_utils.artifacts.layout import check_layout
from ..module_utils.artifacts.obtain import obtain, resolve
from ..module_utils.artifacts.store import Store
from ..module_utils.host_store import HostError, sha256_of
from .catalog import Catalog
from .delivery import Goods
from .errors import BenchfleetError


def entry(what: Mapping[str, Any], place: Mapping[str, Any], downloads: str) -> dict[str, Any]:
    """Return a need as the host's module takes it: {"identity", "sha256", "spec", "layout"}.

    `place` is where it lies there (see work.place). Without `spec` the host waits for what the
    controller sends: with `downloads` 'host' it fetches itself, but for source trees, which are the
    controller's, who has git, the lab's clone and the patches.
    """
    found = {"identity": place["identity"], "sha256": place["sha256"], "spec": None, "layout": []}
    if place["path"]:
        spec = {"name": what["name"], "origins": [{"path": place["path"]}]}
        return found | {"spec": spec, "layout": what.get("layout") or []}
    if downloads == "host" and what.get("artifact") and what["artifact"]["type"] != "source":
        return found | {"spec": what["artifact"]}
    return found


def catalog_file(what: Mapping[str, Any]) -> str:
    """Return the sha256 of a data file of the catalog. Raises BenchfleetError when it is not what
    the catalog says."""
    actual = sha256_of(what["where"])
    if what["sha256"] not in (None, actual):
        raise BenchfleetError(
            f"{what['where']} is damaged: its sha256 is {actual}, the catalog says"
            f" {what['sha256']}."
        )
    return actual


def bring(what: Mapping[str, Any], goods: Goods, catalog: Catalog, access: Access, say: Say) -> str:
    """Have a needed artifact at the controller and offer it; return its digest.

    `what` is a need of a cell (see needs.py) that does not lie on the host. Raises BenchfleetError
    with what each origin said.
    """
    try:
        digest = _have(what, goods, access, say)
        if what.get("patches"):
            digest = _patched(goods.store, digest, what, catalog)
    except HostError as e:
        raise BenchfleetError(f"{what['name']} is not in the store. {e}") from None
    if what["origin"] != "catalog":
        goods.add(digest)
    return digest


def held(what: Mapping[str, Any], store: Store) -> str | None:
    """Return the digest of a needed artifact of the store, patched where its harness wants that;
    None when it would have to be brought."""
    known = what["sha256"] or resolve(store, what["artifact"])
    if known and what.get("patches"):
        known = store.pin(_patch_origin(known, what))
    return known if known and store.has(known) else None


def _have(what: Mapping[str, Any], goods: Goods, access: Access, say: Say) -> str:
    """Return the digest of what lies here, or of what is brought. Raises ArtifactError."""
    known = what["sha256"]
    if what["origin"] == "catalog":
        goods.records[known] = {"name": what["name"], "kind": "file", "tags": ["catalog"]}
        goods.files[known] = Path(what["where"])
        return str(known)
    if what["origin"] == "path":
        wrong = check_layout(Path(what["where"]), what.get("layout") or [])
        if wrong:
            raise BenchfleetError(f"{what['name']} is not whole: {'; '.join(wrong[:3])}.")
        spec = {"name": what["name"], "origins": [{"path": what["where"]}]}
        return obtain(goods.store, spec, access, say).digest
    if known and goods.store.has(known):
        return str(known)
    return obtain(goods.store, what["artifact"], access, say).digest


def _patched(store: Store, digest: str, what: Mapping[str, Any], catalog: Catalog) -> str:
    """Apply the recorded patches to a private copy of a source tree; return that tree's digest."""
    origin = _patch_origin(digest, what)
    known = store.pin(origin)
    if known and store.has(known):
        return known
    with tempfile.TemporaryDirectory(prefix="benchfleet-patch-") as name:
        copy = Path(name, "tree")
        shutil.copytree(store.path(digest), copy)
        for path in [copy, *copy.rglob("*")]:
            path.chmod(path.stat().st_mode | 0o200)
        for file in what["patches"]:
            _apply(catalog.data(f"patches/{file}"), copy)
        record = dict(store.record(digest) or {}, patches=list(what["patches"]))
        made = store.add_tree(copy, {k: v for k, v in record.items() if k != "files"})
    store.set_pin(origin, made)
    return made


def _patch_origin(digest: str, what: Mapping[str, Any]) -> dict[str, Any]:
    return {"tree": digest, "patches": list(what["patches"]), "content": what["where"]}


def _apply(patch: Path, folder: Path) -> None:
    # outside of any repository, so that git looks at nothing but the folder and the patch
    argv = ["git", "apply", "--whitespace=nowarn", str(patch)]
    environment = {"GIT_CEILING_DIRECTORIES": str(folder.parent), "GIT_CONFIG_NOSYSTEM": "1"}
    environment |= {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(folder.parent)}
    done = subprocess.run(
        argv, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise BenchfleetError(f"patch {patch.name} does not fit the source: {said}")
