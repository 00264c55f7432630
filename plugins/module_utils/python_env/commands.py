# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program with its output in a log, without the secrets of index addresses, and say in one
line why it failed."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path

from ..host_store import HostError

LIMIT_S = 3600  # of one program: 14 GB of vLLM at 4 MB/s
_SECRET = re.compile(rb"://[^/\s]*@")
_NO_SPACE = re.compile(r"No space left on device|Disk quota exceeded", re.I)
_CERTIFICATE = re.compile(r"CERTIFICATE_VERIFY_FAILED|invalid peer certificate", re.I)
_HASHES = re.compile(r"DO NOT MATCH THE HASHES|Hash mismatch", re.I)
_NETWORK = re.compile(
    r"Failed to establish a new connection|NameResolutionError|Name or service not known"
    r"|Temporary failure in name resolution|Network is unreachable|Connect(ion)?Timeout"
    r"|Connection refused|ProxyError|Read timed out|dns error|error sending request",
    re.I,
)
_NO_WHEEL = re.compile(
    r"No matching distribution found for ([^\s;]+)"
    r"|Because ([^\s;]+) (?:has no|was not found)|no version of ([^\s;]+)"
)
_PACKAGE = re.compile(r"\b([A-Za-z0-9][\w.-]*==[^\s`(]+)")
_SERVER = re.compile(r"host='([^']+)'|https?://(?:[^/\s]*@)?([^/\s'\",)]+)")


@dataclass(frozen=True)
class Commands:
    """Runs programs that log to `log` and unpack in `scratch` (/tmp may be too small); `lock` is a
    file descriptor that they inherit, so that a lock is held while one of them still runs. `what`
    begins the sentence that says what failed."""

    log: Path
    scratch: Path
    lock: int
    what: str = "building the Python environment"
    limit_s: float = LIMIT_S

    def run(
        self, argv: list[str], environment: dict[str, str], missing: str = "{} was not found."
    ) -> None:
        """Run one program to its end.

        Raises HostError with the reason and the log's path; `missing` is the reason when a package
        (its place holder) was not found.
        """
        with self.log.open("ab", buffering=0) as f:
            f.write(_SECRET.sub(b"://***@", f"$ {' '.join(argv)}\n".encode()))
            started = f.tell()
            process = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "TMPDIR": str(self.scratch), **environment},
                start_new_session=True,
                pass_fds=(self.lock,),
            )
            late = threading.Event()
            timer = threading.Timer(self.limit_s, _end, (process, late))
            timer.start()
            try:
                with process:
                    for line in process.stdout or ():
                        f.write(_SECRET.sub(b"://***@", line))
            finally:
                timer.cancel()
        if process.returncode:
            reason = f"it took longer than {self.limit_s / 60:g} minutes." if late.is_set() else ""
            with self.log.open(encoding="utf-8", errors="replace") as text:
                text.seek(started)
                reason = reason or _reason(text.read(), self.log, missing)
            said = f"{self.what} failed: {reason} The whole output: {self.log}"
            raise HostError(said, str(self.log))


def _end(process: subprocess.Popen[bytes], late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _reason(said: str, log: Path, missing: str) -> str:
    """Return one line that says why an installer failed, from what it printed."""
    if _NO_SPACE.search(said):
        free = shutil.disk_usage(log).free >> 20
        return f"the disk is full ({free} MB free at {log.parent.parent})."
    if _CERTIFICATE.search(said):
        return (
            f"the certificate of {_server(said)} is not trusted here; set benchfleet_ca_bundle"
            " to your site's certificates."
        )
    if (found := _HASHES.search(said)) is not None:
        package = _PACKAGE.search(said, found.start())
        what = package[1] if package else "a package"
        return (
            f"{what} from the index is not the locked file (its sha256 differs): a damaged"
            " download, or a mirror that holds something else."
        )
    if _NETWORK.search(said):
        return (
            f"no connection to {_server(said)}; set benchfleet_proxy, or"
            " benchfleet_pip_index_url to an index that this host reaches."
        )
    if (absent := _NO_WHEEL.search(said)) is not None:
        return missing.format(next(filter(None, absent.groups())))
    return _last_error(said)


def _server(said: str) -> str:
    found = _SERVER.search(said)
    return (found[1] or found[2]) if found else "the package index"


def _last_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [
        line for line in lines if line.lower().startswith(("error", "fatal")) or "Error:" in line
    ]
    return (errors or lines or ["no output."])[-1][:300]
