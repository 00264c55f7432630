# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store: published atomically under its digest, verified, removed without harm to others."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts import tree
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import (
    ArtifactError,
    shown,
    size,
)
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.layout import check_layout
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.pack import (
    MOST_BYTES,
    pack,
    unpack,
)
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store

ABOUT = {"name": "a", "type": "model", "tags": ["x"]}


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def folder_of(base: Path, **files: bytes) -> Path:
    for name, content in files.items():
        path = base / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return base


def put(store: Store, content: bytes, **record: Any) -> str:
    part = store.part(sha(content))
    part.write_bytes(content)
    store.add_file(part, sha(content), {**ABOUT, **record})
    return sha(content)


def test_a_file_is_published_under_its_digest(store: Store) -> None:
    assert not store.has(sha(b"model"))
    digest = put(store, b"model")
    path = store.path(digest)
    assert path == store.root / "artifacts" / "sha256" / digest[:2] / digest
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"model", 0o444)
    record = store.record(digest) or {}
    assert (record["name"], record["bytes"], record["kind"]) == ("a", 5, "file")
    assert not list((store.base / ".parts").iterdir())


def test_a_damaged_file_is_removed_and_not_published(store: Store, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"other")
    with pytest.raises(ArtifactError, match=r"a is damaged: .* it was discarded"):
        store.add_file(part, "ab" * 32, ABOUT)
    assert not part.exists()
    assert not any(p.is_file() for p in store.root.rglob("*"))


def test_a_trees_digest_is_stable(store: Store, tmp_path: Path) -> None:
    one = folder_of(tmp_path / "one", b=b"2", sub__a=b"1")
    two = folder_of(tmp_path / "two", sub__a=b"1", b=b"2")
    os.utime(two / "b", (1, 1))
    digest = store.add_tree(one, ABOUT)
    # computed once by hand from the canonical JSON, so that a release cannot rename what labs keep
    text = f'{{"b":["{sha(b"2")}",false],"sub/a":["{sha(b"1")}",false]}}'
    assert digest == sha(text.encode()) == store.add_tree(two, ABOUT)
    (two / "b").chmod(0o755)
    assert store.add_tree(two, ABOUT) != digest


def test_a_tree_shares_its_files_and_keeps_what_runs(store: Store, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "s", data=b"d", run=b"#!")
    (source / "run").chmod(0o755)
    path = store.path(store.add_tree(source, ABOUT))
    assert (path / "data").stat().st_ino == store.file_path(sha(b"d")).stat().st_ino
    assert (path / "run").stat().st_mode & 0o777 == 0o555
    assert (path / "data").stat().st_mode & 0o777 == 0o444
    assert (source / "data").stat().st_mode & 0o200, "the lab's own files are only read"


def test_a_tree_is_made_of_a_listing_and_refuses_what_is_missing(store: Store) -> None:
    put(store, b"1")
    files = {"a": tree.entry(sha(b"1"), 1, False), "b": tree.entry(sha(b"2"), 1, False)}
    with pytest.raises(ArtifactError, match="missing or damaged"):
        store.add_tree(files, ABOUT)
    assert not any((store.base / ".parts").iterdir())
    del files["b"]
    assert (store.path(store.add_tree(files, ABOUT)) / "a").read_bytes() == b"1"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "", ".", "a\nb", "a/./b", "a/"]
)
def test_unsafe_paths_are_refused(store: Store, path: str) -> None:
    put(store, b"1")
    with pytest.raises(ArtifactError, match="refused as the path"):
        store.add_tree({path: tree.entry(sha(b"1"), 1, False)}, ABOUT)


def test_a_file_that_is_also_a_folder_is_refused(store: Store) -> None:
    put(store, b"1")
    about = tree.entry(sha(b"1"), 1, False)
    with pytest.raises(ArtifactError, match="a file and a folder at once"):
        store.add_tree({"a": about, "a/b": about}, ABOUT)


def test_removing_leaves_what_others_need(store: Store, tmp_path: Path) -> None:
    both, own = b"b" * 100, b"o" * 10
    one = store.add_tree(folder_of(tmp_path / "1", both=both, own=own), ABOUT)
    two = store.add_tree(folder_of(tmp_path / "2", both=both), ABOUT)
    assert store.remove(one) == 10
    assert not store.has(one)
    assert (store.verify(two), store.loose()) == ([], [])
    assert store.remove(two) == 100
    assert not [p for p in store.base.rglob("*") if p.is_file() and ".locks" not in p.parts]


