# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where what a cell needs comes from, and what a person is told when it cannot be had."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import consents, needs
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.needs import Lab

CATALOG = Catalog()
SHA = "ab" * 32
FILE = {"file": "data/digits/digits.npz"}
URL = {"url": "https://example.org/words.txt"}
NOTHING = Lab({})
OWN = Lab({"thing": "/lab/thing"})
LAYOUT = [{"path": "words.txt", "lines": 3}]


def gate(how: str) -> dict[str, Any]:
    where = "https://example.org/terms"
    return {"name": "licence", "how": how, "where": where, "terms": "for research only"}


def need(
    lab: Lab = NOTHING, given: str = "", name: str | None = "thing", **artifact: Any
) -> dict[str, Any] | None:
    """What a benchmark with one artifact needs."""
    about = {"type": "dataset", "title": "t", "origins": [], "bytes": None, "gate": None}
    benchmark = {"name": "bench", "artifacts": {"thing": {**about, **artifact}}}
    return needs.need(benchmark, name, given, lab, CATALOG)


def found(**how: Any) -> dict[str, Any]:
    one = need(**how)
    assert one is not None
    return one


def test_a_path_of_the_requests_comes_first_and_is_taken_as_it_is() -> None:
    one = found(given="/my/thing", lab=OWN, origins=[FILE, URL], sha256=SHA, layout=LAYOUT)
    assert (one["origin"], one["where"], one["sha256"]) == ("path", "/my/thing", None)
    assert one["layout"] == []
    assert "refuse" not in one


def test_the_labs_own_copy_comes_next_and_is_checked_by_its_layout() -> None:
    one = found(lab=OWN, origins=[FILE, URL], sha256=SHA, layout=LAYOUT, gate=gate("own-copy"))
    assert (one["origin"], one["where"], one["layout"]) == ("path", "/lab/thing", LAYOUT)
    assert "refuse" not in one


def test_then_a_file_of_the_catalog() -> None:
    one = found(origins=[URL, FILE], sha256=SHA)
    assert (one["origin"], one["sha256"]) == ("catalog", SHA)
    assert one["where"] == str(CATALOG.data("data/digits/digits.npz"))


def test_then_the_store_with_everything_that_it_has_to_know() -> None:
    origins = [URL | {"md5": "a" * 32}, {"mlcommons": "https://x"}]
    one = found(origins=origins, bytes=7)
    assert (one["origin"], one["refuse"]) == ("store", None)
    assert one["artifact"] == {
        "name": "thing",
        "type": "dataset",
        "origins": origins,
        "sha256": None,
        "bytes": 7,
        "tags": ["bench", "dataset"],
    }
    other = found(origins=[URL | {"md5": "b" * 32}])
    assert one["where"] != other["where"]


def test_nothing_is_needed_without_a_name_unless_it_is_given() -> None:
    assert need(name=None) is None
    one = found(name=None, given="/my/thing")
    assert (one["name"], one["origin"], one["where"]) == ("own", "path", "/my/thing")


PATHS = "benchfleet_artifact_paths: {thing: <path on the SUT>}"


@pytest.mark.parametrize(
    ("artifact", "words"),
    [
        (
            {"gate": gate("own-copy")},
            ("must be the lab's own copy", PATHS, "research only", "https://example.org/terms"),
        ),
        (
            {"gate": gate("consent"), "origins": [URL | {"sha256": SHA}]},
            ("only after consent", "https://example.org/terms", "-e consent=licence", PATHS),
        ),
        (
            {"gate": gate("members"), "origins": [{"mlcommons": "https://x"}]},
            ("consent.yml -e consent=licence -e consent_by=", PATHS),
        ),
        ({}, ("published nowhere", PATHS)),
        ({"origins": [URL]}, ("no checksum of thing", URL["url"], "yourself", PATHS)),
    ],
    ids=["own-copy", "consent", "members", "nowhere", "unchecked"],
)
def test_what_cannot_be_had_says_what_to_do(artifact: dict[str, Any], words: Any) -> None:
    refusal = found(**artifact)["refuse"]
    for word in words:
        assert word in refusal, refusal


@pytest.mark.parametrize("how", ["consent", "members", "token"])
def test_a_consent_opens_its_gate(how: str) -> None:
    artifact = {"gate": gate(how), "origins": [{"hf": "o/r", "revision": "c" * 40}]}
    assert found(**artifact)["refuse"]
    assert found(lab=Lab({}, frozenset({"other"})), **artifact)["refuse"]
    assert found(lab=Lab({}, frozenset({"licence"})), **artifact)["refuse"] is None
    own = {"gate": gate("own-copy")}
    assert found(lab=Lab({}, frozenset({"licence"})), **own)["refuse"]


