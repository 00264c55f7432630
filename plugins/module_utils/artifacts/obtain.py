# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring an artifact into a store from wherever its spec says that it can be had."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, Mapping
from urllib.parse import unquote, urlsplit

from . import archive, download, git, huggingface, mirror, mlcommons, paths, tree
from .base import Access, ArtifactError, Say, shown
from .errand import Errand, Taken
from .layout import check_layout
from .store import Store, is_digest

_Json = Dict[str, Any]
_KINDS = ("path", "url", "mlcommons", "hf", "git", "file")
_TAKERS = {"git": git.take, "mlcommons": mlcommons.take, "hf": huggingface.take, "path": paths.take}


@dataclass(frozen=True)
class Obtained:
    """An artifact that is here: `changed` tells whether it was not, `checked_by` by what it was
    found to be the right one."""

    digest: str
    path: Path
    changed: bool
    checked_by: str


@dataclass(frozen=True)
class Spec:
    """What an artifact is and where it can be had; `from_dict` reads the catalog's form of it."""

    name: str
    type: str = "file"
    origins: list[_Json] = field(default_factory=list)
    sha256: str | None = None
    bytes: int | None = None
    tags: list[str] = field(default_factory=list)

    @classmethod
    def from_dict(cls, spec: Mapping[str, Any]) -> Spec:
        """Check a spec. Raises ArtifactError that names what is wrong with it."""
        given = {k: v for k, v in spec.items() if v is not None}
        unknown = set(given) - set(cls.__dataclass_fields__)
        if unknown or not given.get("name"):
            what = f"unknown: {', '.join(sorted(unknown))}" if unknown else "it has no name"
            raise ArtifactError(f"artifact {given.get('name', '')}: {what}.")
        made = cls(**given)
        if made.sha256 and not is_digest(made.sha256):
            raise ArtifactError(f"{made.name}: {made.sha256} is not a sha256 (64 digits a-f, 0-9).")
        for origin in made.origins:
            if sum(k in origin for k in _KINDS) != 1:
                raise ArtifactError(
                    f"{made.name}: an origin has one of {', '.join(_KINDS)}, not {sorted(origin)}."
                )
        return made


def resolve(store: Store, spec: Mapping[str, Any]) -> str | None:
    """Return the digest of an artifact as far as it is known without asking anyone: the spec's, an
    origin's own, or what an origin gave the first time."""
    asked = Spec.from_dict(spec)
    if asked.sha256:
        return asked.sha256
    for origin in asked.origins:
        found = origin.get("sha256") if not origin.get("unpack") else None
        found = found or store.pin(_canonical(origin))
        if found:
            return str(found)
    return None


def obtain(store: Store, spec: Mapping[str, Any], access: Access, say: Say) -> Obtained:
    """Bring an artifact into the store, or find that it is there.

    Locks, checks the disk's room, goes on with what an earlier call left, verifies and publishes.
    Raises ArtifactError with what each origin said.
    """
    asked = Spec.from_dict(spec)
    here = _here(store, asked)
    if here:
        return here
    key = resolve(store, spec) or store.pin_name({"origins": asked.origins})
    with store.lock(key, say):
        # another process may have brought it while we waited
        return _here(store, asked) or _bring(store, asked, access, say)


def _here(store: Store, spec: Spec) -> Obtained | None:
    digest = resolve(store, vars(spec))
    if not digest or not store.has(digest):
        return None
    record = store.record(digest)
    if record is None:
        record = {**_about(spec), "checked_by": "sha256"}
        store.keep_file(digest, record)
    elif set(spec.tags) - set(record.get("tags", [])):
        store.tag(digest, spec.tags)
    return Obtained(digest, store.path(digest), False, record.get("checked_by", "sha256"))


def _bring(store: Store, spec: Spec, access: Access, say: Say) -> Obtained:
    """Ask one origin after the other: the lab's own place, the mirror, then the web."""
    digest = resolve(store, vars(spec))
    errand = Errand(store, spec.name, access, say, digest, spec.bytes)
    near = [o for o in spec.origins if _near(o)]
    ways = [*near, *([{"mirror": access.mirror}] if access.mirror else [])]
    ways += [o for o in spec.origins if o not in near]
    if not ways:
        raise ArtifactError(f"{spec.name} is not here, and nothing says where it can be had.")
    faults = []
    for origin in ways:
        try:
            return _from(errand, spec, origin)
        except ArtifactError as e:
            faults.append(str(e))
            if origin is not ways[-1]:
                say(f"{e} Trying the next origin.")
    if len(faults) == 1:
        raise ArtifactError(faults[0])
    raise ArtifactError("\n  ".join([f"{spec.name} could not be obtained:", *faults]))


