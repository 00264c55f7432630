# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifacts of the MLCommons store: an address, a list of files with their md5, the files.

`<bucket>/metadata/<name>.uri` holds the base address, `<name>.md5` a line per file; some lines have
no digest. Members' buckets ask for a service token: CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET
in the environment are exchanged for a cookie, which goes to the bucket's own host only.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import replace
from email.message import Message
from typing import Any, Mapping
from urllib.parse import quote, urlsplit

from . import download
from .base import Access, ArtifactError, shown
from .errand import Errand, Taken
from .tree import safe_path

_LINE = re.compile(r"(?P<md5>[0-9a-f]{32}| {32})[ ][ *](?P<path>.+)")
_MEMBERS = (
    "This is for members of MLCommons: set CF_ACCESS_CLIENT_ID and CF_ACCESS_CLIENT_SECRET,"
    " or give a copy of your own."
)


def take(errand: Errand, origin: Mapping[str, Any]) -> Taken:
    """Bring the wanted files of a manifest into the store; a single one is the artifact itself.

    Raises ArtifactError.
    """
    uri = origin["mlcommons"]
    if not uri.endswith(".uri"):
        raise ArtifactError(f"{shown(uri)} is not an address of the MLCommons store (….uri).")
    cookie = _cookie(errand.access, uri)
    base = _text(errand, uri, cookie).strip()
    if urlsplit(base).scheme != "https" and urlsplit(uri).scheme == "https":
        raise ArtifactError(f"{shown(uri)} names no https address: {base[:80]!r}.")
    manifest = parse(_text(errand, f"{uri[: -len('.uri')]}.md5", cookie), uri)
    globs = origin.get("files") or ["*"]
    wanted = {p: m for p, m in manifest.items() if any(fnmatch.fnmatchcase(p, g) for g in globs)}
    if not wanted:
        raise ArtifactError(f"{shown(uri)} lists no file like {', '.join(globs)}.")
    own = cookie if urlsplit(base)[:2] == urlsplit(uri)[:2] else {}
    remotes = {p: _remote(f"{base.rstrip('/')}/{quote(p)}", m, own) for p, m in wanted.items()}
    unverified = sum(m is None for m in wanted.values())
    if unverified == len(wanted) and not errand.sha256:
        raise ArtifactError(
            f"{shown(uri)} has no digest of any file; give the sha256 of the whole."
        )
    return replace(errand.bring_all(remotes, unverified), single=len(remotes) == 1)


def parse(text: str, where: str) -> dict[str, str | None]:
    """Return {path: md5, or None where the line's digest is blank}. Raises ArtifactError."""
    found: dict[str, str | None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise ArtifactError(
                f"{shown(where)}: line {number} of the manifest is no md5 and path."
            )
        found[safe_path(match["path"])] = match["md5"].strip() or None
    return found


def _remote(url: str, md5: str | None, headers: Mapping[str, str]) -> download.Remote:
    return download.Remote(shown(url), url, headers, md5=md5, more=_MEMBERS)


def _text(errand: Errand, url: str, headers: Mapping[str, str]) -> str:
    text, _headers = download.read_text(_remote(url, None, headers), errand.access)
    return text


def _cookie(access: Access, uri: str) -> dict[str, str]:
    """Return the header that opens a members' bucket; {} for a public one.

    Raises ArtifactError when the bucket asks for a token that is not set or not accepted.
    """
    names = ("CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET")
    client, secret = (access.lookup(n) for n in names)
    remote = _remote(uri, None, {})
    headers = download.head(remote, access)
    if not _is_gate(headers):
        return {}
    if not (client and secret):
        raise ArtifactError(f"{shown(uri)}: access is refused. {_MEMBERS}")
    given = {"CF-Access-Client-Id": client, "CF-Access-Client-Secret": secret}
    headers = download.head(_remote(uri, None, given), access)
    found = re.search(r"CF_Authorization=([^;,\s]+)", " ".join(headers.get_all("Set-Cookie") or []))
    if not found:
        raise ArtifactError(f"{shown(uri)}: the service token is not accepted. {_MEMBERS}")
    return {"Cookie": f"CF_Authorization={found[1]}"}


def _is_gate(headers: Message) -> bool:
    location = headers.get("Location") or ""
    return "/cdn-cgi/access/login" in location or "CF_Authorization" in (
        headers.get("WWW-Authenticate") or ""
    )
