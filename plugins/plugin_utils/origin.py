# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring a user's model from its origin to the controller's store, checked by sha256."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import os
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .errors import BenchfleetError

_TIMEOUT_S = 60
_RESERVE = 64 << 20


def fetch(source: Mapping[str, Any], store: Path, hf_endpoint: str) -> tuple[str, Path]:
    """Return (sha256, path) of a model in the store, downloading it once.

    `source` is a cell's model with origin 'url' or 'hf'; a Hugging Face token is taken from
    HF_TOKEN in the controller's environment and sent only to `hf_endpoint`. Raises BenchfleetError.
    """
    where = source["where"]
    remembered = store / "origins" / f"{hashlib.sha256(where.encode()).hexdigest()}.json"
    sha256 = source["sha256"] or _remembered(remembered)
    if sha256 and _path(store, sha256).is_file():
        return sha256, _path(store, sha256)
    store.mkdir(parents=True, exist_ok=True)
    with _locked(store / "origins.lock"):
        url, headers = _request(where, hf_endpoint)
        expected = sha256 or _published_sha256(url, headers, where)
        final = _path(store, expected)
        if not final.is_file():
            _download(url, headers, where, expected, final)
        remembered.parent.mkdir(exist_ok=True)
        remembered.write_text(json.dumps({"origin": where, "sha256": expected}), encoding="utf-8")
    return expected, final


def _path(store: Path, sha256: str) -> Path:
    return store / "artifacts" / "sha256" / sha256[:2] / sha256


def _remembered(path: Path) -> str | None:
    try:
        value: str = json.loads(path.read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return value


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a", encoding="utf-8") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        yield


def _request(where: str, hf_endpoint: str) -> tuple[str, dict[str, str]]:
    if not where.startswith("hf:"):
        return where, {}
    owner_repo, _sep, rest = where.removeprefix("hf:").partition("@")
    owner, repo, file = owner_repo.split("/", 2)
    url = f"{hf_endpoint.rstrip('/')}/{owner}/{repo}/resolve/{quote(rest, safe='')}/{quote(file)}"
    token = os.environ.get("HF_TOKEN")
    return url, {"Authorization": f"Bearer {token}"} if token else {}


class _KeepHeaders(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the digest of a file stands in the answer of the first server."""

    def redirect_request(self, *_args: Any, **_kw: Any) -> None:
        return None


class _DropToken(urllib.request.HTTPRedirectHandler):
    """Follow redirects; the token goes to the first server only, which may name its own paths."""

    def redirect_request(self, req: Any, *args: Any, **kw: Any) -> Any:
        new = super().redirect_request(req, *args, **kw)
        if new is not None and (new.type, new.host) != (req.type, req.host):
            new.remove_header("Authorization")
        return new


def _published_sha256(url: str, headers: dict[str, str], where: str) -> str:
    """Return the sha256 that the Hub publishes of a large file (its X-Linked-Etag header)."""
    opener = urllib.request.build_opener(_KeepHeaders)
    request = urllib.request.Request(url, headers=headers, method="HEAD")
    try:
        with opener.open(request, timeout=_TIMEOUT_S) as answer:
            etag = answer.headers.get("X-Linked-Etag", "")
    except urllib.error.HTTPError as e:
        if e.code not in (301, 302, 303, 307, 308):
            raise BenchfleetError(_refusal(where, e)) from None
        etag = e.headers.get("X-Linked-Etag", "")
    except OSError as e:
        raise BenchfleetError(f"{where} cannot be reached: {e}.") from None
    found = re.fullmatch(r'"?([0-9a-f]{64})"?', etag)
    if not found:
        raise BenchfleetError(
            f"{where}: the Hub publishes no sha256 of this file; give it with -e model_sha256=…."
        )
    return found[1]


def _refusal(where: str, error: urllib.error.HTTPError) -> str:
    if error.code in (401, 403):
        return (
            f"{where}: access is refused ({error.code})."
            " Accept its licence there and set HF_TOKEN on this controller."
        )
    return f"{where} cannot be downloaded: the server answered {error.code} {error.reason}."


def _download(url: str, headers: dict[str, str], where: str, sha256: str, final: Path) -> None:
    """Download to `<final>.part`, going on where an earlier attempt stopped, and publish it.

    A complete part that is wrong is discarded; one that is not complete stays for the next call.
    """
    final.parent.mkdir(parents=True, exist_ok=True)
    part = final.with_suffix(".part")
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(
        url, headers=headers | ({"Range": f"bytes={have}-"} if have else {})
    )
    try:
        with urllib.request.build_opener(_DropToken).open(request, timeout=_TIMEOUT_S) as answer:
            _receive(answer, part, where)
    except urllib.error.HTTPError as e:
        # 416: nothing is left to send, so the digest tells whether the part is the whole file.
        if not (e.code == 416 and have):
            raise BenchfleetError(_refusal(where, e)) from None
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise BenchfleetError(
            f"{where}: the download stopped ({e}); the same command goes on with it."
        ) from None
    with part.open("rb") as f:
        actual = hashlib.file_digest(f, "sha256").hexdigest()
    if actual != sha256:
        part.unlink()
        raise BenchfleetError(
            f"{where}: the download's sha256 is {actual}, expected {sha256}; it was discarded."
        )
    part.chmod(0o444)
    part.rename(final)


def _receive(answer: Any, part: Path, where: str) -> None:
    """Add the answer's body to the part. Raises OSError when it ends before its stated length."""
    size = int(answer.headers.get("Content-Length") or 0)
    free = shutil.disk_usage(part.parent).free
    if size + _RESERVE > free:
        raise BenchfleetError(
            f"{where} needs {size >> 20} MB, {part.parent} has {free >> 20} MB free."
        )
    with part.open("ab" if answer.status == 206 else "wb") as f:
        before = f.tell()
        shutil.copyfileobj(answer, f, 1 << 20)
        got = f.tell() - before
    if got < size:
        raise OSError(f"{got} of {size} bytes came")
