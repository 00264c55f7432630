# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures of the unit tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

PUBLISHED = Path(__file__).resolve().parents[2].parent / "shared" / "published_results"


@pytest.fixture(scope="session")
def published() -> Path:
    """The folder of published MLPerf results beside the checkout; CI must have it."""
    if not PUBLISHED.is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"the published results are missing: {PUBLISHED}")
        pytest.skip("The published MLPerf results do not lie beside this checkout.")
    return PUBLISHED
