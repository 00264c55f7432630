# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A manifest is hostile until proven plain; a folder is evidence only when it agrees with it."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import evidence
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.evidence import (
    EvidenceError,
    Limits,
    Seen,
)

RUN = "20260102T030405Z-0123abcd"
DIGEST = hashlib.sha256(b"x").hexdigest()
GOOD = {"sha256": DIGEST, "size": 1}


def manifest_of(files: object, **fields: object) -> bytes:
    document = {"format": 1, "run_id": RUN, "files": files, **fields}
    return json.dumps(document).encode()


def test_plain_manifest_is_read() -> None:
    names = ["run.json", "trial_0/user.conf", "a b/c'd\".txt", "...", "-rf", "größe.txt"]
    manifest = evidence.parse_manifest(manifest_of(dict.fromkeys(names, GOOD)))
    assert manifest.run_id == RUN
    assert list(manifest.files) == names
    assert manifest.bytes == len(names)


HOSTILE_PATHS = {
    "empty": "",
    "absolute": "/etc/passwd",
    "parent": "../x",
    "parent inside": "a/../../x",
    "parent at the end": "a/..",
    "current": "./a",
    "empty part": "a//b",
    "trailing slash": "a/",
    "backslash": "a\\b",
    "newline": "a\nb",
    "escape sequence": "a\x1b[2Jb",
    "nul": "a\0b",
    "delete": "a\x7fb",
    "right-to-left override": "a\u202eb",
    "zero-width space": "a\u200bb",
    "lone surrogate": "a\ud800b",
    "line separator": "a\u2028b",
    "long name": "a" * 201,
    "long name in bytes": "ä" * 101,
    "deep": "/".join("abcdefghi"),
    "long path": "/".join(["a" * 199] * 5),
    "the manifest": "manifest.json",
    "the manifest in capitals": "Manifest.JSON",
    "below the manifest": "manifest.json/a",
}


