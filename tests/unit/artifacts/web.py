# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server of this machine that can misbehave."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CONTENT = bytes(range(256)) * 4000


class Server(ThreadingHTTPServer):
    """Serves CONTENT, or what `files` (path -> body) and `answers` (path -> (status, headers)) say;
    keeps what was asked: (method, path, Range, Authorization) and all headers.

    `cut` ends a body early, `ranges` False ignores Range, `shift` answers another range, `stated`
    lies about the length, `slow_s` waits between blocks, `gate` may answer in place of all that,
    `etags` are sent along.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.answers: dict[str, tuple[int, dict[str, str]]] = {}
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, str | None, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.cut: int | None = None
        self.ranges = True
        self.chunked = False
        self.shift = 0
        self.stated: int | None = None
        self.gate: Any = None
        self.etags: dict[str, str] = {}
        self.slow_s = 0.0
        self.ended = threading.Event()


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
        server.asked.append((self.command, self.path, given, self.headers.get("Authorization")))
        server.headers.append({k.lower(): v for k, v in self.headers.items()})
        gated = server.gate and server.gate(self.path, server.headers[-1])
        if gated or self.path in server.answers:
            status, headers = gated or server.answers[self.path]
            self.head(status, headers | {"Content-Length": "0"})
            return
        content = server.files.get(self.path, CONTENT if not server.files else None)
        if content is None:
            self.head(404, {"Content-Length": "0"})
            return
        start = int(given.removeprefix("bytes=").rstrip("-")) if given and server.ranges else 0
        if start and start >= len(content):
            self.head(416, {"Content-Length": "0"})
            return
        start = max(0, start - server.shift)
        self.send(content[start:], start, body)

    def send(self, rest: bytes, start: int, body: bool) -> None:
        server = self.server
        stated = {"Content-Length": str(server.stated or len(rest))}
        size = {"Transfer-Encoding": "chunked"} if server.chunked else stated
        tagged = {"ETag": self.server.etags[self.path]} if self.path in self.server.etags else {}
        ranged = {"Content-Range": f"bytes {start}-/*"} if start or server.shift else {}
        self.head(206 if ranged else 200, size | ranged | tagged)
        if not body:
            return
        if server.chunked:
            self.wfile.write(b"%x\r\n" % len(rest))
        rest = rest[: server.cut]
        step = 10_000 if server.slow_s else len(rest) or 1
        for at in range(0, len(rest), step):
            try:
                self.wfile.write(rest[at : at + step])
            except OSError:
                return
            if server.slow_s and server.ended.wait(server.slow_s):
                return
        if server.chunked and server.cut is None:
            self.wfile.write(b"\r\n0\r\n\r\n")

    def head(self, status: int, headers: dict[str, str]) -> None:
        self.protocol_version = "HTTP/1.1"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True


@contextmanager
def serving() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
