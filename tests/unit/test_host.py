# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host keeps: published atomically and verified."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import host_store
from ansible_collections.benchfleet.mlperf.plugins.module_utils.host_store import HostError

FILES = [
    {"path": "a.py", "content": base64.b64encode(b"one\n").decode()},
    {"path": "sub/b.py", "content": base64.b64encode(b"\0two").decode()},
]


def write(folder: Path, check: bool = False) -> bool:
    return host_store.write_files(str(folder), FILES, check)


def test_files_are_written_once_and_completely(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "onnx-1"
    assert write(folder, check=True) is True
    assert list(tmp_path.iterdir()) == []
    assert write(folder) is True
    assert (folder / "a.py").read_bytes() == b"one\n"
    assert (folder / "sub" / "b.py").read_bytes() == b"\0two"
    assert (write(folder), write(folder, check=True)) == (False, False)
    assert not list(folder.parent.glob(".partial-*"))


def test_a_folder_that_is_not_complete_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "onnx-1"
    write(folder)
    (folder / ".complete").unlink()
    (folder / "a.py").write_text("broken")
    assert write(folder) is True
    assert (folder / "a.py").read_bytes() == b"one\n"


def test_nothing_partial_stays_after_a_fault(tmp_path: Path) -> None:
    bad = [*FILES, {"path": "a.py/x", "content": ""}]
    with pytest.raises(OSError, match=r"a\.py"):
        host_store.write_files(str(tmp_path / "f"), bad, False)
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_is_published_under_its_digest(tmp_path: Path) -> None:
    sha256 = hashlib.sha256(b"model").hexdigest()
    part = tmp_path / "part"
    part.write_bytes(b"model")
    home = str(tmp_path)
    assert host_store.missing_artifacts(home, [sha256]) == [sha256]
    host_store.publish_artifact(home, sha256, str(part))
    final = Path(host_store.artifact_path(home, sha256))
    assert (final.read_bytes(), final.stat().st_mode & 0o777) == (b"model", 0o444)
    assert host_store.missing_artifacts(home, [sha256]) == []
    assert not part.exists()


def test_a_damaged_artifact_is_removed_and_not_published(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"other")
    with pytest.raises(HostError, match="damaged"):
        host_store.publish_artifact(str(tmp_path), "ab" * 32, str(part))
    assert not any(p.is_file() for p in tmp_path.rglob("*"))


def test_a_file_is_hashed_again_only_when_size_or_time_changed(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(b"12345")
    os.utime(path, (1000, 1000))
    first = host_store.path_digest(str(path), {})
    assert first == {"size": 5, "mtime": 1000, "sha256": hashlib.sha256(b"12345").hexdigest()}
    remembered = first | {"sha256": "remembered"}
    assert host_store.path_digest(str(path), remembered) == remembered
    os.utime(path, (1001, 1001))
    assert host_store.path_digest(str(path), remembered)["sha256"] == first["sha256"]


def test_a_folders_digest_covers_names_and_contents(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()

    def digest() -> Any:
        return host_store.path_digest(str(folder), {})["sha256"]

    seen = [digest()]
    for name, content in (("a.npy", b"1"), ("b.npy", b"2"), ("a.npy", b"3")):
        (folder / name).write_bytes(content)
        seen.append(digest())
    (folder / "b.npy").rename(folder / "c.npy")
    seen.append(digest())
    assert len(set(seen)) == 5
    assert digest() == seen[-1]


def test_a_path_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"nothing cannot be read on this host: No such file"):
        host_store.path_digest(str(tmp_path / "nothing"), {})
