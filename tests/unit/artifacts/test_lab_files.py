# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Develop in place: the lab's own tree of a harness or of LoadGen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import Access
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.lab_files import Own
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.needs import Lab

Git = Callable[..., str]


@pytest.fixture(name="own")
def _own(store: Store) -> Own:
    return Own(store, Lab({}), Access())


@pytest.fixture(name="upstream")
def _upstream(git: Git, tmp_path: Path) -> Path:
    """A repository with two commits, a tag on the first and a branch beside main."""
    top = tmp_path / "upstream"
    (top / "vision").mkdir(parents=True)
    (top / "other").mkdir()
    git(top, "init", "-q")
    (top / "vision" / "main.py").write_text("one\n")
    (top / "other" / "x").write_text("unwanted\n")
    git(top, "add", ".")
    git(top, "commit", "-qm", "one")
    git(top, "tag", "-a", "v1", "-m", "the first")
    git(top, "branch", "side")
    (top / "vision" / "main.py").write_text("two\n")
    git(top, "commit", "-qam", "two")
    return top


def need(override: str | None, commit: str) -> dict[str, Any]:
    origin = {"git": "https://example.org/upstream", "commit": commit, "paths": ["vision"]}
    return {"override": override, "sha256": None, "artifact": {"origins": [origin]}}


def files(store: Store, digest: str) -> dict[str, str]:
    tree = store.path(digest)
    found = (p for p in tree.rglob("*") if p.is_file())
    return {p.relative_to(tree).as_posix(): p.read_text() for p in found}


def test_a_dirty_checkout_is_taken_as_it_is(
    own: Own, store: Store, git: Git, upstream: Path
) -> None:
    pinned = git(upstream, "rev-parse", "v1^{commit}")
    (upstream / "vision" / "main.py").write_text("mine\n")
    (upstream / "vision" / "new.py").write_text("new\n")
    one = need(str(upstream), pinned)
    own.source(one)
    content = {"vision/main.py": "mine\n", "vision/new.py": "new\n", "other/x": "unwanted\n"}
    assert files(store, one["sha256"]) == content
    text = own.differences[one["sha256"]]
    assert "-one\n+mine\n" in text
    assert "+new\n" in text
    again = need(str(upstream), pinned)
    (upstream / "vision" / "main.py").write_text("changed meanwhile\n")
    own.source(again)
    assert again["sha256"] == one["sha256"]  # one call sees one state of it
    later = need(str(upstream), pinned)
    Own(store, Lab({}), Access()).source(later)
    assert later["sha256"] != one["sha256"]


def test_a_checkout_at_the_pinned_commit_has_no_difference(
    own: Own, git: Git, upstream: Path
) -> None:
    one = need(str(upstream), git(upstream, "rev-parse", "HEAD"))
    own.source(one)
    assert one["sha256"]
    assert own.differences == {}


@pytest.mark.parametrize(
    ("ref", "content"), [("main", "two\n"), ("side", "one\n"), ("v1", "one\n")]
)
def test_a_branch_or_tag_of_a_server(
    ref: str, content: str, own: Own, store: Store, upstream: Path, serve: Any
) -> None:
    url = serve(upstream)
    one = need(f"{url}@{ref}", "c0" * 20)
    own.source(one)
    assert files(store, one["sha256"]) == {"vision/main.py": content}
    assert own.differences[one["sha256"]].startswith(f"{url} at ")
    assert own.differences[one["sha256"]].endswith(f" in place of {'c0' * 20}\n")


def test_a_commit_of_a_server(own: Own, store: Store, git: Git, upstream: Path, serve: Any) -> None:
    commit = git(upstream, "rev-parse", "HEAD~1")
    one = need(f"{serve(upstream)}@{commit}", "c0" * 20)
    own.source(one)
    assert files(store, one["sha256"]) == {"vision/main.py": "one\n"}
    assert commit in own.differences[one["sha256"]]


def test_a_branch_that_moves_is_taken_anew_by_the_next_call(
    store: Store, git: Git, upstream: Path, serve: Any
) -> None:
    url = serve(upstream)
    seen = []
    for text in ("three\n", "four\n"):
        (upstream / "vision" / "main.py").write_text(text)
        git(upstream, "commit", "-qam", "more")
        one = need(f"{url}@main", "c0" * 20)
        Own(store, Lab({}), Access()).source(one)
        seen.append(files(store, one["sha256"]))
    assert seen == [{"vision/main.py": "three\n"}, {"vision/main.py": "four\n"}]


def test_a_name_that_the_server_lacks(own: Own, upstream: Path, serve: Any) -> None:
    with pytest.raises(BenchfleetError, match="has neither a branch nor a tag 'nothing'"):
        own.source(need(f"{serve(upstream)}@nothing", "c0" * 20))


def test_a_server_that_is_not_there(own: Own) -> None:
    with pytest.raises(BenchfleetError, match=r"git://127\.0\.0\.1:9/x cannot be reached"):
        own.source(need("git://127.0.0.1:9/x@main", "c0" * 20))


@pytest.mark.parametrize(
    "where",
    [
        "relative/path",
        "/no/such/folder",
        "https://example.org/x",
        "https://eve:sesame@example.org/x",
    ],
)
def test_what_is_neither_a_folder_nor_an_address(own: Own, where: str) -> None:
    with pytest.raises(BenchfleetError, match=r"neither the absolute path.*nor <URL>@") as told:
        own.source(need(where, "c0" * 20))
    assert "sesame" not in str(told.value)


def test_without_an_override_nothing_happens(own: Own, store: Store) -> None:
    one = need(None, "c0" * 20)
    own.source(one)
    own.source(None)
    assert one["sha256"] is None
    assert own.loadgen(None) is None
    assert not store.base.exists()


def test_a_folder_of_loadgen(own: Own, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "loadgen"
    folder.mkdir()
    (folder / "loadgen.cc").write_text("int main;\n")
    with pytest.raises(BenchfleetError, match=r"loadgen_source=.*it has no setup\.py") as told:
        own.loadgen(str(folder))
    assert "it is loadgen/" in str(told.value)
    with pytest.raises(BenchfleetError, match="is not the folder of LoadGen's sources"):
        own.loadgen(str(tmp_path / "nothing"))
    (folder / "setup.py").write_text("# build\n")
    digest = own.loadgen(str(folder))
    assert digest is not None
    assert files(store, digest) == {"loadgen.cc": "int main;\n", "setup.py": "# build\n"}
    assert own.differences == {}
    (folder / "loadgen.cc").write_text("int other;\n")
    assert Own(store, Lab({}), Access()).loadgen(str(folder)) not in (None, digest)


def test_copies_of_the_labs_stay_where_they_are(own: Own, store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a").write_text("a")
    digest = own.copy("data", str(folder))
    assert store.path(digest) == folder
    with pytest.raises(BenchfleetError, match="nothing"):
        own.copy("data", str(tmp_path / "nothing"))
