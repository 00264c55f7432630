# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a repository on the Hugging Face Hub at one commit, by the digests it states."""

from __future__ import annotations

import fnmatch
import json
import re
from typing import Any, Mapping, Sequence
from urllib.parse import quote, urlsplit

from . import download
from .base import ArtifactError
from .errand import Errand, Taken
from .tree import safe_path

_LICENCE = "Accept its licence there and set HF_TOKEN."
_MOST_PAGES = 10_000


def take(errand: Errand, origin: Mapping[str, Any]) -> Taken:
    """Bring the wanted files of a commit into the store; one named file is the artifact itself.

    The token (HF_TOKEN) goes to the lab's endpoint only. Raises ArtifactError.
    """
    wanted = list(origin.get("files") or [])
    name = f"hf:{origin['hf']}@{origin['revision']}"
    if len(wanted) == 1 and not re.search(r"[*?\[]", wanted[0]):
        remote = _named(errand, origin, wanted[0])
        return Taken(
            {wanted[0]: errand.bring(remote, errand.progress(errand.bytes))},
            "sha256" if remote.sha256 == errand.sha256 else "upstream manifest",
            single=True,
        )
    listed = [r for r in _listing(errand, origin, name) if _is_wanted(r["path"], wanted)]
    if not listed:
        raise ArtifactError(f"{name} has none of {', '.join(wanted) or 'the files'}.")
    remotes = {safe_path(r["path"]): _remote(errand, origin, r) for r in listed}
    return errand.bring_all(remotes)


def _is_wanted(path: str, globs: Sequence[str]) -> bool:
    return not globs or any(fnmatch.fnmatchcase(path, g) for g in globs)


def _headers(errand: Errand) -> dict[str, str]:
    token = errand.access.lookup("HF_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token else {}


def _address(errand: Errand, origin: Mapping[str, Any], path: str) -> str:
    endpoint = errand.access.hf_endpoint.rstrip("/")
    return f"{endpoint}/{origin['hf']}/resolve/{quote(origin['revision'], safe='')}/{quote(path)}"


def _named(errand: Errand, origin: Mapping[str, Any], path: str) -> download.Remote:
    """Return one named file with the digest that the Hub's own answer states of it.

    Of a large file that is its sha256, of a small one its name in git.
    """
    name = f"hf:{origin['hf']}/{path}@{origin['revision']}"
    url, headers = _address(errand, origin, path), _headers(errand)
    if errand.sha256:
        return download.Remote(name, url, headers, sha256=errand.sha256, more=_LICENCE)
    stated = download.head(download.Remote(name, url, headers, more=_LICENCE), errand.access)
    large = re.fullmatch(r'"?([0-9a-f]{64})"?', stated.get("X-Linked-Etag", ""))
    small = re.fullmatch(r'(?:W/)?"?([0-9a-f]{40})"?', stated.get("ETag", ""))
    if not (large or small):
        raise ArtifactError(
            f"{name}: the Hub publishes no digest of this file; give its sha256"
            " (model_sha256 for a model of yours)."
        )
    return download.Remote(
        name,
        url,
        headers,
        sha256=large[1] if large else None,
        git_sha1=small[1] if small and not large else None,
        more=_LICENCE,
    )


def _remote(errand: Errand, origin: Mapping[str, Any], row: Mapping[str, Any]) -> download.Remote:
    """Return a listed file as what is to be downloaded."""
    url = _address(errand, origin, row["path"])
    return download.Remote(
        f"hf:{origin['hf']}/{row['path']}@{origin['revision'][:12]}",
        url,
        _headers(errand),
        sha256=row["sha256"],
        git_sha1=None if row["sha256"] else row["sha1"],
        size=row["size"],
        more=_LICENCE,
    )


def _listing(errand: Errand, origin: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Return the Hub's rows of all files of the commit, page by page."""
    endpoint = errand.access.hf_endpoint.rstrip("/")
    repo = origin["hf"] if origin["hf"].startswith("datasets/") else f"models/{origin['hf']}"
    url = f"{endpoint}/api/{repo}/tree/{quote(origin['revision'], safe='')}?recursive=true"
    rows: list[dict[str, Any]] = []
    for _page in range(_MOST_PAGES):
        remote = download.Remote(name, url, _headers(errand), more=_LICENCE)
        text, headers = download.read_text(remote, errand.access)
        try:
            rows += [_sound(row) for row in json.loads(text) if row["type"] == "file"]
        except (ValueError, KeyError, TypeError):
            raise ArtifactError(f"{name}: the Hub's list of files cannot be read.") from None
        following = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("Link", ""))
        if not following:
            return rows
        # the token goes along: only to where it was meant to go
        if urlsplit(following[1])[:2] != urlsplit(endpoint)[:2]:
            raise ArtifactError(f"{name}: the Hub's list of files goes on at another server.")
        url = following[1]
    raise ArtifactError(f"{name}: the Hub's list of files has no end.")


def _sound(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return what we use of a row. Raises ValueError, KeyError, TypeError for anything odd."""
    large = str(row["lfs"]["oid"]) if row.get("lfs") else None
    small = str(row["oid"])
    if not re.fullmatch("[0-9a-f]{64}" if large else "[0-9a-f]{40}", large or small):
        raise ValueError(row)
    return {"path": str(row["path"]), "size": int(row["size"]), "sha256": large, "sha1": small}
