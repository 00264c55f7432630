# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Source trees from real repositories: clones, partial clones, servers, checkouts under work."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import (
    Access,
    ArtifactError,
)
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.worktree import (
    from_worktree,
)

Git = Callable[..., str]


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture(name="upstream")
def _upstream(git: Git, tmp_path: Path) -> Path:
    """A repository of two commits with a script, links, attributes and a submodule."""
    part = tmp_path / "up" / "part"
    part.mkdir(parents=True)
    git(part, "init", "-q")
    write(part, x="part", y="unwanted")
    git(part, "add", ".")
    git(part, "commit", "-qm", "p")
    top = tmp_path / "up" / "top"
    top.mkdir()
    git(top, "init", "-q")
    write(top, a__x__py="x = 1\n", a__run="#!/bin/sh\n", z__other="not wanted\n", a__attr="$Id$\n")
    # what an export by git itself would leave out, expand, or run
    write(
        top, **{".gitattributes": "a/x__py export-ignore\na/attr ident export-subst filter=evil\n"}
    )
    (top / "a" / "run").chmod(0o755)
    (top / "a" / "link").symlink_to("x/py")
    (top / "a" / "out").symlink_to("/etc/passwd")
    (top / "dangling").symlink_to("nothing")
    git(top, "submodule", "-q", "add", "../part", "third/part")
    git(top, "add", ".")
    git(top, "commit", "-qm", "one")
    write(top, z__other="changed\n")
    git(top, "commit", "-qam", "two")
    return top


def first_of(git: Git, repository: Path) -> str:
    return git(repository, "rev-list", "--max-parents=0", "HEAD")


def names(found: Any) -> list[str]:
    return sorted(
        p.relative_to(found.path).as_posix() for p in found.path.rglob("*") if p.is_file()
    )


@pytest.fixture(name="served")
def _served(upstream: Path, serve: Callable[[Path], str]) -> str:
    return serve(upstream)


WANTED = ["a/attr", "a/link", "a/run", "a/x/py"]


def test_the_wanted_paths_of_a_commit_come_as_they_are(
    bring: Any, git: Git, upstream: Path
) -> None:
    marker = upstream / "ran"
    git(upstream, "config", "filter.evil.smudge", f"touch {marker}")
    git(upstream, "config", "core.fsmonitor", f"touch {marker}")
    origin = {"git": str(upstream), "commit": first_of(git, upstream), "paths": ["a"]}
    found = bring(origin)
    assert (names(found), found.checked_by) == (WANTED, "git commit")
    assert (found.path / "a/attr").read_text() == "$Id$\n"
    assert (found.path / "a/link").read_text() == "x = 1\n"
    assert (found.path / "a/run").stat().st_mode & 0o777 == 0o555
    assert not marker.exists()
    bare = upstream.parent / "bare.git"
    git(upstream, "clone", "-q", "--bare", str(upstream), str(bare))
    assert bring(dict(origin, git=str(bare)), name="bare").digest == found.digest


def test_a_clone_needs_no_more_than_the_wanted_contents(
    bring: Any, git: Git, upstream: Path, tmp_path: Path
) -> None:
    commit = first_of(git, upstream)
    git(upstream, "config", "uploadpack.allowFilter", "true")
    clone = tmp_path / "clone"
    slim = ["--filter=blob:none", "--no-checkout"]
    git(tmp_path, "clone", "-q", *slim, upstream.as_uri(), str(clone))
    git(clone, "sparse-checkout", "set", "a")
    git(clone, "checkout", "-q", commit)
    upstream.rename(upstream.with_name("gone"))
    origin = {"git": str(clone), "commit": commit}
    assert names(bring(origin | {"paths": ["a"]})) == WANTED
    with pytest.raises(ArtifactError, match="lacks the content of a wanted file"):
        bring(origin, name="all")


def test_a_server_sends_only_what_is_wanted(
    bring: Any, git: Git, upstream: Path, served: str, store: Store
) -> None:
    commit = first_of(git, upstream)
    found = bring({"git": served, "commit": commit, "paths": ["a"]})
    assert names(found) == WANTED
    mirror = next((store.root / "git").glob("*/HEAD")).parent
    packed = git(mirror, "cat-file", "--batch-all-objects", "--batch-check", "--unordered")
    other = git(upstream, "rev-parse", f"{commit}:z/other")
    assert other not in packed
    assert commit in packed
    git(upstream, "config", "uploadpack.allowFilter", "false")
    rest = bring({"git": served, "commit": commit, "paths": ["z"]}, name="rest")
    assert names(rest) == ["z/other"]


def test_an_old_server_that_refuses_a_commit_gives_everything(
    bring: Any, git: Git, upstream: Path, served: str
) -> None:
    git(upstream, "config", "protocol.version", "0")
    old = {"GIT_CONFIG_KEY_0": "protocol.version", "GIT_CONFIG_VALUE_0": "0"}
    bring.access = Access(environment={"GIT_CONFIG_COUNT": "1", **old})
    found = bring({"git": served, "commit": first_of(git, upstream), "paths": ["a"]})
    assert names(found) == WANTED


