# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Filling a store for hosts without internet: what is brought, what is only listed, and what a host
is told. Packages of operating systems are files of a few bytes here."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import packages, python_env
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import Access
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.obtain import obtain
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
from ansible_collections.benchfleet.mlperf.plugins.module_utils.python_env.interpreter import (
    Interpreter,
)
from ansible_collections.benchfleet.mlperf.plugins.modules import provision
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import (
    mirror,
    os_packages,
    payload,
    planner,
    wheelhouse,
)
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.needs import Lab
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.session import Session
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.wheelhouse import Target

CATALOG = Catalog()
DEBIAN = {"id": "debian", "version": "12", "machine": "x86_64"}
HOST = Target("3.11", "x86_64", (2, 36))
ENV = payload.environment([], "6.0.17")
PATCH = "--- a/run.py\n+++ b/run.py\n@@ -1 +1 @@\n-old\n+new\n"


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def filler(store: Store, check: bool = False, catalog: Catalog = CATALOG) -> mirror.Filler:
    return mirror.Filler(store, catalog, Lab({}), Access(), lambda _line: None, check)


def cells(**request: Any) -> list[dict[str, Any]]:
    asked = parse({"scenario": "Offline", "mode": "accuracy", **request})
    return planner.plan(asked, {"n": {}}, CATALOG)


def need(name: str, origin: dict[str, Any], **more: Any) -> dict[str, Any]:
    spec = {"name": name, "type": "model", "origins": [origin], "tags": ["model"]}
    found = {"name": name, "origin": "store", "where": name, "sha256": None, "artifact": spec}
    return found | more


def cell(*needs: dict[str, Any]) -> dict[str, Any]:
    """A cell of digits that needs these things."""
    words = {f"need{i}": what for i, what in enumerate(needs)}
    return {"catalog_benchmark": "digits", "model": {"origin": "none"}, "dataset": None} | {
        "needs": words
    }


def local(tmp_path: Path) -> dict[str, Any]:
    """An origin that needs no network."""
    file = tmp_path / "model.onnx"
    file.write_bytes(b"a model")
    return {"url": file.as_uri(), "sha256": hashlib.sha256(b"a model").hexdigest()}


def packed(tmp_path: Path, *names: str) -> Path:
    """What a host has collected: a tar of files of these names."""
    archive = tmp_path / "packages.tar"
    with tarfile.open(archive, "w") as tar:
        for name in names:
            (tmp_path / name).write_text(name)
            tar.add(tmp_path / name, arcname=name)
    return archive


# -- artifacts ----------------------------------------


def test_what_a_cell_needs_is_brought_once(store: Store, tmp_path: Path) -> None:
    needed = cell(need("resnet", local(tmp_path)))
    (planned,) = filler(store, check=True).artifacts([needed], {})
    assert (planned.state, store.records()) == ("to fetch", [])
    (first,) = filler(store).artifacts([needed, needed], {})
    assert (first.state, first.bytes, first.type) == ("fetched", 7, "model")
    (again,) = filler(store).artifacts([needed], {})
    assert (again.state, again.source) == ("had it", local(tmp_path)["url"])


def test_one_that_fails_stops_no_other(store: Store, tmp_path: Path) -> None:
    gone = need("gone", {"url": (tmp_path / "gone").as_uri(), "sha256": "ab" * 32})
    rows = list(filler(store).artifacts([cell(gone, need("resnet", local(tmp_path)))], {}))
    assert [r.state for r in rows] == ["failed", "fetched"]
    assert rows[0].why.startswith("gone is not in the store. ")


def test_the_catalogs_own_data_needs_no_bringing(store: Store) -> None:
    rows = list(filler(store).artifacts(cells(benchmark="digits"), {}))
    assert {(r.name, r.state, r.source) for r in rows} == {
        ("digits_cnn", "had it", "the catalog"),
        ("digits", "had it", "the catalog"),
    }


def test_gated_and_own_copies_are_listed_with_where_to_get_them(store: Store) -> None:
    wanted = cells(benchmark="llama2-70b,resnet50", implementation="reference")
    planned = [c for c in wanted if c["recipe"]]
    rows = {r.name: r for r in filler(store, check=True).artifacts(planned, {})}
    assert rows["llama2-70b-chat-hf"].state == "refused"
    assert "https://llama2.mlcommons.org" in rows["llama2-70b-chat-hf"].why
    assert "https://image-net.org" in rows["imagenet2012-validation"].why
    assert rows["resnet50-onnx"].state == "to fetch"


