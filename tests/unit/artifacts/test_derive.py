# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program makes an artifact of others: once, in a place of its own, whatever happens to it."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts import derive
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import ArtifactError
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store

# Stands in for a preparation program of upstream's.
PROGRAM = """
import os, pathlib, sys, time
raw, out = map(pathlib.Path, sys.argv[1:3])
count = pathlib.Path(os.environ["COUNT"])
count.write_text(count.read_text() + "x" if count.exists() else "x")
assert pathlib.Path("meta/list.txt").read_text() == "a\\n"
print("http_proxy is", os.environ.get("http_proxy"), "home", os.environ["HOME"])
(out / "half").write_text("half")
time.sleep(float(os.environ.get("SLEEP", "0")))
if "FAIL" in os.environ:
    sys.exit("no such case: 17")
(out / "half").unlink()
(out / "data.txt").write_text((raw / "raw.txt").read_text().upper())
pathlib.Path("scratch").write_text("not kept")
"""


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def recipe(tmp_path: Path) -> derive.Recipe:
    folder = tmp_path / "tree" / "bench"
    (folder / "meta").mkdir(parents=True)
    (folder / "meta" / "list.txt").write_text("a\n")
    (folder / "prepare.py").write_text(PROGRAM)
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "raw.txt").write_text("cases\n")
    return derive.Recipe(
        name="cases",
        type="dataset",
        derive={
            "command": ["{python}", "{folder}/prepare.py", "{raw}", "{out}"],
            "links": ["meta"],
            "variables": {"COUNT": str(tmp_path / "count")},
            "needs_gb": 0.001,
        },
        layout=[{"path": "data.txt", "lines": 1}],
        sources={"raw": (str(tmp_path / "raw"), "a" * 64)},
        tree=(str(tmp_path / "tree"), "b" * 64),
        folder="bench",
        python=sys.executable,
    )


def times(tmp_path: Path) -> int:
    return len((tmp_path / "count").read_text())


def with_variables(recipe: derive.Recipe, **more: str) -> derive.Recipe:
    own = dict(recipe.derive, variables=recipe.derive["variables"] | more)
    return dataclasses.replace(recipe, derive=own)


def test_it_is_made_once_and_found_afterwards(
    store: Store, recipe: derive.Recipe, tmp_path: Path
) -> None:
    assert derive.find(store, recipe) is None
    made = derive.make(store, recipe, {})
    assert made.changed
    assert (made.path / "data.txt").read_text() == "CASES\n"
    assert {p.name for p in made.path.parent.iterdir()} == {"out", "complete.json"}
    record = store.record(made.digest) or {}
    assert record["in_place"] == str(made.path)
    assert set(record["tags"]) == {"derived", "dataset"}
    again = derive.make(store, recipe, {})
    assert (again.changed, again.digest, times(tmp_path)) == (False, made.digest, 1)
    found = derive.find(store, recipe)
    assert found and found.path == made.path


def test_what_was_changed_is_made_anew(store: Store, recipe: derive.Recipe, tmp_path: Path) -> None:
    made = derive.make(store, recipe, {})
    (made.path / "data.txt").write_text("somebody else's\n")
    assert derive.find(store, recipe) is None
    assert derive.make(store, recipe, {}).digest == made.digest
    assert times(tmp_path) == 2


def test_command_sources_and_tree_decide_what_it_is(recipe: derive.Recipe) -> None:
    others = [
        dataclasses.replace(recipe, sources={"raw": ("/elsewhere", "c" * 64)}),
        dataclasses.replace(recipe, tree=(recipe.tree[0], "c" * 64)),
        with_variables(recipe, MORE="1"),
    ]
    assert len({r.key() for r in [recipe, *others]}) == 4
    moved = dataclasses.replace(
        recipe,
        sources={"raw": ("/elsewhere", "a" * 64)},
        python="/another/python",
        derive=dict(recipe.derive, needs_gb=3),
    )
    assert moved.key() == recipe.key()


