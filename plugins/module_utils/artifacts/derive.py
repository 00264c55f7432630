# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifacts that a program of upstream's makes of others, on this host.

    derived/<key>/out/            what the program made; the artifact stays here
    derived/<key>/work/           its working directory, gone afterwards
    derived/<key>/complete.json   written last; without it everything is made anew

The key is the sha256 of the command, of the contents of its sources and of the source tree.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Mapping

from ..host_store import locked
from ..job import process, records
from .base import Access, ArtifactError
from .layout import check_layout
from .obtain import Obtained, obtain
from .store import Store

LIMIT_S = 24 * 3600.0  # upstream states no figure; its longest preparations take hours
_POLL_S = 0.5
_NOWHERE = "http://127.0.0.1:9"  # a port that nobody listens on: downloads fail at once
_OFFLINE = {
    **dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), _NOWHERE),
    **dict.fromkeys(("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"), "1"),
}
# how it is made; what it needs of the disk is no part of what it is
_CONTENT = ("command", "links", "variables", "network")


@dataclass(frozen=True)
class Recipe:
    """How to make one artifact here: `sources` go from placeholder to (path, sha256), `tree` is
    the source tree as (path, sha256) and `folder` the program's folder in it, `python` the
    interpreter. `derive` and `layout` are the catalog's."""

    name: str
    type: str
    derive: Mapping[str, Any]
    layout: list[dict[str, Any]]
    sources: Mapping[str, tuple[str, str]]
    tree: tuple[str, str]
    folder: str
    python: str

    def key(self) -> str:
        """Return the sha256 (hex) of all that decides what is made."""
        content = {name: self.derive.get(name) for name in _CONTENT}
        content["from"] = {word: sha256 for word, (_path, sha256) in self.sources.items()}
        content["tree"] = [self.tree[1], self.folder]
        text = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def places(self, folder: Path) -> dict[str, str]:
        """Return what the placeholders stand for when it is made in `folder`."""
        return {
            **{word: path for word, (path, _sha256) in self.sources.items()},
            "python": self.python,
            "tree": self.tree[0],
            "folder": f"{self.tree[0]}/{self.folder}",
            "out": str(folder / "out"),
        }


def missing_programs(what: Mapping[str, Any]) -> list[str]:
    """Return the programs of the system that the catalog's `derive` names and this host lacks; the
    packages that bring them have the same names."""
    return [p for p in what.get("programs") or () if not shutil.which(p, path=os.defpath)]


def find(store: Store, recipe: Recipe) -> Obtained | None:
    """Return the artifact where it was made before and is unchanged, else None."""
    return _find(store, _folder(store, recipe))


def make(
    store: Store, recipe: Recipe, environment: Mapping[str, str], limit_s: float = LIMIT_S
) -> Obtained:
    """Have the artifact, made now if need be; one process at a time makes it.

    `environment` is for a program that downloads. Its output goes to `<root>/logs`. What a killed
    call left behind, processes too, is removed first. Raises ArtifactError when the program fails,
    takes longer than `limit_s` seconds, or makes something else than the layout says.
    """
    folder = _folder(store, recipe)
    with locked(str(folder.with_name(f"{folder.name}.lock"))):
        found = _find(store, folder)
        if found:
            return found
        _clear(folder)
        need = int(float(recipe.derive.get("needs_gb") or 0) * 1e9)
        store.room(need, f"making {recipe.name}")
        for name in ("out", "work"):
            (folder / name).mkdir(parents=True)
        try:
            digest = _made(store, recipe, folder, environment, limit_s)
        except BaseException:
            _clear(folder)
            raise
        shutil.rmtree(folder / "work")
        records.write_json(folder / "complete.json", {"sha256": digest, "name": recipe.name})
    return Obtained(digest, folder / "out", True, "layout")


def _folder(store: Store, recipe: Recipe) -> Path:
    return store.root / "derived" / recipe.key()[:16]


def _find(store: Store, folder: Path) -> Obtained | None:
    digest = (records.read_json(folder / "complete.json") or {}).get("sha256")
    path = store.find(digest) if digest else None
    return Obtained(str(digest), path, False, "layout") if path else None


def _mark(folder: Path) -> tuple[str, str]:
    """Return the variable by which a program's processes are known, whoever started them."""
    return "BENCHFLEET_DERIVED", str(folder)


def _clear(folder: Path) -> None:
    process.kill_marked("=".join(_mark(folder)))
    if folder.exists():
        shutil.rmtree(folder)


def _made(
    store: Store, recipe: Recipe, folder: Path, environment: Mapping[str, str], limit_s: float
) -> str:
    """Run the program and register what it made; return its digest."""
    places = recipe.places(folder)
    for link in recipe.derive.get("links") or ():
        name = posixpath.basename(link.rstrip("/"))
        (folder / "work" / name).symlink_to(f"{places['folder']}/{link}")
    log = store.root / "logs" / f"derive-{recipe.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_bytes(b"")
    argv = [word.format_map(places) for word in recipe.derive["command"]]
    said = _run(argv, folder, _variables(recipe, folder, environment), log, limit_s)
    problems = [said] if said else check_layout(folder / "out", recipe.layout)
    if problems:
        raise ArtifactError(
            f"{recipe.name} could not be made: {'; '.join(problems[:3])}. Its output: {log}"
        )
    spec = {
        "name": recipe.name,
        "type": recipe.type,
        "origins": [{"path": places["out"]}],
        "tags": ["derived", recipe.type],
    }
    return obtain(store, spec, Access(), lambda _line: None).digest


def _variables(recipe: Recipe, folder: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the program's whole environment: with the lab's way out where it downloads, else
    with none; its caches are its own."""
    own = {k: v for k, v in (recipe.derive.get("variables") or {}).items() if v is not None}
    places = recipe.places(folder)
    mark, value = _mark(folder)
    return process.base_env(
        {
            **(environment if recipe.derive.get("network") else _OFFLINE),
            "PATH": f"{posixpath.dirname(recipe.python)}:{os.defpath}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HOME": str(folder / "work"),
            "HF_HOME": str(folder / "work" / "huggingface"),
            **{name: str(text).format_map(places) for name, text in own.items()},
            mark: value,
        }
    )


def _run(
    argv: list[str], folder: Path, env: Mapping[str, str], log: Path, limit_s: float
) -> str | None:
    """Run the program to its end; return why it failed, None when it did not."""
    program = next((w for w in argv[1:] if not w.startswith("-")), argv[0])
    try:
        pid = process.start(argv, folder / "work", env, log)
    except OSError as e:
        return f"{argv[0]} does not start: {e.strerror}"
    end = time.monotonic() + limit_s
    status = None
    try:
        while status is None and time.monotonic() < end:
            ended, raw = os.waitpid(pid, os.WNOHANG)
            if ended:
                status = raw
            else:
                time.sleep(_POLL_S)
    finally:
        process.kill_marked("=".join(_mark(folder)))
    if status is None:
        os.waitpid(pid, 0)
        return f"{program} did not end within {limit_s:.0f} s"
    if status == 0:
        return None
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else str(os.WEXITSTATUS(status))
    return f"{program} ended with {how}: {records.last_line(log) or 'it said nothing'}"
