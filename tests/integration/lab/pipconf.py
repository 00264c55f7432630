"""This machine's way to the package index, in the shape that a host of the lab can use."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlparse

# pip settings that decide where packages come from and whether the way there is trusted.
KEYS = ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout")
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
CA_IN_HOST = "/usr/local/share/benchfleet-lab/ca.pem"


@dataclass(frozen=True)
class PipAccess:
    """`conf` is the text of /etc/pip.conf, `environment` of /etc/environment, `mounts` are
    folders that both refer to, `ca` is a bundle of certificates or None."""

    conf: str
    environment: str
    mounts: tuple[Path, ...]
    ca: Path | None


def _settings() -> dict[str, str]:
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    found: dict[str, str] = {}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        # ":env:.cert", "global.cert", "install.find-links"; the first one wins
        name = key.rpartition(".")[2].replace("default-timeout", "timeout")
        found.setdefault(name, value.strip("'\"").replace("\\n", " "))
    return found


def _folders(settings: dict[str, str]) -> tuple[Path, ...]:
    """Folders of this machine that pip settings name, topmost ones only."""
    named: set[Path] = set()
    for key in ("index-url", "extra-index-url", "find-links"):
        for word in settings.get(key, "").split():
            path = Path(urlparse(word).path) if word.startswith("file:") else Path(word)
            if path.is_absolute() and path.is_dir():
                named.add(path.parent if path.name == "simple" else path)
    return tuple(sorted(p for p in named if not any(q in p.parents for q in named)))


def pip_access() -> PipAccess:
    """Read pip's settings and the environment of this process."""
    settings = _settings()
    bundle = settings.get("cert") or os.environ.get("SSL_CERT_FILE", "")
    ca = Path(bundle) if bundle and Path(bundle).is_file() else None
    lines = ["[global]", "disable-pip-version-check = true"]
    lines += [f"{key} = {settings[key]}" for key in KEYS if settings.get(key)]
    environment = []
    if ca:
        lines.append(f"cert = {CA_IN_HOST}")
        environment.append(f"SSL_CERT_FILE={CA_IN_HOST}")
    for name in PROXIES:
        value = os.environ.get(name) or os.environ.get(name.upper())
        if value:
            environment += [f"{name}={value}", f"{name.upper()}={value}"]
    return PipAccess(
        conf="\n".join(lines) + "\n",
        environment="\n".join(environment) + "\n",
        mounts=_folders(settings),
        ca=ca,
    )