@pytest.mark.parametrize("path", HOSTILE_PATHS.values(), ids=HOSTILE_PATHS.keys())
def test_hostile_path_is_refused(path: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        evidence.parse_manifest(manifest_of({"run.json": GOOD, path: GOOD}))
    assert str(caught.value).isprintable()


COLLISIONS = {
    "case": ("Run.json", "run.json"),
    "composed and decomposed": ("\u00e9", "e\u0301"),
    "sharp s": ("straße", "STRASSE"),
    "file and folder": ("a", "a/b"),
    "file and deep folder": ("a/b", "a/b/c/d"),
    "folder and file": ("a/b", "a"),
    "file and folder by case": ("A", "a/b"),
    "folders by case": ("A/x", "a/y"),
}


@pytest.mark.parametrize("pair", COLLISIONS.values(), ids=COLLISIONS.keys())
def test_colliding_paths_are_refused(pair: tuple[str, str]) -> None:
    with pytest.raises(EvidenceError):
        evidence.parse_manifest(manifest_of(dict.fromkeys(pair, GOOD)))


HOSTILE_CLAIMS: dict[str, object] = {
    "no object": "x",
    "nothing": {},
    "no size": {"sha256": DIGEST},
    "no digest": {"size": 1},
    "short digest": {"sha256": "ab", "size": 1},
    "capital digest": {"sha256": DIGEST.upper(), "size": 1},
    "digest with newline": {"sha256": DIGEST + "\n", "size": 1},
    "digest not hex": {"sha256": "g" * 64, "size": 1},
    "digest is a number": {"sha256": 1, "size": 1},
    "negative size": {"sha256": DIGEST, "size": -1},
    "huge size": {"sha256": DIGEST, "size": 1 << 70},
    "size is a float": {"sha256": DIGEST, "size": 1.0},
    "size is true": {"sha256": DIGEST, "size": True},
    "size is text": {"sha256": DIGEST, "size": "1"},
}


@pytest.mark.parametrize("claim", HOSTILE_CLAIMS.values(), ids=HOSTILE_CLAIMS.keys())
def test_hostile_claim_is_refused(claim: object) -> None:
    with pytest.raises(EvidenceError):
        evidence.parse_manifest(manifest_of({"a": claim}))


HOSTILE_BYTES = {
    "empty": b"",
    "not utf-8": b"\xff\xfe{}",
    "not json": b"{",
    "a list": b"[]",
    "nested beyond reason": b"[" * 200_000,
    "number beyond reason": b'{"format":' + b"9" * 10_000 + b"}",
    "other format": manifest_of({}, format=2),
    "format is true": manifest_of({}, format=True),
    "no format": b'{"run_id":"a","files":{}}',
    "no run": manifest_of({}, run_id=None),
    "run outside": manifest_of({}, run_id="../x"),
    "files is a list": manifest_of([]),
    "file twice": b'{"format":1,"run_id":"a","files":{"a":{"sha256":"%s","size":1},'
    b'"a":{"sha256":"%s","size":1}}}' % (DIGEST.encode(), DIGEST.encode()),
    "field twice": b'{"format":1,"format":1,"run_id":"a","files":{}}',
}


@pytest.mark.parametrize("raw", HOSTILE_BYTES.values(), ids=HOSTILE_BYTES.keys())
def test_hostile_document_is_refused(raw: bytes) -> None:
    with pytest.raises(EvidenceError):
        evidence.parse_manifest(raw)


@pytest.mark.parametrize(
    ("limits", "figure"),
    [
        (Limits(files=2), "3 files, more than the limit of 2"),
        (Limits(bytes=2), "3 bytes in sum, more than the limit of 2"),
        (Limits(manifest=100), "more than the limit of 100"),
    ],
)
def test_limits_are_told_with_figures(limits: Limits, figure: str) -> None:
    raw = manifest_of({"a": GOOD, "b": GOOD, "c": GOOD})
    with pytest.raises(EvidenceError, match=figure):
        evidence.parse_manifest(raw, limits)
    evidence.parse_manifest(raw, Limits(files=3, bytes=3, manifest=len(raw)))


def run_folder(root: Path) -> evidence.Manifest:
    files = {"run.json": b"{}", "empty": b"", "trial_0/log.txt": b"line\n" * 1000}
    listed = {}
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
        listed[name] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    raw = manifest_of(listed)
    (root / evidence.MANIFEST).write_bytes(raw)
    return evidence.parse_manifest(raw)


def kinds(problems: list[evidence.Problem]) -> list[tuple[str, str]]:
    return [(problem.path, problem.kind) for problem in problems]


def test_untouched_folder_agrees(tmp_path: Path) -> None:
    manifest = run_folder(tmp_path)
    assert evidence.verify(tmp_path, manifest) == []


def test_every_deviation_is_reported(tmp_path: Path) -> None:
    manifest = run_folder(tmp_path)
    log = tmp_path / "trial_0/log.txt"
    log.write_bytes(b"LINE\n" * 1000)
    (tmp_path / "run.json").unlink()
    (tmp_path / "empty").write_bytes(b"no")
    (tmp_path / "trial_0/more").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert kinds(evidence.verify(tmp_path, manifest)) == [
        ("empty", "size"),
        ("folder", "extra"),
        ("link", "extra"),
        ("run.json", "missing"),
        ("trial_0/log.txt", "digest"),
        ("trial_0/more", "extra"),
    ]


def test_links_and_special_files_are_no_evidence(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    manifest = run_folder(folder)
    (folder / "run.json").rename(tmp_path / "run.json")
    (folder / "run.json").symlink_to(tmp_path / "run.json")
    (folder / "empty").unlink()
    os.mkfifo(folder / "empty")
    (folder / "trial_0").rename(tmp_path / "trial_0")
    (folder / "trial_0").symlink_to(tmp_path / "trial_0")
    assert kinds(evidence.verify(folder, manifest)) == [
        ("empty", "special"),
        ("run.json", "symlink"),
        ("trial_0", "extra"),
        ("trial_0/log.txt", "missing"),
    ]


def test_known_digest_counts_only_for_an_unchanged_file(tmp_path: Path) -> None:
    manifest = run_folder(tmp_path)
    log = tmp_path / "trial_0/log.txt"
    known = {"trial_0/log.txt": evidence.digest_file(log)}
    times = log.stat()
    log.write_bytes(b"LINE\n" * 1000)
    assert kinds(evidence.verify(tmp_path, manifest, known)) == [("trial_0/log.txt", "digest")]
    os.utime(log, ns=(times.st_atime_ns, times.st_mtime_ns))
    claimed = {"trial_0/log.txt": Seen.of(known["trial_0/log.txt"].sha256, log.stat())}
    assert evidence.verify(tmp_path, manifest, claimed) == []


def test_publish_renames_once(tmp_path: Path) -> None:
    incoming, final = tmp_path / "incoming", tmp_path / "runs/sut/run"
    manifest = run_folder(incoming)
    evidence.publish(incoming, final)
    assert not incoming.exists()
    assert evidence.verify(final, manifest) == []
    run_folder(incoming)
    with pytest.raises(EvidenceError, match="already collected"):
        evidence.publish(incoming, final)
    assert evidence.verify(incoming, manifest) == []


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_publish_replaces_nothing(tmp_path: Path, kind: str) -> None:
    run_folder(tmp_path / "incoming")
    final = tmp_path / "final"
    if kind == "folder":
        final.mkdir()
    else:
        final.symlink_to("nowhere")
    with pytest.raises(EvidenceError):
        evidence.publish(tmp_path / "incoming", final)
