# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into a support bundle, and the archive itself: every text through the redactor."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from .errors import BenchfleetError
from .redact import Redactor

MOST_BYTES = 1 << 20  # of one file; of a longer log the end
_ENDINGS = (".json", ".conf", ".txt", ".log", ".sh", ".yml")
# Large, and a dataset's licence may not let their content go anywhere.
_NEVER = ("mlperf_log_accuracy", "mlperf_log_trace", "sample", "predictions")


def collect(results: Path) -> dict[str, str]:
    """Return name in the bundle -> text: the latest request's outcomes and preflight, the small
    files of its runs, and what was brought of the hosts' logs.

    Raises BenchfleetError when there is nothing yet.
    """
    outcomes = sorted((results / "outcomes").glob("*.json"), key=lambda p: p.stat().st_mtime)
    checks = sorted((results / "preflight").glob("*.json"), key=lambda p: p.stat().st_mtime)
    files = [*outcomes[-1:], *checks[-1:], *sorted((results / "logs").glob("*/*"))]
    for run in _runs(outcomes[-1]) if outcomes else ():
        files += sorted((results / run).rglob("*"))
    found = {str(p.relative_to(results)): text for p in files if (text := _text(p)) is not None}
    if not found:
        raise BenchfleetError(f"{results} holds nothing to report on (benchfleet_results).")
    return found


def _runs(outcomes: Path) -> Iterator[str]:
    try:
        cells = json.loads(outcomes.read_text(encoding="utf-8"))["cells"]
    except (OSError, ValueError, KeyError):
        return
    yield from dict.fromkeys(str(c["run"]) for c in cells if c.get("run"))


def _text(path: Path) -> str | None:
    """Return a small text file, the end of a longer log, None for what is left out."""
    if path.is_symlink() or not path.is_file() or path.suffix not in _ENDINGS:
        return None
    if any(word in path.name for word in _NEVER):
        return None
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size > MOST_BYTES and path.suffix == ".json":
            return None
        file.seek(max(0, size - MOST_BYTES))
        return file.read().decode("utf-8", "replace")


def redacted(files: Mapping[str, str], redactor: Redactor) -> dict[str, str]:
    """Return the files without what is private, their names too."""
    for name, text in files.items():
        redactor.discover(name)
        redactor.discover(text)
    return {redactor.text(name): redactor.text(text) for name, text in files.items()}


def write(path: Path, files: Mapping[str, str], seconds: int) -> None:
    """Write the archive, readable by its owner alone; `seconds` is the time of its members."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
        for name, text in files.items():
            raw = text.encode("utf-8", "replace")
            member = tarfile.TarInfo(f"{path.name.removesuffix('.tar.gz')}/{name}")
            member.size, member.mtime, member.mode = len(raw), seconds, 0o600
            archive.addfile(member, io.BytesIO(raw))
