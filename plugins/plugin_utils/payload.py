# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an implementation sends to a host: its harness, the supervisor, and the locks of its
environment."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..module_utils import python_env
from .catalog import OURS, Catalog
from .digest import canonical
from .errors import BenchfleetError

COLLECTION = OURS.parent
ROLES = COLLECTION / "roles"
_MAIN = b"import sys\n\nfrom benchfleet_job.supervisor import main\n\nsys.exit(main(sys.argv[1]))\n"


def job_files() -> dict[str, Any]:
    """Return the supervisor as a folder to publish: {"name", "digest", "files"}."""
    source = COLLECTION / "plugins" / "module_utils" / "job"
    files = {f"benchfleet_job/{p.name}": p.read_bytes() for p in sorted(source.glob("*.py"))}
    return _folder("job", files | {"__main__.py": _MAIN})


def name(cell: Mapping[str, Any]) -> str:
    """Return the name under which cells that need the same payload share it."""
    how = cell["recipe"]
    locks = ",".join(f"{word}={lock}" for word, lock in sorted(how["environments"].items()))
    loadgen = cell.get("loadgen_digest") or cell["loadgen_version"]
    return ":".join((cell["implementation"], how["driver"] or "", locks, loadgen))


def harness(catalog: Catalog, cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the harness of a planned cell needs on its host.

    Keys: driver (the probe's fact that the device needs, or None), driver_minimum (its oldest
    version, or None), folder (as job_files), envs (placeholder -> as `environment` returns it),
    code and lock (digests). The cell's `loadgen_digest` is a tree of LoadGen in place of the locked
    one, or None.
    Raises BenchfleetError when there is no lock of that name or LoadGen version.
    """
    how, implementation = cell["recipe"], cell["implementation"]
    root = ROLES / catalog.get("implementations", implementation)["role"] / "files"
    files = {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*.py")) if p.is_file()
    }
    folder = _folder(implementation, files)
    envs = {word: _environment(word, lock, cell) for word, lock in how["environments"].items()}
    return {
        "driver": how["driver"],
        "driver_minimum": how["driver_minimum"],
        "folder": folder,
        "envs": envs,
        "code": folder["digest"],
        "lock": canonical(sorted(env["name"] for env in envs.values())),
    }


def _environment(word: str, lock: str, cell: Mapping[str, Any]) -> dict[str, Any]:
    """Return one environment of a cell. An accuracy script reads a log that LoadGen has left; it
    has no use for LoadGen itself."""
    if word != "python":
        return environment([lock])
    made = environment([lock], cell["loadgen_version"], cell.get("loadgen_digest") or "")
    own = cell["recipe"]["wheels"]
    return made | ({"wheels": list(own)} if own else {})


def environment(
    locks: list[str],
    loadgen_version: str = "",
    loadgen_source: str = "",
    own: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return a locked environment: {name, requirements, loadgen, wheels} and, if it is given,
    loadgen_source.

    `locks` are named as in the catalog, `own` are locked texts by file name. An empty version
    leaves LoadGen out; `loadgen_source` is a folder on the host, or the digest of a tree there,
    whose sources are built in its place. The name says what is in it, so that whoever needs the
    same gets the same.
    Raises BenchfleetError when there is no such lock, or a text is not locked.
    """
    loadgen = f"loadgen-{loadgen_version}.txt" if loadgen_version else ""
    names = ([f"loadgen/{loadgen}"] if loadgen else []) + locks
    texts = {Path(n).name: _lock(lock_path(n)) for n in names} | dict(own or {})
    if not texts:
        raise BenchfleetError("an environment needs a lock: name LoadGen's version or a lock file.")
    read = {name: python_env.read(text) for name, text in texts.items()}
    for name, lock in read.items():
        if not lock.parts() or "--hash=" not in lock.text:
            raise BenchfleetError(f"{name} holds no hash-locked packages.")
    machines = [set(lock.machines) for lock in read.values() if lock.machines]
    digest = canonical([texts, loadgen_source] if loadgen_source else texts)
    found = {
        "name": f"{Path([*texts][-1]).stem}-{digest[:12]}",
        "requirements": texts,
        "loadgen": loadgen,
        "wheels": sorted(set.intersection(*machines)) if machines else [],
    }
    return found | ({"loadgen_source": loadgen_source} if loadgen_source else {})


def lock_path(name: str) -> Path:
    """Return the path of the locked requirements that a catalog names `<role>/<file>`.

    A bare `<file>` is one of the role framework.
    """
    role, _slash, file = name.rpartition("/")
    return ROLES / (role or "framework") / "files" / "requirements" / file


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
