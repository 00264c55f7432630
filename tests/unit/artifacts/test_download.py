# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from a real HTTP server on this machine: resumed, verified, and the token kept safe."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import (
    Access,
    ArtifactError,
    Progress,
)
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.obtain import obtain
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.models import _own, _spec

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c0" * 20
HF = f"hf:org/repo/sub dir/net.onnx@{COMMIT}"
HF_PATH = f"/org/repo/resolve/{COMMIT}/sub%20dir/net.onnx"


def get(server: Any, store: Path, where: str = "", sha256: str | None = SHA) -> tuple[str, Path]:
    """Obtain a cell's model as provisioning does."""
    plain = _spec("m", {"url": where or f"{server.url}/m"}, sha256)
    spec = _own(where, "m", sha256).artifact if where.startswith("hf:") else plain
    access = Access(hf_endpoint=server.url)
    found = obtain(Store(store), spec or {}, access, lambda _line: None)
    return found.digest, found.path


def part_of(store: Path) -> Path:
    return store / "artifacts" / ".parts" / f"{SHA}.part"


def test_a_file_is_downloaded_once(server: Any, tmp_path: Path) -> None:
    sha256, path = get(server, tmp_path / "store")
    assert (sha256, path.name, path.read_bytes()) == (SHA, SHA, CONTENT)
    assert path.stat().st_mode & 0o777 == 0o444
    assert get(server, tmp_path / "store") == (sha256, path)
    assert [a[0] for a in server.asked] == ["GET"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_download_goes_on_where_it_stopped(
    server: Any, tmp_path: Path, chunked: bool
) -> None:
    server.cut, server.chunked = 300_000, chunked
    with pytest.raises(ArtifactError, match="the same command goes on with it"):
        get(server, tmp_path)
    have = part_of(tmp_path).stat().st_size
    assert have == 300_000
    server.cut, server.chunked = None, False
    assert get(server, tmp_path)[1].read_bytes() == CONTENT
    assert server.asked[-1][2] == f"bytes={have}-"
    assert not part_of(tmp_path).exists()


def test_a_server_without_ranges_starts_over(server: Any, tmp_path: Path) -> None:
    part_of(tmp_path).parent.mkdir(parents=True)
    part_of(tmp_path).write_bytes(CONTENT[:1000])
    server.ranges = False
    assert get(server, tmp_path)[1].read_bytes() == CONTENT


@pytest.mark.parametrize("whole", [True, False])
def test_a_part_of_full_length_is_verified(server: Any, tmp_path: Path, whole: bool) -> None:
    part_of(tmp_path).parent.mkdir(parents=True)
    part_of(tmp_path).write_bytes(CONTENT if whole else bytes(len(CONTENT)))
    if whole:
        assert get(server, tmp_path)[1].read_bytes() == CONTENT
    else:
        with pytest.raises(ArtifactError, match="it was discarded"):
            get(server, tmp_path)
        assert not part_of(tmp_path).exists()


def test_wrong_content_is_discarded(server: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=f"sha256 is {SHA}, expected {'ab' * 32}"):
        get(server, tmp_path, sha256="ab" * 32)
    assert not [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file() and p.stat().st_size]


@pytest.mark.parametrize(("status", "words"), [(401, "refused"), (403, "licence"), (503, "503")])
def test_a_refusal_says_what_to_do_and_keeps_the_part(
    server: Any, tmp_path: Path, status: int, words: str
) -> None:
    part_of(tmp_path).parent.mkdir(parents=True)
    part_of(tmp_path).write_bytes(CONTENT[:1000])
    server.answers["/m"] = (status, {})
    with pytest.raises(ArtifactError, match=words):
        get(server, tmp_path)
    assert part_of(tmp_path).read_bytes() == CONTENT[:1000]


def test_a_server_that_is_not_there(server: Any, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="the download stopped"):
        get(server, tmp_path, where="http://127.0.0.1:9/m")
    with pytest.raises(ArtifactError, match="cannot be reached"):
        server.url = "http://127.0.0.1:9"
        get(server, tmp_path, HF, None)


def hub(server: Any, target: str, etag: str = f'"{SHA}"') -> None:
    server.answers[HF_PATH] = (302, {"Location": target, "X-Linked-Etag": etag})


def test_the_hubs_digest_is_taken_from_its_first_answer(
    server: Any, cdn: Any, tmp_path: Path
) -> None:
    hub(server, f"{cdn.url}/blob")
    assert get(server, tmp_path, HF, None)[1].read_bytes() == CONTENT
    assert [a[:2] for a in server.asked] == [("HEAD", HF_PATH), ("GET", HF_PATH)]
    assert [a[:2] for a in cdn.asked] == [("GET", "/blob")]
    asked = len(server.asked)
    assert get(server, tmp_path, HF, None)[0] == SHA
    assert len(server.asked) == asked


def test_content_that_is_not_what_the_hub_published_is_discarded(
    server: Any, cdn: Any, tmp_path: Path
) -> None:
    hub(server, f"{cdn.url}/blob", "cd" * 32)
    with pytest.raises(ArtifactError, match="it was discarded"):
        get(server, tmp_path, HF, None)


def test_a_file_without_a_published_digest_is_not_downloaded(server: Any, tmp_path: Path) -> None:
    server.answers[HF_PATH] = (200, {"ETag": '"5"'})
    with pytest.raises(ArtifactError, match="model_sha256"):
        get(server, tmp_path, HF, None)
    assert [a[0] for a in server.asked] == ["HEAD"]


def test_the_token_never_reaches_another_server(
    server: Any, cdn: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub(server, f"{cdn.url}/blob")
    get(server, tmp_path, HF, None)
    assert {a[3] for a in server.asked} == {"Bearer hf_secret"}
    assert [a[3] for a in cdn.asked] == [None]


def test_the_token_follows_the_hubs_own_paths(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub(server, "/api/cache/blob")
    get(server, tmp_path, HF, None)
    assert server.asked[-1][1::2] == ("/api/cache/blob", "Bearer hf_secret")


def test_a_plain_url_gets_no_token(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(server, tmp_path)
    assert [a[3] for a in server.asked] == [None]


def test_a_refused_head_of_the_hub_names_the_token(server: Any, tmp_path: Path) -> None:
    server.answers[HF_PATH] = (401, {})
    with pytest.raises(ArtifactError, match=r"access is refused \(401\).*HF_TOKEN"):
        get(server, tmp_path, HF, None)


def test_a_full_disk_is_told_before_the_download(
    server: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(ArtifactError, match=r"needs 0 MB, .* has 1 MB free"):
        get(server, tmp_path)
    assert not part_of(tmp_path).exists()


def test_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    said: list[str] = []
    progress = Progress(said.append, "m", 3_000_000_000)
    for _block in range(100):
        now[0] += 0.12
        progress.add(10_000_000)
    assert said == ["m: 420 MB of 3 GB, 83.3 MB/s", "m: 840 MB of 3 GB, 83.3 MB/s"]
    with pytest.raises(OSError, match="less than 1 kB a second"):
        for _block in range(700):
            now[0] += 1
            progress.add(1)