def test_every_consent_that_is_asked_for_can_be_given() -> None:
    known = consents.gates(CATALOG)
    for name in CATALOG.names("benchmarks"):
        for artifact in CATALOG.get("benchmarks", name)["artifacts"]:
            benchmark = CATALOG.get("benchmarks", name)
            one = needs.need(benchmark, artifact, "", NOTHING, CATALOG)
            refusal = (one or {}).get("refuse") or ""
            if "-e consent=" in refusal:
                asked = refusal.partition("-e consent=")[2].split()[0]
                assert consents.entry(asked, "Jane", known, datetime.now(UTC))["where"]


@pytest.mark.parametrize(
    "origin",
    [
        URL | {"sha256": SHA},
        URL | {"md5": "a" * 32},
        {"mlcommons": "https://x"},
        {"hf": "o/r", "revision": "c" * 40},
        {"git": "https://x", "commit": "c" * 40},
    ],
    ids=lambda origin: sorted(origin)[-1],
)
def test_one_origin_with_a_checksum_is_enough(origin: dict[str, Any]) -> None:
    assert found(origins=[URL, origin])["refuse"] is None


def test_a_digest_of_the_catalogs_is_a_checksum() -> None:
    assert found(origins=[URL], sha256=SHA)["refuse"] is None


def test_gates_of_what_is_needed() -> None:
    closed = {"gate": gate("consent"), "origins": [{"mlcommons": "https://x"}]}
    about = {"type": "file", "title": "t", "bytes": None}
    benchmark = {"artifacts": {"thing": about | closed, "free": about | {"gate": None}}}

    def satisfied(one: dict[str, Any], lab: Lab = NOTHING) -> list[bool]:
        free = {"name": "free", "origin": "store"}
        return [g["satisfied"] for g in needs.gates(benchmark, [one, free], lab)]

    assert satisfied({"name": "thing", "origin": "store"}) == [False]
    assert satisfied({"name": "thing", "origin": "path"}) == [True]
    agreed = Lab({}, frozenset({"licence"}))
    assert satisfied({"name": "thing", "origin": "store"}, agreed) == [True]
    (told,) = needs.gates(benchmark, [{"name": "thing", "origin": "store"}], NOTHING)
    assert (told["artifact"], told["terms"]) == ("thing", "for research only")


# --- source trees ----------------------------------------------------------------------------


def recipe(**source: Any) -> dict[str, Any]:
    plain = {"repository": None, "commit": "c0" * 20, "folder": "a", "paths": ["a"]}
    return {"source": {**plain, "submodules": [], "patches": [], **source}}


def test_a_source_is_one_commit_of_the_labs_clone_or_of_upstream() -> None:
    one = needs.source(recipe(), "", NOTHING)
    assert one["artifact"]["origins"] == [
        {"git": "https://github.com/mlcommons/inference", "commit": "c0" * 20, "paths": ["a"]}
    ]
    assert (one["name"], one["origin"], one["override"]) == ("inference", "store", None)
    clone = needs.source(recipe(), "", Lab({}, frozenset(), "/srv/git/inference.git"))
    assert clone["artifact"]["origins"][0]["git"] == "/srv/git/inference.git"
    assert clone["name"] == "inference"
    assert clone["where"] == one["where"]  # it does not matter where it is fetched from
    other = recipe(repository="https://example.org/other.git")
    assert needs.source(other, "", NOTHING)["artifact"]["origins"][0]["git"] == (
        "https://example.org/other.git"
    )


@pytest.mark.parametrize(
    "change",
    [
        {"commit": "d0" * 20},
        {"paths": ["a", "b"]},
        {"submodules": ["a/sub"]},
        {"patches": [{"file": "x.patch", "because": "b", "sha256": SHA}]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_source_is_another_with_another_content(change: dict[str, Any]) -> None:
    plain, changed = (needs.source(recipe(**c), "", NOTHING) for c in ({}, change))
    assert changed["where"] != plain["where"]


def test_submodules_and_patches_of_a_source() -> None:
    patches = [{"file": "x.patch", "because": "b", "sha256": SHA}]
    one = needs.source(recipe(submodules=["a/sub"], patches=patches), "/own/tree", NOTHING)
    assert one["artifact"]["origins"][0]["submodules"] == {"a/sub": {}}
    assert one["patches"] == ["x.patch"]
    assert one["override"] == "/own/tree"
