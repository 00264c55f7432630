# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in benchmark's files are the ones its README describes."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import numpy
import pytest

DIGITS = Path(__file__).parents[2] / "catalog" / "data" / "digits"
ROW = re.compile(r"\| `(?P<name>[\w.]+)` \| (?P<size>[\d,]+) \| `(?P<sha256>[0-9a-f]{64})` \|")
ROWS = [match.groupdict() for match in ROW.finditer((DIGITS / "README.md").read_text("utf-8"))]


def test_readme_names_both_files() -> None:
    assert [row["name"] for row in ROWS] == ["digits.npz", "digits_cnn.onnx"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_file_has_the_stated_size_and_digest(row: dict[str, str]) -> None:
    data = (DIGITS / row["name"]).read_bytes()
    assert len(data) == int(row["size"].replace(",", ""))
    assert hashlib.sha256(data).hexdigest() == row["sha256"]


def test_dataset_layout() -> None:
    with numpy.load(DIGITS / "digits.npz", allow_pickle=False) as data:
        assert data["image"].shape == (500, 8, 8)
        assert data["image"].dtype == numpy.uint8
        assert data["image"].max() == 16
        assert data["labels"].dtype == numpy.int64
        assert sorted(set(data["labels"].tolist())) == list(range(10))
        assert float(data["scale"]) == 1 / 16
