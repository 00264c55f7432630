# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures: a store, web servers of this machine, an obtaining that remembers what was said."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import Access
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.obtain import (
    Obtained,
    obtain,
)
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store

_spec = importlib.util.spec_from_file_location("web", Path(__file__).with_name("web.py"))
assert _spec and _spec.loader
web = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(web)

TOKENS = ("HF_TOKEN", "CF_ACCESS_CLIENT_ID", "CF_ACCESS_CLIENT_SECRET")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name in TOKENS:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(name="server")
def _server() -> Iterator[Any]:
    with web.serving() as server:
        yield server


@pytest.fixture(name="cdn")
def _cdn() -> Iterator[Any]:
    with web.serving() as server:
        yield server


@pytest.fixture(name="store")
def _store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


class Bring:
    """Obtains from one origin or several; `said` keeps the lines of progress."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.said: list[str] = []
        self.access = Access()

    def __call__(self, *origins: dict[str, Any], name: str = "it", **spec: Any) -> Obtained:
        whole = {"name": name, "origins": list(origins), **spec}
        return obtain(self.store, whole, self.access, self.said.append)


@pytest.fixture(name="bring")
def _bring(store: Store) -> Bring:
    return Bring(store)


@pytest.fixture(name="git")
def _git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Run real git, with nobody's own settings."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")

    def run(folder: Path, *words: str) -> str:
        own = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
        own += ["-c", "protocol.file.allow=always"]
        argv = ["git", "-C", str(folder), *own, *words]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    return run


@pytest.fixture(name="serve")
def _serve(git: Callable[..., str]) -> Iterator[Callable[[Path], str]]:
    """Serve a repository by git's own server; return its address. Blobs can be left out."""
    with contextlib.ExitStack() as running:

        def start(repository: Path) -> str:
            with socket.socket() as s:
                s.bind(("127.0.0.1", 0))
                port = s.getsockname()[1]
            git(repository, "config", "uploadpack.allowFilter", "true")
            where = ["--listen=127.0.0.1", f"--port={port}", f"--base-path={repository.parent}"]
            argv = ["git", "daemon", "--reuseaddr", "--export-all", *where]
            quiet = {"stderr": subprocess.DEVNULL, "start_new_session": True}
            daemon = running.enter_context(subprocess.Popen(argv, **quiet))
            running.callback(daemon.terminate)
            for _try in range(200):
                with socket.socket() as s:
                    if s.connect_ex(("127.0.0.1", port)) == 0:
                        break
                if daemon.poll() is not None:
                    pytest.skip("git has no daemon here")
                time.sleep(0.01)
            return f"git://127.0.0.1:{port}/{repository.name}"

        yield start
