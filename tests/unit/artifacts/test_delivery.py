# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the controller's store to a host's: only what lacks, whatever happens on the way."""

from __future__ import annotations

import hashlib
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts import pack, receive
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import Access
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.obtain import obtain
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
from ansible_collections.benchfleet.mlperf.plugins.module_utils.host_store import HostError
from ansible_collections.benchfleet.mlperf.plugins.modules import provision
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import delivery, transfer
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.delivery import Goods, deliver
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError

HERE = types.SimpleNamespace(transport="local")
BIG = b"big" * (pack.MOST_BYTES // 2)
Break = Callable[[int], None]


class Cut(Exception):
    """The connection, or the controller, is gone."""


def spoil(part: Path) -> None:
    """Change one bit that counts: of a listing's first digest, a pack's first file, a file."""
    content = bytearray(part.read_bytes())
    digest = b'"sha256": "'
    at = content.find(digest) + len(digest) if digest in content else 512
    content[at] ^= 1
    part.write_bytes(content)


class Pair:
    """A controller's store and a host's; what is pushed and which calls there are is counted.

    `broken` is the number of the step that is cut short (pushes and calls of the module, before
    and after each); `damage` is the number of the file that arrives changed.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here, self.there = Store(folder / "here"), Store(folder / "home")
        self.goods = Goods(self.here)
        self.pushed: list[Path] = []
        self.pushes, self.steps = 0, 0
        self.broken, self.damage = -1, -1
        self.envs: list[dict[str, Any]] = []
        self._push = transfer.push
        monkeypatch.setattr(delivery.transfer, "push", self.push)

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.broken:
            raise Cut

    def push(self, connection: Any, files: Any) -> list[str]:
        self.step()
        self.pushes += 1
        arrived = self._push(connection, files)
        for (path, _remote), part in zip(files, arrived, strict=True):
            self.pushed.append(path)
            if len(self.pushed) == self.damage:
                spoil(Path(part))
        self.step()
        return arrived

    def run(self, wanted: list[dict[str, Any]], sent: dict[str, Any]) -> dict[str, Any]:
        """The module's half as the host runs it."""
        self.step()
        result: dict[str, Any] = {"changed": False, "missing_artifacts": [], "missing_files": []}
        result |= {"artifacts": {}, "missing_packages": [], "built": [], "targets": {}}
        nothing: dict[str, Any] = {"parts": {}, "packs": [], "listings": {}, "records": {}}
        params = {"home": str(self.there.root), "host_dir": str(self.there.root / "hosts" / "h")}
        params |= {"environment": {}, "secrets": {}, "hf_endpoint": "", "mirror": ""}
        params |= {"folders": [], "envs": self.envs, "wanted": wanted, "python": "auto"}
        params |= {"internet": True, "wheelhouses": {}, "derived": []}
        params |= {**nothing, **sent}
        try:
            provision._provision(params, False, result)
        except HostError as error:
            result["fault"] = str(error)
        self.step()
        return result

    def deliver(self, *digests: str) -> dict[str, Any]:
        wanted = [{"identity": d, "sha256": d, "spec": None, "layout": []} for d in digests]

        def run(sent: dict[str, Any]) -> dict[str, Any]:
            return self.run(wanted, sent)

        return deliver(HERE, str(self.there.root), self.goods, run({}), run)

    def file(self, content: bytes, name: str = "it") -> str:
        """Put a file into the controller's store and offer it."""
        sha256 = hashlib.sha256(content).hexdigest()
        part = self.here.part("new")
        part.write_bytes(content)
        self.here.add_file(part, sha256, {"name": name, "type": "model", "tags": ["t"]})
        self.goods.add(sha256)
        return sha256

    def tree(self, folder: Path, contents: dict[str, bytes]) -> str:
        """Put a tree into the controller's store and offer it."""
        for name, content in contents.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        digest = self.here.add_tree(folder, {"name": "tree", "type": "source", "tags": ["s"]})
        self.goods.add(digest)
        return digest


@pytest.fixture(name="pair")
def _pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pair:
    return Pair(tmp_path, monkeypatch)


SMALL = {f"d{n % 3}/f{n}": b"%d" % n for n in range(20)}


def test_files_and_trees_arrive_with_their_records(pair: Pair, tmp_path: Path) -> None:
    model = pair.file(b"weights", "net")
    tree = pair.tree(tmp_path / "t", {**SMALL, "big": BIG, "empty": b""})
    answer = pair.deliver(model, tree)
    assert answer["changed"]
    assert answer["missing_artifacts"] == answer["missing_files"] == []
    stored = {"sha256": model, "path": str(pair.there.path(model)), "bytes": 7, "new": False}
    assert answer["artifacts"][model] == stored
    assert answer["artifacts"][tree]["path"] == str(pair.there.tree_path(tree))
    assert pair.there.verify(model) == pair.there.verify(tree) == []
    about = pair.there.record(model) or {}
    assert (about["name"], about["kind"], about["tags"]) == ("net", "file", ["t"])
    about = pair.there.record(tree) or {}
    assert (about["name"], about["kind"], len(about["files"])) == ("tree", "tree", 22)
    assert not [p for p in (pair.there.base / ".parts").iterdir() if p.is_file()]


def test_what_is_there_is_not_sent_again(pair: Pair, tmp_path: Path) -> None:
    tree = pair.tree(tmp_path / "t", SMALL)
    pair.deliver(tree)
    pair.pushed.clear()
    answer = pair.deliver(tree)
    assert not answer["changed"]
    assert pair.pushed == []
    other = pair.tree(tmp_path / "t", {"d0/f0": b"changed"})
    assert pair.deliver(other)["changed"]
    assert pair.goods.path(hashlib.sha256(b"changed").hexdigest()) in pair.pushed
    stored = [p for p in pair.pushed if pair.here.base in p.parents]
    assert len(stored) == 1  # the one file that differs; the rest is a listing


def test_thousands_of_small_files_take_few_pushes(pair: Pair, tmp_path: Path) -> None:
    tree = pair.tree(tmp_path / "t", {f"d{n % 50}/f{n}": b"%d" % n for n in range(3000)})
    answer = pair.deliver(tree)
    assert answer["artifacts"][tree]
    assert pair.there.verify(tree) == []
    assert pair.pushes <= 3
    assert len(pair.pushed) <= 4  # listings and a pack


def test_a_host_asks_for_so_many_files_at_a_time(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receive, "MOST_MISSING", 7)
    tree = pair.tree(tmp_path / "t", SMALL)
    assert pair.deliver(tree)["artifacts"][tree]
    assert pair.there.verify(tree) == []


def test_an_interruption_at_any_step_is_mended_by_the_next_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = 0
    while True:
        step += 1
        with monkeypatch.context() as patch:
            pair = Pair(tmp_path / str(step), patch)
            model = pair.file(b"weights")
            tree = pair.tree(tmp_path / str(step) / "t", {**SMALL, "big": BIG})
            pair.broken = step
            try:
                pair.deliver(model, tree)
                break
            except Cut:
                pair.broken = -1
            before = set(pair.there.loose())
            pair.pushed.clear()
            assert pair.deliver(model, tree)["artifacts"].keys() == {model, tree}
            assert pair.there.verify(model) == pair.there.verify(tree) == []
            # what the host had taken before stays: it is not sent again
            assert not {pair.goods.path(d) for d in before}.intersection(pair.pushed)
    assert step > 10


@pytest.mark.parametrize("number", range(1, 6))
def test_what_arrives_damaged_is_refused_and_sent_again(
    pair: Pair, tmp_path: Path, number: int
) -> None:
    model = pair.file(BIG + b"model")
    tree = pair.tree(tmp_path / "t", {**SMALL, "big": BIG})
    pair.damage = number
    answer = pair.deliver(model, tree)
    assert "damaged" in answer["fault"]
    assert "run the command again" in answer["fault"]
    assert not pair.there.has(tree)
    answer = pair.deliver(model, tree)
    assert "fault" not in answer
    assert pair.there.verify(model) == pair.there.verify(tree) == []


def test_a_host_that_keeps_nothing_ends_the_delivery(pair: Pair) -> None:
    model = pair.file(b"weights")
    pair.there.part("new")
    calls = []

    def run(sent: dict[str, Any]) -> dict[str, Any]:
        calls.append(sent)
        return {"changed": False, "missing_artifacts": [model], "missing_files": []}

    with pytest.raises(BenchfleetError, match="does not keep what is sent to it"):
        deliver(HERE, str(pair.there.root), pair.goods, run({}), run)
    assert len(calls) == 2


def test_what_the_controller_cannot_give_is_left_to_the_answer(pair: Pair) -> None:
    first = {"changed": False, "missing_artifacts": ["ab" * 32], "missing_files": []}
    assert deliver(HERE, "/h", pair.goods, first, lambda _sent: pytest.fail("called")) == first


def test_a_fault_ends_the_delivery(pair: Pair) -> None:
    model = pair.file(b"weights")
    first = {"changed": False, "missing_artifacts": [model], "fault": "no disk"}
    assert deliver(HERE, "/h", pair.goods, first, lambda _sent: pytest.fail("called")) == first


def test_the_labs_own_folder_is_sent_from_where_it_lies(pair: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    for name, content in SMALL.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    spec = {"name": "own", "origins": [{"path": str(folder)}]}
    digest = obtain(pair.here, spec, Access(), lambda _line: None).digest
    pair.goods.add(digest)
    assert pair.deliver(digest)["artifacts"][digest]
    assert pair.there.verify(digest) == []
    assert not list((pair.here.base / "sha256").glob("??/*"))  # no second copy on the controller
    about = pair.there.record(digest) or {}
    assert "in_place" not in about
    assert about["files"]["d0/f0"].keys() == {"sha256", "bytes", "mode"}


def test_a_file_that_went_meanwhile_is_named(pair: Pair, tmp_path: Path) -> None:
    model = pair.file(b"weights")
    pair.here.file_path(model).unlink()
    with pytest.raises(BenchfleetError, match="is gone from the controller"):
        pair.deliver(model)


def test_loadgens_sources_arrive_before_they_are_built(
    pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = pair.tree(tmp_path / "loadgen", {"setup.py": b"# build", "loadgen.cc": b"int main;"})
    locks = {"requirements": {"run.txt": ""}, "loadgen": "loadgen.txt", "wheels": []}
    pair.envs = [{"name": "env-1", "loadgen_source": tree, **locks}]
    built = []

    def build(home: str, spec: Any) -> bool:
        built.append(Path(spec.loadgen_source))
        assert Path(spec.loadgen_source, "setup.py").is_file()
        return True

    monkeypatch.setattr(provision.python_env, "build", build)
    monkeypatch.setattr(provision.python_env, "missing_packages", lambda _spec: [])
    answer = pair.deliver(tree)
    assert answer.get("fault") is None
    assert (answer["built"], built) == (["env-1"], [pair.there.tree_path(tree)])
