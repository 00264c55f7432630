# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes that die, wait for each other, and disks that fill up: nothing half stays."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import ArtifactError
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()
COLLECTIONS = Path(__file__).resolve().parents[3] / "collections"
OBTAIN = """
import json, sys
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import Access
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.obtain import obtain
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
done = obtain(Store(sys.argv[1]), json.loads(sys.argv[2]), Access(), lambda line: None)
print(done.changed)
"""


def start(store: Store, spec: dict[str, Any]) -> subprocess.Popen[str]:
    env = {**os.environ, "PYTHONPATH": str(COLLECTIONS)}
    argv = [sys.executable, "-c", OBTAIN, str(store.root), json.dumps(spec)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env)


def test_a_killed_download_is_completed_by_the_next(bring: Any, server: Any, store: Store) -> None:
    server.slow_s = 0.01
    spec = {"name": "m", "sha256": SHA, "origins": [{"url": f"{server.url}/m"}]}
    part = store.part(SHA)
    with start(store, spec) as process:
        end = time.monotonic() + 20
        while not (part.exists() and part.stat().st_size > 100_000) and time.monotonic() < end:
            time.sleep(0.01)
        process.kill()
    have = part.stat().st_size
    assert 100_000 < have < len(CONTENT)
    assert not store.has(SHA)
    assert store.records() == []
    server.slow_s = 0
    done = bring(*spec["origins"], sha256=SHA)
    assert done.path.read_bytes() == CONTENT
    assert server.asked[-1][2] == f"bytes={have}-"


def test_processes_that_want_the_same_download_it_once(server: Any, store: Store) -> None:
    server.slow_s = 0.002
    spec = {
        "name": "m",
        "origins": [{"url": f"{server.url}/m", "md5": hashlib.md5(CONTENT).hexdigest()}],
    }
    processes = [start(store, spec) for _n in range(3)]
    said = sorted(p.communicate(timeout=60)[0].strip() for p in processes)
    assert said == ["False", "False", "True"]
    assert len(server.asked) == 1


def test_a_crash_while_a_tree_is_made_leaves_no_tree(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "a").write_bytes(b"1")

    def die() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.sync", die)
    with pytest.raises(KeyboardInterrupt):
        store.add_tree(tmp_path / "t", {"name": "t"})
    assert store.records() == []
    assert not [p for p in (store.base / "trees").rglob("*") if len(p.name) == 64]
    monkeypatch.undo()
    digest = store.add_tree(tmp_path / "t", {"name": "t"})
    assert store.verify(digest) == []


@pytest.fixture(name="tiny")
def _tiny(tmp_path: Path) -> Iterator[Path]:
    """A file system of 65 MB, just over what the store leaves free."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=65m", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("a small file system can be mounted by root only")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_too_small(bring: Any, server: Any, tiny: Path) -> None:
    bring.store = Store(tiny)
    server.files["/big"] = bytes(3 << 20)
    sha256 = hashlib.sha256(server.files["/big"]).hexdigest()
    with pytest.raises(ArtifactError, match=r"needs 3 MB, .* has 6\d MB free"):
        bring({"url": f"{server.url}/big"}, sha256=sha256)
    # a body of unknown length: told when the disk is full, and the part is no artifact
    server.files["/big"] = bytes(80 << 20)
    server.chunked = True
    with pytest.raises(ArtifactError, match=r"needs 0 MB|No space left on device"):
        bring({"url": f"{server.url}/big"}, sha256=sha256)
    assert bring.store.records() == []