def test_a_labs_own_copy_counts_where_this_controller_has_it(store: Store, tmp_path: Path) -> None:
    model = tmp_path / "own.onnx"
    model.write_bytes(b"own")
    spec = {"name": "own", "origins": [{"path": str(model)}]}
    digest = obtain(store, spec, Access(), lambda _line: None).digest
    what = {"name": "own", "origin": "path", "where": str(model), "sha256": None}
    (here,) = filler(store).artifacts([cell(what)], {str(model): digest})
    assert (here.state, here.bytes) == ("had it", 3)
    (there,) = filler(store).artifacts([cell(what)], {})
    assert (there.state, there.source) == ("refused", str(model))


def test_source_trees_are_patched_and_then_had(store: Store, tmp_path: Path) -> None:
    clone, own = tmp_path / "clone", tmp_path / "catalog"
    clone.mkdir()
    (clone / "run.py").write_text("old\n")
    git = ["git", "-c", "user.name=n", "-c", "user.email=e", "-C", str(clone)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    (own / "patches").mkdir(parents=True)
    (own / "patches" / "new.patch").write_text(PATCH)
    origin = {"git": str(clone), "commit": head.stdout.strip()}
    needed = cell(need("inference", origin, patches=["new.patch"]))
    filling = filler(store, catalog=Catalog(str(own)))
    (first,) = filling.artifacts([needed], {})
    assert first.state == "fetched"
    kept = [(store.path(r["digest"]) / "run.py").read_text() for r in store.records()]
    assert sorted(kept) == ["new\n", "old\n"]
    (again,) = filling.artifacts([needed], {})
    assert again.state == "had it"


# -- wheels ----------------------------------------


def test_wheels_are_had_to_fetch_or_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert filler(store, check=True).wheels(ENV, HOST).state == "to fetch"
    other = filler(store).wheels(dict(ENV, wheels=["aarch64"]), HOST)
    assert (other.state, other.why) == ("refused", "its packages exist for aarch64 only")

    def fail(*_args: Any) -> None:
        raise BenchfleetError("no index")

    monkeypatch.setattr(wheelhouse, "have", fail)
    assert filler(store).wheels(ENV, HOST).why == "no index"


def test_a_host_that_did_not_answer_is_named_unless_targets_are() -> None:
    (row,) = mirror.unknown("sut9", {"away": "no route."}, [])
    assert row.why == "no route. Name its Python and machine: -e mirror_targets=cp311-x86_64"
    assert mirror.unknown("sut9", {"fault": "x"}, [HOST]) == []
    answered = {"targets": {}, "faults": {"env-1": "no Python"}}
    assert [r.name for r in mirror.unknown("sut9", answered, [HOST])] == ["env-1 for sut9"]


def test_the_table_ends_with_the_reasons(tmp_path: Path) -> None:
    rows = [
        mirror.Row("a", "model", "had it", 2_000_000, "https://x"),
        mirror.Row("b", "dataset", "refused", why="get it there"),
    ]
    lines = mirror.table(rows, tmp_path)
    assert lines[-5:-3] == ["", "REFUSED: b"] and lines[-3] == "  get it there"
    assert lines[-1] == f"1 thing of 2 in {tmp_path}, 2 MB."


# -- packages of the operating system ----------------------------------------


def test_packages_are_found_by_system_and_name(store: Store, tmp_path: Path) -> None:
    files = ("python3-venv_3.11.2-1+b1_amd64.deb", "g++_4%3a12.2.0-3_amd64.deb")
    digest = os_packages.keep(store, packed(tmp_path, *files), DEBIAN, ["python3-venv"], "sut1")
    assert os_packages.find(store, DEBIAN, ["python3-venv", "g++"]) == digest
    assert os_packages.find(store, DEBIAN, ["cmake"]) is None
    assert os_packages.find(store, DEBIAN | {"version": "13"}, ["g++"]) is None
    assert os_packages.systems(store, ["g++"]) == [DEBIAN]
    (record,) = store.records()
    assert {"os-packages", "debian", "12", "x86_64"} <= set(record["tags"])


def test_names_of_rpm_files_are_read() -> None:
    record = {"packages": [], "files": ["gcc-c++-11.4.1-3.el9.x86_64.rpm", "python3.11-3.11-1.rpm"]}
    assert os_packages.held(record) == {"gcc-c++", "python3.11"}


def test_packages_are_collected_for_offline_hosts_that_lack_some(tmp_path: Path) -> None:
    names = ("offline", "complete", "online", "away")
    session = Session.create(tmp_path, {"hosts": list(names)}, {})
    lacks = {"system": DEBIAN, "missing_packages": ["g++"]}
    session.record("offline", "build_facts", lacks | {"internet": False})
    session.record("complete", "build_facts", {"missing_packages": [], "internet": False})
    session.record("online", "build_facts", lacks | {"internet": True})
    assert os_packages.lacking(session) == [DEBIAN]


def test_missing_packages_that_nobody_collected_are_listed(store: Store, tmp_path: Path) -> None:
    answers = {"air": {"internet": False, "missing_packages": ["g++"], "system": DEBIAN}}
    answers["online"] = dict(answers["air"], internet=True)
    (row,) = filler(store).packages(answers)
    assert row.name == "os-packages debian-12-x86_64"
    assert "air lacks g++" in row.why and "mirror_packages_from=" in row.why
    os_packages.keep(store, packed(tmp_path, "g++_4_amd64.deb"), DEBIAN, ["g++"], "sut1")
    assert list(filler(store).packages(answers)) == []


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ({"changed": True, "system": DEBIAN, "digest": "ab" * 32}, "fetched"),
        ({"changed": False, "system": DEBIAN, "digest": "ab" * 32}, "had it"),
        ({"changed": True, "system": DEBIAN, "digest": ""}, "to fetch"),
        ({"failed": True, "msg": "no repository"}, "failed"),
        ({"unreachable": True, "msg": "no route"}, "failed"),
        ({"changed": False, "system": {}, "digest": ""}, None),
    ],
)
def test_what_was_collected_is_told(store: Store, answer: dict[str, Any], state: str) -> None:
    assert [r.state for r in filler(store).collected(answer)] == ([state] if state else [])


