# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror in the lab: a web server that serves a store's own layout."""

from __future__ import annotations

import json
from typing import Any, Mapping, Sequence

from . import download, tree
from .base import ArtifactError, shown
from .errand import Errand, Taken
from .store import is_digest


def take(errand: Errand, origins: Sequence[Mapping[str, Any]]) -> Taken:
    """Take an artifact by its digest, or by what the mirror's store was given for its origins.

    Raises ArtifactError when the mirror does not have it.
    """
    base = errand.access.mirror.rstrip("/") + "/artifacts"
    digest = errand.sha256 or _pinned(errand, base, origins)
    record = _json(errand, f"{base}/records/{digest}.json")
    if record is None or record.get("in_place"):
        raise ArtifactError(f"{shown(base)} has no {errand.name}.")
    if record.get("kind") == "file":
        listed = {record["name"]: {"sha256": digest, "bytes": record["bytes"], "mode": tree.PLAIN}}
    else:
        listed = record.get("files") or {}
        tree.check(listed)
        if tree.digest(listed) != digest:
            raise ArtifactError(f"{shown(base)} describes {errand.name} wrongly: {digest}.")
    errand.store.room(tree.total(listed), errand.name)
    progress = errand.progress(tree.total(listed))
    for about in listed.values():
        sha256 = about["sha256"]
        url = f"{base}/sha256/{sha256[:2]}/{sha256}"
        remote = download.Remote(shown(url), url, sha256=sha256, size=about["bytes"])
        errand.bring(remote, progress)
    return Taken(listed, "sha256", single=record.get("kind") == "file")


def _pinned(errand: Errand, base: str, origins: Sequence[Mapping[str, Any]]) -> str:
    for origin in origins:
        found = _json(errand, f"{base}/origins/{errand.store.pin_name(origin)}.json") or {}
        digest = str(found.get("sha256"))
        if is_digest(digest):
            return digest
    raise ArtifactError(f"{shown(base)} has no {errand.name}.")


def _json(errand: Errand, url: str) -> dict[str, Any] | None:
    """Return a JSON object of the mirror, None where it has none. Raises ArtifactError."""
    try:
        text, _headers = download.read_text(download.Remote(shown(url), url), errand.access)
        found = json.loads(text)
    except download.Missing:
        return None
    except ValueError:
        raise ArtifactError(f"{shown(url)} is no JSON.") from None
    return found if isinstance(found, dict) else None
