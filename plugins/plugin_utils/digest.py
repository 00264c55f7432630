# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The run digest: all that determines a run's outcome, and nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Left out on purpose: ids, time estimates and limits, division and system type (they judge, not
# measure).
_OF_CELL = (
    *("sut", "members", "devices", "profile", "device"),
    *("benchmark", "catalog_benchmark", "implementation", "scenario", "mode", "round", "duration"),
    *("recipe", "options", "keys", "loadgen_model", "loadgen_version", "run_prefix"),
    *("signature", "metric", "label_offset"),
)


def canonical(value: Any) -> str:
    """Return the sha256 (hex) of a JSON value, independent of key order."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    ).hexdigest()


def run_digest(
    cell: Mapping[str, Any],
    digests: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
) -> str:
    """Return the digest of a cell's run on a host with `fingerprint`.

    `digests` holds the identities of model, dataset, code and lock. A target that a person gave
    counts; one that calibration found follows from the rest and does not.
    """
    own = {k: cell[k] for k in _OF_CELL}
    own["target"] = cell["target"]
    return canonical({"cell": own, "digests": dict(digests), "host": dict(fingerprint)})
