# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Download one file over http(s): resumed, checked, and credentials kept to their server."""

from __future__ import annotations

import base64
import errno
import hashlib
import http.client
import re
import shutil
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from email.message import Message
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterator, Mapping
from urllib.parse import unquote, urlsplit, urlunsplit

from .base import RESERVE, Access, ArtifactError, Progress, md5, shown

_TIMEOUT_S = 60
_BLOCK = 1 << 20
_WORTH_GOING_ON = 16 << 20  # bytes that came before a cut, enough to ask the server again at once
_CHECK_EVERY = 64 << 20  # bytes between two looks at the free space of the disk
_REDIRECTS = (301, 302, 303, 307, 308)
_SECRET_HEADERS = ("Authorization", "Cookie", "Cf-access-client-id", "Cf-access-client-secret")


@dataclass(frozen=True)
class Remote:
    """A file to download and what is known of it before.

    `headers` may hold credentials: they go to the host of `url` only. `git_sha1` is the name that
    git gives the content; `size` is in bytes; `more` is said when the server refuses us.
    """

    name: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    sha256: str | None = None
    md5: str | None = None
    git_sha1: str | None = None
    size: int | None = None
    more: str = ""


def fetch(remote: Remote, part: Path, access: Access, progress: Progress) -> str:
    """Download into `part`, going on where an earlier call stopped, and return its sha256.

    A whole part that is wrong is discarded; one that is not whole stays for the next call. Raises
    ArtifactError.
    """
    while True:
        have = _length(part)
        try:
            with open_url(remote, access, {"Range": f"bytes={have}-"} if have else {}) as answer:
                _receive(answer, part, remote, progress)
            break
        except urllib.error.HTTPError as e:
            # 416: nothing is left to send, so the digest tells whether the part is the whole file.
            if e.code == 416 and have:
                break
            raise refusal(remote, e) from None
        except (OSError, ValueError, http.client.HTTPException) as e:
            full = isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT)
            if not full and _length(part) - have > _WORTH_GOING_ON:
                continue
            todo = "make room there" if full else "the same command goes on with it"
            raise ArtifactError(
                f"{remote.name}: the download stopped ({_reason(e)}); {todo}."
            ) from None
    return _checked(part, remote)


def read_text(remote: Remote, access: Access, limit: int = 64 << 20) -> tuple[str, Message]:
    """Return a small text from the web and the answer's headers. Raises ArtifactError."""
    try:
        with open_url(remote, access, {}) as answer:
            body = answer.read(limit + 1)
            if len(body) > limit:
                raise ArtifactError(f"{remote.name} is longer than {limit >> 20} MB.")
            return body.decode("utf-8"), answer.headers
    except urllib.error.HTTPError as e:
        raise refusal(remote, e) from None
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise ArtifactError(f"{remote.name} cannot be reached: {_reason(e)}.") from None


def head(remote: Remote, access: Access) -> Message:
    """Return the headers of the first server's answer: also when it redirects elsewhere, or names
    the way in. Raises ArtifactError."""
    try:
        with open_url(remote, access, {}, follow=False) as answer:
            headers: Message = answer.headers
            return headers
    except urllib.error.HTTPError as e:
        if e.code in _REDIRECTS or e.headers.get("WWW-Authenticate"):
            return e.headers
        raise refusal(remote, e) from None
    except (OSError, ValueError, http.client.HTTPException) as e:
        raise ArtifactError(f"{remote.name} cannot be reached: {_reason(e)}.") from None