def test_a_closure_is_for_a_system_without_anything_installed() -> None:
    argv = packages.closure_argv("apt-get", ["g++"], "/f") or []
    assert "--download-only" in argv and argv[-2:] == ["install", "g++"]
    assert "Dir::State::status=/f/.state/status" in argv
    assert (packages.closure_argv("dnf", ["g++"], "/f") or [])[-2:] == ["--destdir=/f", "g++"]
    assert packages.closure_argv("zypper", ["g++"], "/f") is None
    assert packages.closure_update_argv("dnf", "/f") is None


def test_a_system_is_named_by_its_release_file(tmp_path: Path) -> None:
    release = tmp_path / "os-release"
    release.write_text('ID=ubuntu\nVERSION_ID="24.04"\n')
    assert os_packages.label(packages.system(release)).startswith("ubuntu-24.04-")
    assert packages.system(tmp_path / "none")["id"] == ""


# -- the host's half of provisioning ----------------------------------------


@pytest.fixture(name="host")
def _host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Parameters of a host that waits for one environment and could build it."""
    found = Interpreter((3, 11), "/usr/bin/python3.11", True, True, True)
    monkeypatch.setattr(python_env.builder, "interpreters", lambda _wanted: [found])
    monkeypatch.setattr(python_env.builder.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(python_env.loadgen.platform, "machine", lambda: "x86_64")
    return {"home": str(tmp_path), "python": "auto", "envs": [ENV]} | {
        "internet": False,
        "wheelhouses": {},
    }


def built(host: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What provisioning answers, and from which folder of wheels it `built`; nothing is."""

    def build(_home: str, spec: python_env.Spec) -> bool:
        folders.append(spec.wheels_folder)
        return True

    folders: list[str | None] = []
    monkeypatch.setattr(provision.python_env, "build", build)
    result: dict[str, Any] = {"changed": False, "missing_artifacts": [], "targets": {}}
    provision._build(host, {}, False, result)
    return result | {"folders": folders}


def test_a_host_without_internet_asks_for_wheels_and_waits(
    host: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = built(host, monkeypatch)
    target = asked["targets"][ENV["name"]]
    assert (target["python"], target["machine"], target["glibc"][0]) == ("3.11", "x86_64", 2)
    assert Target.of(json.loads(json.dumps(target))).version == (3, 11)
    assert asked["folders"] == []


def test_it_builds_with_the_wheels_that_were_sent(
    host: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "wheel.whl").write_bytes(b"wheel")
    store = Store(tmp_path)
    files = {"wheel.whl": store.take_file(tmp_path / "wheel.whl")}
    digest = store.add_tree(files, {"name": "wheels"})
    sent = built(host | {"wheelhouses": {ENV["name"]: digest}}, monkeypatch)
    assert sent["targets"] == {}
    assert sent["folders"] == [str(store.path(digest))]


def test_a_host_with_internet_is_sent_no_wheels(
    host: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = built(host | {"internet": True}, monkeypatch)
    assert (answer["targets"], answer["folders"]) == ({}, [None])
