# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What all parts of the artifact store share: the fault, the settings, words for the screen."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Mapping
from urllib.parse import urlsplit, urlunsplit

from ..host_store import HostError

Say = Callable[[str], None]
RESERVE = 64 << 20  # bytes of a file system that no artifact may take
_EVERY_S = 5.0
_SLOWEST = 1000  # bytes a second, over the patience below
_PATIENCE_S = 300.0
_SECRET = re.compile(r"(?i)([?&][^=&]*(?:token|sig|secret|passw|credential|key)[^=&]*=)[^&]*")


class ArtifactError(HostError):
    """An artifact that cannot be had, kept or removed; its text is the whole message."""


@dataclass(frozen=True)
class Access:
    """How this host reaches origins: the settings of the lab, built once.

    `environment` holds variables for proxies, certificates and tokens; it comes before the
    process's own environment. It is not shown, for what is secret in it.
    """

    hf_endpoint: str = "https://huggingface.co"
    mirror: str = ""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    def lookup(self, name: str) -> str:
        """Return a variable's value, "" when it is set nowhere."""
        return str(self.environment.get(name) or os.environ.get(name, ""))

    def variables(self) -> dict[str, str]:
        """Return the environment for programs."""
        return {**os.environ, **{k: str(v) for k, v in self.environment.items()}}


def shown(url: str) -> str:
    """Return a URL as it may be shown and recorded: without user, password and signatures."""
    if "://" not in url:
        # git's own form user@host:path holds no password; anything else is a path
        return url
    parts = urlsplit(url)
    clean = urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
    return _SECRET.sub(r"\1…", clean)


def md5() -> Any:
    """Return an md5 to compare with what upstream published, also where md5 is no longer trusted
    for security."""
    try:
        return hashlib.new("md5", usedforsecurity=False)
    except TypeError:  # Python 3.8
        return hashlib.md5()


def size(count: float) -> str:
    """Return a number of bytes for people: 17 kB, 1.2 MB, 34 GB."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


class Progress:
    """Says how far a download is, at most every few seconds; used by several threads at once."""

    def __init__(self, say: Say, name: str, total: int | None) -> None:
        self._say, self._name, self._total = say, name, total
        self._lock = threading.Lock()
        self._got = self._last_got = self._checked_got = 0
        self._last = self._checked = time.monotonic()

    def add(self, count: int) -> None:
        """Count bytes that came. Raises OSError when the transfer has as good as stopped."""
        with self._lock:
            self._got += count
            now = time.monotonic()
            if now - self._checked > _PATIENCE_S:
                if (self._got - self._checked_got) / (now - self._checked) < _SLOWEST:
                    raise OSError(f"less than {size(_SLOWEST)} a second for {_PATIENCE_S:.0f} s")
                self._checked, self._checked_got = now, self._got
            if now - self._last < _EVERY_S:
                return
            rate = (self._got - self._last_got) / (now - self._last)
            self._last, self._last_got = now, self._got
        of = f" of {size(self._total)}" if self._total else ""
        self._say(f"{self._name}: {size(self._got)}{of}, {size(rate)}/s")
