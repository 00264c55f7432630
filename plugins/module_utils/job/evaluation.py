# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What happens to an accuracy log where it lies: it is read by upstream's script, and cut when big.

mlperf_log_accuracy.json holds every answer in hexadecimal and may have gigabytes, so the script
runs on the SUT, and what goes home is its printout, and the log or its two ends with the digest of
the whole.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from . import records

LOG, TEXT = "mlperf_log_accuracy.json", "accuracy.txt"
TOKEN_DTYPE = "@token_dtype@"  # in argv: the integer type of the tokens in the log
# tools/submission/truncate_accuracy_log.py of mlcommons/inference keeps this much of each end.
KEPT = 4096
_ENTRY = b'"qsl_idx"'
_NUMPY = re.compile(r"\b(?:np|numpy)\.\w+\(\s*([-+.\deE]+|nan|inf)\s*\)")
_HEAD = 1 << 20


class LogFault(Exception):
    """The accuracy log is not what LoadGen writes; the text says how."""


def token_dtype(log: Path) -> str:
    """Return 'int32' or 'int64': how many bytes one token takes in the first answer of a log.

    The same harness logs one width in Offline and another in Server, and its script has to be told.
    Raises LogFault when there is no answer with tokens.
    """
    with log.open("rb") as stream:
        head = stream.read(_HEAD).decode("utf-8", "replace")
    for entry in re.finditer(r"\{[^{}]*\}", head):
        try:
            first = json.loads(entry.group())
        except ValueError:
            continue
        count = first.get("token_count") or 0
        if count > 0:
            width = len(first.get("data", "")) / 2 / count
            if width in (4, 8):
                return "int32" if width == 4 else "int64"
            raise LogFault(f"{LOG}: {width:g} bytes for each token, 4 or 8 are known")
    raise LogFault(f"{LOG} holds no answer with a token_count")


def normalise(text: Path) -> None:
    """Write numbers that NumPy 2 prints as np.float64(1.5) as 1.5, as the checker reads them."""
    before = text.read_text(encoding="utf-8", errors="replace")
    after = _NUMPY.sub(r"\1", before)
    if after != before:
        text.write_text(after, encoding="utf-8")


def measure(log: Path) -> dict[str, Any]:
    """Return {"sha256", "bytes", "entries"} of an accuracy log, in one pass."""
    digest, size, entries, overlap = hashlib.sha256(), 0, 0, b""
    with log.open("rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
            size += len(block)
            data = overlap + block
            entries += data.count(_ENTRY)
            overlap = data[-(len(_ENTRY) - 1) :]
    return {"sha256": digest.hexdigest(), "bytes": size, "entries": entries}


def cut(run_dir: Path, originals: Path, limit: int) -> dict[str, Any] | None:
    """Cut an accuracy log over `limit` bytes to its two ends; return what the whole one was.

    The whole log moves to `originals` (on the same file system), its digest becomes the last line
    of accuracy.txt. None when the log is within the limit or not there. Raises OSError.
    """
    log = run_dir / LOG
    if not log.is_file() or log.stat().st_size <= max(limit, 2 * KEPT):
        return None
    found = measure(log)
    kept = originals / run_dir.name / LOG
    kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    log.replace(kept)
    with kept.open("rb") as stream:
        head = stream.read(KEPT)
        stream.seek(-KEPT, 2)
        tail = stream.read()
    ends = b"\n\n...\n\n".join((head, tail)).decode("utf-8", "replace")
    records.atomic_write(log, ends)
    text = run_dir / TEXT
    printed = text.read_text(encoding="utf-8", errors="replace") if text.exists() else ""
    records.atomic_write(text, f"{printed}\nhash={found['sha256']}\n")
    return dict(found, original=str(kept))
