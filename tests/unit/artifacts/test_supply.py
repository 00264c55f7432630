# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is brought to the controller before it goes to a host; patches on a private copy."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import Access
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import supply
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.delivery import Goods
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError

PATCH = """--- a/sub/main.py
+++ b/sub/main.py
@@ -1,2 +1,2 @@
 first
-second
+patched
"""


class Supply:
    """A controller with a catalog of the lab's own; `said` keeps the lines of progress."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.goods, self.folder = Goods(store), folder
        self.said: list[str] = []
        (folder / "patches").mkdir(parents=True)

    def bring(self, **what: Any) -> str:
        need = {"name": "it", "sha256": None, "where": "", "origin": "store", **what}
        catalog = Catalog(self.folder)
        return supply.bring(need, self.goods, catalog, Access(), self.said.append)

    def patch(self, text: str, name: str = "x.patch") -> None:
        (self.folder / "patches" / name).write_text(text)


@pytest.fixture(name="lab")
def _lab(store: Store, tmp_path: Path) -> Supply:
    return Supply(store, tmp_path / "catalog")


@pytest.fixture(name="source")
def _source(git: Callable[..., str], tmp_path: Path) -> dict[str, Any]:
    """A source tree as a need: one commit of a clone."""
    top = tmp_path / "clone"
    (top / "sub").mkdir(parents=True)
    git(top, "init", "-q")
    (top / "sub" / "main.py").write_text("first\nsecond\n")
    (top / "sub" / "run.sh").write_text("#!/bin/sh\n")
    (top / "sub" / "run.sh").chmod(0o755)
    git(top, "add", ".")
    git(top, "commit", "-qm", "one")
    origin = {"git": str(top), "commit": git(top, "rev-parse", "HEAD"), "paths": ["sub"]}
    spec = {"name": "clone", "type": "source", "origins": [origin], "tags": ["source"]}
    return {"artifact": spec, "where": "w1", "patches": []}


def names(store: Store) -> list[str]:
    return sorted(p.name for p in (store.base / "trees").glob("??/*"))


def test_a_patched_tree_is_a_private_copy_and_pinned(
    lab: Supply, store: Store, source: dict[str, Any]
) -> None:
    plain = lab.bring(**source)
    lab.patch(PATCH)
    made = lab.bring(**source | {"patches": ["x.patch"]})
    assert made != plain
    assert (store.path(made) / "sub" / "main.py").read_text() == "first\npatched\n"
    assert (store.path(plain) / "sub" / "main.py").read_text() == "first\nsecond\n"
    assert store.verify(plain) == store.verify(made) == []
    modes = {p.name: p.stat().st_mode & 0o777 for p in store.path(made).rglob("*.*")}
    assert modes == {"main.py": 0o444, "run.sh": 0o555}
    record = store.record(made) or {}
    assert (record["patches"], record["type"], record["kind"]) == (["x.patch"], "source", "tree")
    assert "patches" not in (store.record(plain) or {})
    assert lab.goods.records.keys() == {plain, made}
    clone = Path(source["artifact"]["origins"][0]["git"])
    assert (clone / "sub" / "main.py").read_text() == "first\nsecond\n"


def test_a_patched_tree_is_made_once(
    lab: Supply, store: Store, source: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.patch(PATCH)
    what = source | {"patches": ["x.patch"]}
    made = lab.bring(**what)
    monkeypatch.setattr(supply, "_apply", lambda *_args: pytest.fail("patched again"))
    assert lab.bring(**what) == made
    with pytest.raises(pytest.fail.Exception):
        lab.bring(**what | {"where": "w2"})  # as another patch of the same name makes it
    store.remove(made)
    with pytest.raises(pytest.fail.Exception):
        lab.bring(**what)


def test_patches_are_applied_in_their_order(
    lab: Supply, store: Store, source: dict[str, Any]
) -> None:
    lab.patch(PATCH, "1.patch")
    lab.patch(PATCH.replace("-second", "-patched").replace("+patched", "+twice"), "2.patch")
    made = lab.bring(**source | {"patches": ["1.patch", "2.patch"]})
    assert (store.path(made) / "sub" / "main.py").read_text() == "first\ntwice\n"


@pytest.mark.parametrize(
    "text",
    [
        PATCH.replace("-second", "-another"),
        PATCH.replace("sub/main.py", "sub/none.py"),
        "no patch at all\n",
        PATCH.replace("sub/main.py", "../../main.py"),
    ],
    ids=["line", "file", "nonsense", "outside"],
)
def test_a_patch_that_does_not_fit(
    lab: Supply, store: Store, source: dict[str, Any], text: str
) -> None:
    plain = lab.bring(**source)
    lab.patch(text)
    with pytest.raises(BenchfleetError, match=r"^patch x\.patch does not fit the source: .+"):
        lab.bring(**source | {"patches": ["x.patch"]})
    assert names(store) == [plain]
    lab.patch(PATCH)
    assert lab.bring(**source | {"patches": ["x.patch"]}) in names(store)


def test_a_file_of_the_catalog_is_offered_where_it_lies(
    lab: Supply, store: Store, tmp_path: Path
) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"w")
    sha256 = hashlib.sha256(b"w").hexdigest()
    assert lab.bring(origin="catalog", where=str(path), sha256=sha256) == sha256
    assert lab.goods.path(sha256) == path
    assert lab.goods.records[sha256]["kind"] == "file"
    assert not store.base.exists()


def test_a_path_of_the_labs_is_offered_where_it_lies(
    lab: Supply, store: Store, tmp_path: Path
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").write_bytes(b"a")
    digest = lab.bring(origin="path", where=str(folder))
    assert store.path(digest) == folder
    assert lab.goods.path(hashlib.sha256(b"a").hexdigest()) == folder / "a"


def test_what_the_store_has_is_not_asked_for(lab: Supply, store: Store, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(b"here")
    sha256 = hashlib.sha256(b"here").hexdigest()
    store.add_file(part, sha256, {"name": "it"})
    nowhere = {"name": "it", "origins": [{"url": "https://127.0.0.1:9/x", "sha256": sha256}]}
    assert lab.bring(sha256=sha256, artifact=nowhere) == sha256
    assert lab.goods.path(sha256) == store.file_path(sha256)


def test_what_an_origin_says_reaches_the_person(lab: Supply) -> None:
    origin = {"git": "/no/such/clone", "commit": "c0" * 20, "paths": ["a"]}
    with pytest.raises(BenchfleetError, match=r"src: /no/such/clone is no folder on this host\.$"):
        lab.bring(artifact={"name": "src", "origins": [origin]})
