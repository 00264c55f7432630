# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's package manager at work: its log, its time limit, and locks that others hold."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Sequence

from . import host_facts, packages
from .host_store import HostError

EVERYWHERE = "/var/log/benchfleet"
LOOK_S = 5  # between two tries while another package manager is at work


class Manager:
    """The host's package manager, its log and its time."""

    def __init__(self, name: str, log: Path, limit_s: int, lock_wait_s: int) -> None:
        self.name = name
        self.log = log
        self.lock_wait_s = lock_wait_s
        self._limit_s = limit_s
        self._end = time.monotonic() + limit_s
        self._environment = {**os.environ, **packages.ENVIRONMENT}
        self._environment["ZYPP_LOCK_TIMEOUT"] = str(lock_wait_s)

    def run(self, argv: Sequence[str]) -> tuple[int, str]:
        """Run a command until it no longer meets another one's lock; return its code and output.

        Raises HostError when the time is over.
        """
        patience = time.monotonic() + self.lock_wait_s
        while True:
            code, text = self._once(argv)
            if code == 0 or not packages.locked(text) or time.monotonic() > patience:
                return code, text
            time.sleep(LOOK_S)

    def must(self, argv: Sequence[str]) -> str:
        """Run a command and return its output. Raises HostError when it fails."""
        code, text = self.run(argv)
        if code != 0:
            raise HostError(
                f"{Path(argv[0]).name} failed: {packages.telling_line(text)}"
                f" The whole output: {self.log}"
            )
        return text

    def _once(self, argv: Sequence[str]) -> tuple[int, str]:
        with self.log.open("ab") as stream:
            stream.write(f"$ {' '.join(argv)}\n".encode())
            stream.flush()
            start = stream.tell()
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,
            )
            try:
                code = process.wait(max(1.0, self._end - time.monotonic()))
            except subprocess.TimeoutExpired:
                _end(process)
                raise HostError(
                    f"{argv[0]} was ended after {self._limit_s} s. The whole output: {self.log}"
                ) from None
        with self.log.open("rb") as found:
            found.seek(start)
            return code, found.read().decode("utf-8", "replace")


def new_log(home: str) -> Path:
    """Make and return an empty log below `home`. Root may not write to a home on NFS."""
    name = time.strftime("packages-%Y%m%dT%H%M%SZ.log", time.gmtime())
    for folder in (Path(host_facts.expand(home), "logs"), Path(EVERYWHERE)):
        try:
            host_facts.make_folder(folder)
            (folder / name).write_bytes(b"")
        except OSError:
            continue
        return folder / name
    raise HostError(f"neither {home}/logs nor {EVERYWHERE} can be written.")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a package manager: it may finish the package it is at."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def install_debs(manager: Manager, install: Sequence[str], files: Sequence[Path]) -> None:
    """Let apt choose among files: an index of them takes the place of every repository.

    Raises HostError when apt fails, or a file is no package.
    """
    with tempfile.TemporaryDirectory(prefix="benchfleet-packages-") as temporary:
        folder = Path(temporary)
        folder.chmod(0o755)
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True)
        with (folder / "Packages").open("w", encoding="utf-8") as index:
            for file in files:
                (folder / file.name).symlink_to(file.resolve())
                index.write(_entry(file))
        source = f"deb [trusted=yes] file:{folder} ./\n"
        (folder / "sources.list").write_text(source, encoding="utf-8")
        options = packages.apt_folder_options(str(folder))
        manager.must(["apt-get", "-q", *options, "update"])
        manager.must([install[0], *options, *install[1:]])


def _entry(file: Path) -> str:
    done = subprocess.run(["dpkg-deb", "--field", str(file)], capture_output=True, check=False)
    if done.returncode != 0:
        raise HostError(f"{file} is no Debian package.")
    content = hashlib.sha256(file.read_bytes()).hexdigest()
    control = done.stdout.decode("utf-8", "replace")
    return packages.index_entry(control, file.name, file.stat().st_size, content)
