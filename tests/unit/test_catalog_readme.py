# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The example in the catalog's README is a benchmark that runs."""

from __future__ import annotations

import re
from pathlib import Path

from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import planner
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import OURS, Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse


def test_the_example_is_planned(tmp_path: Path) -> None:
    text = (OURS / "README.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```yaml\n(.*?)^```", text, re.S | re.M)
    for kind in ("benchmarks", "implementations"):
        (tmp_path / kind).mkdir()
    (tmp_path / "benchmarks" / "flowers.yml").write_text(example, encoding="utf-8")
    onnx = (OURS / "implementations" / "onnx.yml").read_text(encoding="utf-8")
    added = onnx.replace("benchmarks: [", "benchmarks: [flowers, ")
    (tmp_path / "implementations" / "onnx.yml").write_text(added, encoding="utf-8")
    asked = parse({"benchmark": "flowers", "dataset_path": "/data/flowers.npz"})
    cells = planner.plan(asked, {"node": {}}, Catalog(tmp_path))
    assert [c["refuse"] for c in cells] == [None] * 6
    assert cells[0]["model"]["artifact"]["origins"][0]["url"].startswith("https://models.example")
