# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host keeps: published atomically and verified."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import host_store

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
