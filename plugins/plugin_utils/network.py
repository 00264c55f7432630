# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's way to the outside: proxies, its own certificate authorities, package indexes.

Said once as settings, they reach every download, pip, uv, git and build as environment variables,
on the controller and on the hosts. What holds a password travels apart from the rest, so that it is
never shown.
"""

from __future__ import annotations

import base64
import hashlib
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..module_utils.artifacts.base import Access
from .errors import BenchfleetError, nearest

# The options of a task that `Settings.of` reads, and those that `Access` takes beside them.
SPEC: dict[str, Any] = {
    "proxy": {"type": "dict", "default": {}},
    "ca_bundle": {"type": "str", "default": ""},
    "pip_index_url": {"type": "str", "default": ""},
    "pip_extra_index_urls": {"type": "list", "elements": "str", "default": []},
    "environment": {"type": "dict", "default": {}},
}
ACCESS_SPEC: dict[str, Any] = {
    **SPEC,
    "hf_endpoint": {"type": "str", "default": Access.hf_endpoint},
    "mirror": {"type": "str", "default": ""},
}
OPTIONS: dict[str, Any] = {name: option["default"] for name, option in ACCESS_SPEC.items()}
_PROXIES = {"http": "http_proxy", "https": "https_proxy", "no": "no_proxy"}
_CA_VARIABLES = (
    *("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT"),
)
_SECRET_NAME = re.compile(r"TOKEN|SECRET|PASSW|CREDENTIAL|_KEY$", re.I)
_SECRET_VALUE = re.compile(r"://[^/@\s]+@")


@dataclass(frozen=True)
class Settings:
    """The lab's settings. `certificates` is the text of all authorities: the controller's own and
    those of the lab; empty when the lab named none."""

    proxy: Mapping[str, str] = field(default_factory=dict)
    certificates: str = field(default="", repr=False)
    ca_path: str = ""
    pip_index_url: str = field(default="", repr=False)
    pip_extra_index_urls: tuple[str, ...] = field(default=(), repr=False)
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Settings:
        """Read the options of a task. Raises BenchfleetError for one that cannot be used."""
        proxy = {str(k): str(v) for k, v in (options["proxy"] or {}).items()}
        for name in proxy:
            if name not in _PROXIES:
                raise BenchfleetError(f"benchfleet_proxy: no '{name}'.{nearest(name, _PROXIES)}")
        path = str(options["ca_bundle"] or "")
        return cls(
            proxy=proxy,
            certificates=_certificates(path) if path else "",
            ca_path=path,
            pip_index_url=str(options["pip_index_url"] or ""),
            pip_extra_index_urls=tuple(str(u) for u in options["pip_extra_index_urls"] or ()),
            environment={str(k): str(v) for k, v in (options["environment"] or {}).items()},
        )

    def ca_folder(self) -> dict[str, Any] | None:
        """Return the certificates as a folder to publish: {"name", "files"}; None without any."""
        if not self.certificates:
            return None
        content = self.certificates.encode()
        name = f"ca-{hashlib.sha256(content).hexdigest()[:12]}"
        entry = {"path": "ca.pem", "content": base64.b64encode(content).decode()}
        return {"name": name, "files": [entry]}

    def here(self, folder: Path) -> dict[str, str]:
        """Return the variables for programs of the controller; `folder` takes the certificates."""
        published = self.ca_folder()
        if published is None:
            return self._variables("")
        path = folder / f"{published['name']}.pem"
        if not path.exists():
            folder.mkdir(parents=True, exist_ok=True)
            path.write_text(self.certificates, encoding="utf-8")
        return self._variables(str(path))

    def on_host(self, home: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return the variables for programs of a host, and those of them that are secret."""
        published = self.ca_folder()
        path = f"{home}/src/{published['name']}/ca.pem" if published else ""
        every = self._variables(path)
        secret = {
            k: v for k, v in every.items() if _SECRET_NAME.search(k) or _SECRET_VALUE.search(v)
        }
        return {k: v for k, v in every.items() if k not in secret}, secret

    def _variables(self, ca_path: str) -> dict[str, str]:
        found = {}
        for name, value in self.proxy.items():
            found[_PROXIES[name]] = found[_PROXIES[name].upper()] = value
        if ca_path:
            found |= dict.fromkeys(_CA_VARIABLES, ca_path)
        if self.pip_index_url:
            found["PIP_INDEX_URL"] = found["UV_DEFAULT_INDEX"] = self.pip_index_url
        if self.pip_extra_index_urls:
            found["PIP_EXTRA_INDEX_URL"] = found["UV_INDEX"] = " ".join(self.pip_extra_index_urls)
        return {**found, **self.environment}


def access(options: Mapping[str, Any], settings: Settings, store: Path) -> Access:
    """Return how the controller, whose store is the folder `store`, reaches origins."""
    return Access(options["hf_endpoint"], options["mirror"], settings.here(store / "ca"))


def _certificates(path: str) -> str:
    """Return the controller's own authorities and the lab's as one text."""
    try:
        own = Path(path).expanduser().read_text(encoding="ascii")
    except (OSError, ValueError):
        own = ""
    if "BEGIN CERTIFICATE" not in own:
        raise BenchfleetError(
            f"benchfleet_ca_bundle={path} is no file of PEM certificates on this controller."
        )
    known = _system_certificates()
    return known if own.strip() in known else known + own


def _system_certificates() -> str:
    """Return the controller's own authorities; Debian's OpenSSL knows them as a folder only."""
    found = ssl.get_default_verify_paths()
    hashed = sorted(Path(found.capath).glob("*.[0-9]")) if found.capath else []
    files = [Path(found.cafile)] if found.cafile else hashed
    texts = [f.read_text(encoding="utf-8", errors="replace") for f in files]
    return "".join(f"{text.strip()}\n" for text in texts)