def open_url(remote: Remote, access: Access, more: Mapping[str, str], follow: bool = True) -> Any:
    """Open a URL as the lab reaches the web: its proxies, its certificates.

    With follow=False only the headers are asked for, of this very server. Raises OSError (HTTPError
    for refusals), ValueError, HTTPException.
    """
    parts = urlsplit(remote.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{shown(remote.url)} is no http(s) address")
    netloc = parts.netloc.rpartition("@")[2]
    headers = {"User-Agent": "benchfleet", **remote.headers, **more}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    url = urlunsplit(parts._replace(netloc=netloc, fragment=""))
    request = urllib.request.Request(url, headers=headers, method="GET" if follow else "HEAD")
    handlers = [_Proxies(access), _Follow() if follow else _Stay()]
    certificates = next(
        (v for n in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE") if (v := access.lookup(n))), None
    )
    https = urllib.request.HTTPSHandler(context=_trusting(certificates))
    opener = urllib.request.build_opener(*handlers, https)
    return opener.open(request, timeout=_TIMEOUT_S)


@lru_cache(maxsize=None)
def _trusting(certificates: str | None) -> ssl.SSLContext:
    """Return what checks servers' certificates; reading them costs more than a small file."""
    return ssl.create_default_context(cafile=certificates)


class _Proxies(urllib.request.ProxyHandler):
    """Proxies as the lab's environment names them, for this download only."""

    def __init__(self, access: Access) -> None:
        names = ("http", "https", "no")
        values = {
            n: access.lookup(f"{n}_proxy") or access.lookup(f"{n}_proxy".upper()) for n in names
        }
        self._all = {n: v for n, v in values.items() if v}
        super().__init__({n: v for n, v in self._all.items() if n != "no"})

    def proxy_open(self, req: Any, proxy: str, type: str) -> Any:
        if urllib.request.proxy_bypass_environment(req.host, self._all):  # type: ignore[attr-defined]
            return None
        return super().proxy_open(req, proxy, type)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: the digest of a file stands in the answer of the first server."""

    def redirect_request(self, *_args: Any, **_kw: Any) -> None:
        return None


class _Follow(urllib.request.HTTPRedirectHandler):
    """Follow redirects; credentials go to the first server only, which may name its own paths."""

    def redirect_request(self, req: Any, *args: Any, **kw: Any) -> Any:
        new = super().redirect_request(req, *args, **kw)
        if new is None:
            return None
        if req.type == "https" and new.type != "https":
            raise urllib.error.URLError("the server redirects to an address without encryption")
        if (new.type, new.host) != (req.type, req.host):
            for name in _SECRET_HEADERS:
                new.remove_header(name)
        return new


class Missing(ArtifactError):
    """The server has no such file."""


def refusal(remote: Remote, error: urllib.error.HTTPError) -> ArtifactError:
    """Return what a server's refusal means for the person who asked."""
    if error.code in (401, 403):
        return ArtifactError(
            f"{remote.name}: access is refused ({error.code}). {remote.more}".rstrip()
        )
    kind = Missing if error.code == 404 else ArtifactError
    return kind(
        f"{remote.name} cannot be downloaded: the server answered {error.code} {error.reason}."
    )


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _reason(error: Exception) -> str:
    """Return what an error says, without an address that may hold a password."""
    text = str(getattr(error, "reason", "") or getattr(error, "strerror", "") or error)
    return shown(text) if "://" in text else text


def _receive(answer: Any, part: Path, remote: Remote, progress: Progress) -> None:
    """Add the answer's body to the part. Raises OSError when it ends before its stated length."""
    length = answer.headers.get("Content-Length")
    size = int(length) if length and length.isdigit() else 0
    _room(part, size, remote)
    resumed = answer.status == 206
    with part.open("ab" if resumed else "wb") as f:
        before = f.tell()
        begin = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
        if resumed and begin and int(begin[1]) != before:
            part.unlink()
            raise OSError("the server answered with another range than asked for")
        progress.add(before)
        got = 0
        for block in _blocks(answer):
            f.write(block)
            progress.add(len(block))
            got += len(block)
            if remote.size is not None and before + got > remote.size:
                part.unlink()
                raise OSError(f"more than the stated {remote.size} bytes came; they are discarded")
            if got // _CHECK_EVERY != (got - len(block)) // _CHECK_EVERY:
                _room(part, 0, remote)
    if got < size:
        raise OSError(f"{got} of {size} bytes came")


def _blocks(answer: Any) -> Iterator[bytes]:
    """Yield the body as it arrives, so that what came before a cut is kept."""
    while True:
        block = answer.read1(_BLOCK)
        if not block:
            return
        yield block


def _room(part: Path, size: int, remote: Remote) -> None:
    free = shutil.disk_usage(part.parent).free
    if size + RESERVE > free:
        raise ArtifactError(
            f"{remote.name} needs {size >> 20} MB, {part.parent} has {free >> 20} MB free."
        )


def _checked(part: Path, remote: Remote) -> str:
    """Return the sha256 of a whole part, all its digests compared in one reading."""
    count = part.stat().st_size
    found = {"sha256": hashlib.sha256()}
    if remote.md5:
        found["md5"] = md5()
    if remote.git_sha1:
        found["git_sha1"] = hashlib.sha1(b"blob %d\0" % count)
    with part.open("rb") as f:
        for block in iter(lambda: f.read(_BLOCK), b""):
            for digest in found.values():
                digest.update(block)
    for name, digest in found.items():
        expected, actual = getattr(remote, name), digest.hexdigest()
        if expected and actual != expected:
            part.unlink()
            raise ArtifactError(
                f"{remote.name}: the download's {name.replace('_', ' ')} is {actual},"
                f" expected {expected}; it was discarded."
            )
    return found["sha256"].hexdigest()
