# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an implementation sends to a host: its harness, the supervisor, and the locks of its
environment."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from .catalog import OURS, Catalog
from .digest import canonical
from .errors import BenchfleetError

COLLECTION = OURS.parent
_MAIN = b"import sys\n\nfrom benchfleet_job.supervisor import main\n\nsys.exit(main(sys.argv[1]))\n"


def job_files() -> dict[str, Any]:
    """Return the supervisor as a folder to publish: {"name", "digest", "files"}."""
    source = COLLECTION / "plugins" / "module_utils" / "job"
    files = {f"benchfleet_job/{p.name}": p.read_bytes() for p in sorted(source.glob("*.py"))}
    return _folder("job", files | {"__main__.py": _MAIN})


def harness(catalog: Catalog, name: str, device: str, loadgen_version: str) -> dict[str, Any]:
    """Return an implementation's harness folder and locked environment for a device and LoadGen
    version.

    Keys: driver (the probe's fact that the device needs, or None), driver_minimum (its oldest
    version, or None), folder (as job_files), env
    {name, requirements, loadgen, wheels}, code and lock (digests).
    Raises BenchfleetError when there is no lock for that version.
    """
    implementation = catalog.get("implementations", name)
    root = COLLECTION / "roles" / implementation["role"] / "files"
    files = {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.py")) if p.is_file()
    }
    folder = _folder(name, files)
    lock = implementation["devices"][device]
    loadgen = f"loadgen-{loadgen_version}.txt"
    texts = {n: _lock(root / "requirements" / n) for n in (loadgen, lock["requirements"])}
    digest = canonical(texts)
    env = {
        "name": f"{name}-{device}-{digest[:12]}",
        "requirements": texts,
        "loadgen": loadgen,
        "wheels": lock["wheels"],
    }
    return {
        "driver": lock.get("driver"),
        "driver_minimum": lock.get("driver_minimum"),
        "folder": folder,
        "env": env,
        "code": folder["digest"],
        "lock": digest,
    }


def _lock(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        known = ", ".join(sorted(p.name for p in path.parent.glob("*.txt")))
        raise BenchfleetError(
            f"there is no locked requirements file {path.name}; there are: {known}."
        ) from None


def _folder(name: str, files: dict[str, bytes]) -> dict[str, Any]:
    digest = canonical({n: hashlib.sha256(c).hexdigest() for n, c in files.items()})
    entries = [{"path": n, "content": base64.b64encode(c).decode()} for n, c in files.items()]
    return {"name": f"{name}-{digest[:12]}", "digest": digest, "files": entries}