def test_it_gets_no_internet_unless_it_downloads(store: Store, recipe: derive.Recipe) -> None:
    log = store.root / "logs" / "derive-cases.log"
    derive.make(store, recipe, {"http_proxy": "http://proxy:3128"})
    assert "http_proxy is http://127.0.0.1:9 home" in log.read_text()
    assert f"home {store.root}/derived/" in log.read_text()
    online = dataclasses.replace(recipe, derive=dict(recipe.derive, network=True))
    derive.make(store, online, {"http_proxy": "http://proxy:3128"})
    assert "http_proxy is http://proxy:3128 home" in log.read_text()


def test_a_failure_says_why_and_leaves_the_log_only(store: Store, recipe: derive.Recipe) -> None:
    with pytest.raises(ArtifactError, match=r"prepare.py ended with 1: no such case: 17") as e:
        derive.make(store, with_variables(recipe, FAIL="1"), {})
    assert str(store.root / "logs" / "derive-cases.log") in str(e.value)
    assert not [p for p in (store.root / "derived").iterdir() if p.is_dir()]


def test_what_comes_of_it_must_fit_the_layout(store: Store, recipe: derive.Recipe) -> None:
    strict = dataclasses.replace(recipe, layout=[{"path": "data.txt", "lines": 2}])
    with pytest.raises(ArtifactError, match=r"lines 1, expected 2"):
        derive.make(store, strict, {})
    assert derive.find(store, strict) is None


def test_it_has_a_time_limit(store: Store, recipe: derive.Recipe) -> None:
    with pytest.raises(ArtifactError, match=r"did not end within 1 s"):
        derive.make(store, with_variables(recipe, SLEEP="60"), {}, limit_s=1)


def test_too_little_disk_is_said_first(store: Store, recipe: derive.Recipe, tmp_path: Path) -> None:
    large = dataclasses.replace(recipe, derive=dict(recipe.derive, needs_gb=10**7))
    with pytest.raises(ArtifactError, match=r"making cases needs \d+ MB"):
        derive.make(store, large, {})
    assert not (tmp_path / "count").exists()


CALL = """
import pickle, sys
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts import derive
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
store, recipe = pickle.load(open(sys.argv[1], "rb"))
derive.make(Store(store), recipe, {})
"""


def call(store: Store, recipe: derive.Recipe, tmp_path: Path) -> subprocess.Popen[bytes]:
    """Another process that makes it."""
    import pickle

    given = tmp_path / "given"
    given.write_bytes(pickle.dumps((str(store.root), recipe)))
    paths = os.pathsep.join(p for p in sys.path if p)
    return subprocess.Popen(
        [sys.executable, "-c", CALL, str(given)], env={**os.environ, "PYTHONPATH": paths}
    )


def wait_for(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not come"
        time.sleep(0.02)


def test_after_a_kill_it_starts_from_scratch(
    store: Store, recipe: derive.Recipe, tmp_path: Path
) -> None:
    slow = with_variables(recipe, SLEEP="2")
    first = call(store, slow, tmp_path)
    folder = store.root / "derived" / slow.key()[:16]
    wait_for(folder / "out" / "half")
    first.send_signal(signal.SIGKILL)
    first.wait()
    (folder / "out" / "left over").write_text("x")
    assert derive.find(store, slow) is None
    made = derive.make(store, slow, {})
    assert {p.name for p in made.path.iterdir()} == {"data.txt"}
    assert times(tmp_path) == 2


def test_two_at_once_make_it_once(store: Store, recipe: derive.Recipe, tmp_path: Path) -> None:
    slow = with_variables(recipe, SLEEP="1")
    other = call(store, slow, tmp_path)
    wait_for(tmp_path / "count")
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(derive.make(store, slow, {})))
    thread.start()
    thread.join()
    assert other.wait(20) == 0
    assert not found[0].changed
    assert times(tmp_path) == 1


def test_a_program_that_the_host_lacks_is_named() -> None:
    assert derive.missing_programs({"programs": ["sh", "no-such-program"]}) == ["no-such-program"]
    assert derive.missing_programs({}) == []