def test_damage_is_found(store: Store, tmp_path: Path) -> None:
    digest = store.add_tree(folder_of(tmp_path / "t", a=b"1", b=b"2"), ABOUT)
    assert store.verify(digest) == []
    path = store.path(digest)
    (path / "a").chmod(0o644)
    (path / "a").write_bytes(b"x")
    (path / "b").unlink()
    (path / "new").write_bytes(b"")
    found = " | ".join(store.verify(digest))
    assert "a is damaged" in found
    assert "b cannot be read" in found
    assert "new does not belong there" in found


def test_records_add_up(store: Store) -> None:
    digest = put(store, b"1", tags=["b"])
    first = store.record(digest)
    assert store.keep_file(digest, {"name": "other", "type": "file", "tags": ["b"]}) is False
    assert store.record(digest) == first
    assert store.keep_file(digest, {"name": "other", "type": "file", "tags": ["a"]}) is True
    assert (store.record(digest) or {})["tags"] == ["a", "b"]
    assert [r["digest"] for r in store.records()] == [digest]


def test_links_of_the_labs_own_folder_are_followed_but_not_round(
    store: Store, tmp_path: Path
) -> None:
    blobs = folder_of(tmp_path / "blobs", one=b"1")
    snapshot = tmp_path / "snapshot"
    snapshot.mkdir()
    (snapshot / "model").symlink_to(blobs / "one")
    digest = store.add_tree(snapshot, ABOUT)
    assert not (store.path(digest) / "model").is_symlink()
    (snapshot / "loop").symlink_to(snapshot)
    with pytest.raises(ArtifactError, match="no end"):
        store.add_tree(snapshot, ABOUT)
    (snapshot / "loop").unlink()
    os.mkfifo(snapshot / "pipe")
    with pytest.raises(ArtifactError, match="neither a file nor a folder"):
        store.add_tree(snapshot, ABOUT)


def test_many_files_travel_as_one(store: Store, tmp_path: Path) -> None:
    digest = store.add_tree(folder_of(tmp_path / "t", a=b"1", b__c=b"2", d=b"1"), ABOUT)
    large = put(store, bytes(MOST_BYTES))
    files = (store.record(digest) or {})["files"]
    wanted = [e["sha256"] for e in files.values()]
    packed = pack(store, [*wanted, large], tmp_path / "pack")
    assert sorted(packed) == sorted({sha(b"1"), sha(b"2")})
    there = Store(tmp_path / "there")
    assert sorted(unpack(there, tmp_path / "pack")) == sorted(packed)
    assert there.add_tree(files, ABOUT) == digest
    assert there.verify(digest) == []


def test_a_pack_that_lies_is_refused(store: Store, tmp_path: Path) -> None:
    put(store, b"true content")
    packfile = tmp_path / "pack"
    pack(store, [sha(b"true content")], packfile)
    there = Store(tmp_path / "there")
    packfile.write_bytes(packfile.read_bytes().replace(b"true content", b"evil content"))
    with pytest.raises(ArtifactError, match="damaged"):
        unpack(there, packfile)
    name = sha(b"true content").encode()
    packfile.write_bytes(packfile.read_bytes().replace(name, b"../" + name[3:]))
    with pytest.raises(ArtifactError, match=r"damaged|does not belong"):
        unpack(there, packfile)
    assert not any(p.is_file() for p in there.root.rglob("*"))


def test_a_layout_is_checked(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "d", list=b"a 1\nb 2", val__a=b"", val__b=b"")
    good = [
        {"path": "list", "lines": 2, "sha256": sha(b"a 1\nb 2")},
        {"path": "list", "md5": hashlib.md5(b"a 1\nb 2").hexdigest()},
        {"path": "val"},
        {"files": "val/*", "count": 2},
    ]
    assert check_layout(folder, good) == []
    bad = [
        {"path": "list", "lines": 3},
        {"path": "list", "md5": "0" * 32},
        {"path": "nothing"},
        {"files": "val/*.JPEG", "count": 50000},
    ]
    lines, md5, missing, count = check_layout(folder, bad)
    assert "lines 2, expected 3" in lines
    assert "md5 " in md5
    assert missing.endswith("nothing is missing")
    assert count.endswith("0 files, expected 50000")
    with pytest.raises(ArtifactError, match="no rule like"):
        check_layout(folder, [{"path": "list", "words": 3}])
    with pytest.raises(ArtifactError, match="refused"):
        check_layout(folder, [{"path": "../x"}])


def test_what_is_shown_holds_no_secret() -> None:
    url = "https://eve:pass@host:8/a?b=1&X-Amz-Signature=abc&dl=1&access_token=t"
    assert shown(url) == "https://host:8/a?b=1&X-Amz-Signature=…&dl=1&access_token=…"
    assert shown("/a/path@b") == "/a/path@b"
    assert [size(n) for n in (5, 1500, 2e6, 3.4e9, 1.2e12)] == [
        "5 B",
        "1.5 kB",
        "2 MB",
        "3.4 GB",
        "1.2 TB",
    ]