def test_submodules_come_at_the_commit_that_the_tree_records(
    bring: Any, git: Git, upstream: Path, served: str
) -> None:
    part = upstream.parent / "part"
    write(part, x="newer")
    git(part, "commit", "-qam", "newer")
    commit = first_of(git, upstream)
    origin = {"commit": commit, "paths": ["a"]}
    given = {"third/part": {"git": str(part), "paths": ["x"]}}
    found = bring(origin | {"git": str(upstream), "submodules": given})
    assert names(found) == [*WANTED, "third/part/x"]
    assert (found.path / "third/part/x").read_text() == "part"
    named = bring(origin | {"git": served, "submodules": {"third/part": None}}, name="named")
    assert names(named) == [*WANTED, "third/part/x", "third/part/y"]
    with pytest.raises(ArtifactError, match="a/x is no submodule"):
        bring(origin | {"git": str(upstream), "submodules": {"a/x": None}}, name="none")


def test_what_git_cannot_give_is_said_in_its_own_last_line(
    bring: Any, git: Git, upstream: Path, tmp_path: Path, served: str
) -> None:
    with pytest.raises(ArtifactError, match="has no commit c0c0"):
        bring({"git": str(upstream), "commit": "c0" * 20})
    with pytest.raises(ArtifactError, match="is no commit"):
        bring({"git": str(upstream), "commit": "main"})
    with pytest.raises(ArtifactError, match="is no folder on this host"):
        bring({"git": str(tmp_path / "no"), "commit": "c0" * 20})
    address = served.replace("//", "//eve:s3cret@") + "-not"
    with pytest.raises(ArtifactError, match="cannot be fetched: ") as caught:
        bring({"git": address, "commit": "c0" * 20})
    everything = [p for p in bring.store.root.rglob("*") if p.is_file()]
    assert "s3cret" not in str(caught.value) + "".join(p.read_text("latin-1") for p in everything)
    with pytest.raises(ArtifactError, match="has none of"):
        bring({"git": str(upstream), "commit": first_of(git, upstream), "paths": ["zz"]})


def test_a_password_is_answered_for_its_own_server_only(bring: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be fetched"):
        bring({"git": "http://eve:s3cret@127.0.0.1:9/r", "commit": "c0" * 20})
    ask = str(bring.store.root / "git" / "ask")
    env = {"BENCHFLEET_GIT_HOST": "h:9", "BENCHFLEET_GIT_USER": "e", "BENCHFLEET_GIT_PASSWORD": "p"}

    def answer(question: str) -> str:
        return subprocess.run([ask, question], env=env, capture_output=True, text=True).stdout

    assert answer("Username for 'http://h:9': ") == "e\n"
    assert answer("Password for 'http://e@h:9': ") == "p\n"
    assert answer("Password for 'http://e@evil': ") == ""
    assert answer("Password for 'http://e@h:9.evil': ") == ""


def test_a_checkout_under_work_is_published_with_its_difference(
    store: Store, git: Git, upstream: Path
) -> None:
    first, head = first_of(git, upstream), git(upstream, "rev-parse", "HEAD")
    (upstream / "a" / "out").unlink()
    write(upstream, a__new="new\n", ignored="i", **{".gitignore": "ignored\n"})
    (upstream / "a" / "run").write_text("#!/bin/sh\nexit\n")
    before = git(upstream, "status", "--porcelain")
    found = from_worktree(store, str(upstream), first)
    listed = (store.record(found.digest) or {})["files"]
    assert {"a/new", "a/run", "a/link"} <= set(listed)
    assert not {"ignored", "a/out", "dangling"} & set(listed)
    assert (found.commit, found.dirty) == (head, True)
    assert found.diff
    for line in ("+new", "+exit", "-not wanted", "+changed"):
        assert f"\n{line}\n" in found.diff
    assert git(upstream, "status", "--porcelain") == before, "the index is not touched"
    assert from_worktree(store, str(upstream), "c0" * 20).diff is None


def test_a_plain_folder_and_a_clean_checkout(store: Store, git: Git, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    write(folder, a="1")
    plain = from_worktree(store, str(folder), "c0" * 20)
    assert (plain.commit, plain.dirty, plain.diff) == (None, True, None)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "c")
    clean = from_worktree(store, str(folder), git(folder, "rev-parse", "HEAD"))
    assert (clean.digest, clean.dirty, clean.diff) == (plain.digest, False, "")
    with pytest.raises(ArtifactError, match="is no folder"):
        from_worktree(store, str(tmp_path / "no"))


def test_the_store_needs_git_only_for_git(bring: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    with pytest.raises(ArtifactError, match="git is not installed"):
        bring({"git": "https://x.invalid/r", "commit": "c0" * 20})
