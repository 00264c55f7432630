# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Downloads from a real HTTP server on this machine: resumed, verified, and the token kept safe."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.origin import fetch

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "c0" * 20
HF = f"hf:org/repo/sub dir/net.onnx@{COMMIT}"
HF_PATH = f"/org/repo/resolve/{COMMIT}/sub%20dir/net.onnx"


class Server(ThreadingHTTPServer):
    """Serves CONTENT, or what `answers` says: path -> (status, headers); keeps what was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.cut: int | None = None
        self.ranges = True
        self.chunked = False


class Handler(BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *_args: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        server, given = self.server, self.headers.get("Range")
        token = self.headers.get("Authorization")
        server.asked.append((self.command, self.path, given, token))
        if self.path in server.answers:
            status, headers = server.answers[self.path]
            self.head(status, headers | {"Content-Length": "0"})
            return
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and server.ranges else 0
        if start >= len(CONTENT):
            self.head(416, {"Content-Length": "0"})
            return
        rest = CONTENT[start:]
        size = (
            {"Transfer-Encoding": "chunked"}
            if server.chunked
            else {"Content-Length": str(len(rest))}
        )
        self.head(206 if start else 200, size)
        if server.chunked:
            self.wfile.write(b"%x\r\n" % len(rest))
        if body:
            self.wfile.write(rest[: server.cut])

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("HF_TOKEN", raising=False)


def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


server = pytest.fixture(serving, name="server")
cdn = pytest.fixture(serving, name="cdn")


def get(server: Server, store: Path, where: str = "", sha256: str | None = SHA) -> tuple[str, Path]:
    return fetch({"where": where or f"{server.url}/m", "sha256": sha256}, store, server.url)


def part_of(store: Path) -> Path:
    return store / "artifacts" / "sha256" / SHA[:2] / f"{SHA}.part"


def test_a_file_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    sha256, path = get(server, tmp_path / "store")
    assert (sha256, path.name, path.read_bytes()) == (SHA, SHA, CONTENT)
    assert path.stat().st_mode & 0o777 == 0o444
    assert get(server, tmp_path / "store") == (sha256, path)
    assert [a[0] for a in server.asked] == ["GET"]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_cut_download_goes_on_where_it_stopped(
    server: Server, tmp_path: Path, chunked: bool
) -> None:
    server.cut, server.chunked = 300_000, chunked
    with pytest.raises(BenchfleetError, match="the same command goes on with it"):
        get(server, tmp_path)
    have = part_of(tmp_path).stat().st_size
    # Of a chunked body the last block, up to 1 MiB, is lost with the connection.
    assert have == (0 if chunked else 300_000)
    server.cut, server.chunked = None, False
    assert get(server, tmp_path)[1].read_bytes() == CONTENT
    assert server.asked[-1][2] == (f"bytes={have}-" if have else None)
    assert not part_of(tmp_path).exists()


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    part_of(tmp_path).parent.mkdir(parents=True)
    part_of(tmp_path).write_bytes(CONTENT[:1000])
    server.ranges = False
    assert get(server, tmp_path)[1].read_bytes() == CONTENT


@pytest.mark.parametrize("whole", [True, False])
def test_a_part_of_full_length_is_verified(server: Server, tmp_path: Path, whole: bool) -> None:
    part_of(tmp_path).parent.mkdir(parents=True)
    part_of(tmp_path).write_bytes(CONTENT if whole else bytes(len(CONTENT)))
    if whole:
        assert get(server, tmp_path)[1].read_bytes() == CONTENT
    else:
        with pytest.raises(BenchfleetError, match="it was discarded"):
            get(server, tmp_path)
        assert not part_of(tmp_path).exists()


def test_wrong_content_is_discarded(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BenchfleetError, match=f"sha256 is {SHA}, expected {'ab' * 32}"):
        get(server, tmp_path, sha256="ab" * 32)
    assert not [p for p in (tmp_path / "artifacts").rglob("*") if p.is_file()]


@pytest.mark.parametrize(("status", "words"), [(401, "HF_TOKEN"), (403, "licence"), (503, "503")])
def test_a_refusal_says_what_to_do_and_keeps_the_part(
    server: Server, tmp_path: Path, status: int, words: str
) -> None:
    part_of(tmp_path).parent.mkdir(parents=True)
    part_of(tmp_path).write_bytes(CONTENT[:1000])
    server.answers["/m"] = (status, {})
    with pytest.raises(BenchfleetError, match=words):
        get(server, tmp_path)
    assert part_of(tmp_path).read_bytes() == CONTENT[:1000]


def test_a_server_that_is_not_there(server: Server, tmp_path: Path) -> None:
    with pytest.raises(BenchfleetError, match="the download stopped"):
        get(server, tmp_path, where="http://127.0.0.1:9/m")
    with pytest.raises(BenchfleetError, match="cannot be reached"):
        fetch({"where": HF, "sha256": None}, tmp_path, "http://127.0.0.1:9")


def hub(server: Server, target: str, etag: str = f'"{SHA}"') -> None:
    server.answers[HF_PATH] = (302, {"Location": target, "X-Linked-Etag": etag})


def test_the_hubs_digest_is_taken_from_its_first_answer(
    server: Server, cdn: Server, tmp_path: Path
) -> None:
    hub(server, f"{cdn.url}/blob")
    assert get(server, tmp_path, HF, None)[1].read_bytes() == CONTENT
    assert [a[:2] for a in server.asked] == [("HEAD", HF_PATH), ("GET", HF_PATH)]
    assert [a[:2] for a in cdn.asked] == [("GET", "/blob")]
    asked = len(server.asked)
    assert get(server, tmp_path, HF, None)[0] == SHA
    assert len(server.asked) == asked


def test_content_that_is_not_what_the_hub_published_is_discarded(
    server: Server, cdn: Server, tmp_path: Path
) -> None:
    hub(server, f"{cdn.url}/blob", "cd" * 32)
    with pytest.raises(BenchfleetError, match="it was discarded"):
        get(server, tmp_path, HF, None)


def test_a_file_without_a_published_digest_is_not_downloaded(
    server: Server, tmp_path: Path
) -> None:
    server.answers[HF_PATH] = (200, {"ETag": '"5"'})
    with pytest.raises(BenchfleetError, match="model_sha256"):
        get(server, tmp_path, HF, None)
    assert [a[0] for a in server.asked] == ["HEAD"]


def test_the_token_never_reaches_another_server(
    server: Server, cdn: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub(server, f"{cdn.url}/blob")
    get(server, tmp_path, HF, None)
    assert {a[3] for a in server.asked} == {"Bearer hf_secret"}
    assert [a[3] for a in cdn.asked] == [None]


def test_the_token_follows_the_hubs_own_paths(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub(server, "/api/cache/blob")
    get(server, tmp_path, HF, None)
    assert server.asked[-1][1::2] == ("/api/cache/blob", "Bearer hf_secret")


def test_a_plain_url_gets_no_token(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    get(server, tmp_path)
    assert [a[3] for a in server.asked] == [None]


def test_a_refused_head_of_the_hub_names_the_token(server: Server, tmp_path: Path) -> None:
    server.answers[HF_PATH] = (401, {})
    with pytest.raises(BenchfleetError, match=r"access is refused \(401\).*HF_TOKEN"):
        get(server, tmp_path, HF, None)


def test_a_full_disk_is_told_before_the_download(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _path: type("Usage", (), {"free": 1 << 20}))
    with pytest.raises(BenchfleetError, match=r"needs 0 MB, .* has 1 MB free"):
        get(server, tmp_path)
    assert not part_of(tmp_path).exists()