def _from(errand: Errand, spec: Spec, origin: _Json) -> Obtained:
    """Take what one origin gives, compare it with what is known, and publish it."""
    store = errand.store
    taken = _take(errand, spec, origin)
    digest = (
        next(iter(taken.files.values()))["sha256"] if taken.single else tree.digest(taken.files)
    )
    if errand.sha256 and digest != errand.sha256:
        store.drop([e["sha256"] for e in taken.files.values()])
        raise ArtifactError(
            f"{spec.name} of {_where(origin)} has the digest {digest}, expected {errand.sha256};"
            " it was discarded."
        )
    record = {**_about(spec), "origin": _canonical(origin), "checked_by": taken.checked_by}
    if taken.unverified:
        record["unverified"] = taken.unverified
        errand.say(f"{spec.name}: upstream has no digest of {taken.unverified} files; unverified")
    if taken.in_place:
        kind = "file" if taken.single else "tree"
        more = {"kind": kind, "bytes": tree.total(taken.files), "files": taken.files}
        changed = store.keep_in_place(digest, taken.in_place, {**record, **more})
        return Obtained(digest, Path(taken.in_place), changed, taken.checked_by)
    changed = store.record(digest) is None or not store.has(digest)
    if taken.single:
        store.keep_file(digest, record)
    else:
        store.add_tree(taken.files, record)
    if taken.notes:
        taken.notes.unlink()
    # what the lab itself names needs no memory of what came first
    remembered = spec.origins if "mirror" in origin else [origin]
    for known in remembered if not spec.sha256 else []:
        if not _near(known):
            store.set_pin(_canonical(known), digest)
    return Obtained(digest, store.path(digest), changed, taken.checked_by)


def _take(errand: Errand, spec: Spec, origin: _Json) -> Taken:
    if "mirror" in origin:
        return mirror.take(errand, [_canonical(o) for o in spec.origins])
    if "url" in origin:
        return _url(errand, origin)
    if "file" in origin:
        raise ArtifactError(f"{spec.name} is shipped with the catalog; it is pushed, not fetched.")
    kind = next(k for k in _TAKERS if k in origin)
    return _TAKERS[kind](errand, origin)


def _url(errand: Errand, origin: _Json) -> Taken:
    """Take a file of the web or of this host by its address, unpacked where the origin says so."""
    kind = origin.get("unpack")
    sha256 = origin.get("sha256") or (None if kind else errand.sha256)
    md5 = origin.get("md5")
    if not (sha256 or md5 or errand.sha256):
        raise ArtifactError(
            f"{shown(origin['url'])} is downloaded only with a digest to check it by, and none is"
            f" published: give the sha256 of {errand.name}."
        )
    parts = urlsplit(origin["url"])
    name = unquote(parts.path).rstrip("/").rsplit("/", 1)[-1] or errand.name
    if parts.scheme == "file":
        found = _local(errand, Path(unquote(parts.path)), md5)
    else:
        remote = download.Remote(
            shown(origin["url"]), origin["url"], sha256=sha256, md5=md5, more=_REFUSED
        )
        found = errand.bring(remote, errand.progress(errand.bytes))
    checked_by = "sha256" if sha256 or errand.sha256 else "md5"
    if not kind:
        return Taken({name: found}, checked_by, single=True)
    whole = errand.store.file_path(found["sha256"])
    try:
        files, single = archive.unpack(errand.store, whole, kind, name)
    finally:
        errand.store.drop([found["sha256"]])
    return Taken(files, checked_by, single=single)


def _local(errand: Errand, path: Path, md5: str | None) -> _Json:
    """Take a file by a file: address, as checked as one of the web."""
    wrong = check_layout(path.parent, [{"path": path.name, **({"md5": md5} if md5 else {})}])
    if wrong:
        raise ArtifactError(f"{errand.name}: {wrong[0]}.")
    return errand.store.take_file(path)


_REFUSED = "Accept its licence there, or give a copy of your own."


def _near(origin: _Json) -> bool:
    """Return whether an origin is a place of the lab's, whose content the lab may renew."""
    return "path" in origin


def _about(spec: Spec) -> _Json:
    return {"name": spec.name, "type": spec.type, "tags": sorted(spec.tags)}


def _canonical(origin: _Json) -> _Json:
    """Return an origin as its pin is named and its record shows it: without passwords."""
    clean: _Json = {}
    for key, value in origin.items():
        clean[key] = shown(value) if isinstance(value, str) else value
        if isinstance(value, dict):
            clean[key] = _canonical(value)
    return clean


def _where(origin: _Json) -> str:
    kind = next(k for k in (*_KINDS, "mirror") if k in origin)
    return shown(str(origin[kind]))
