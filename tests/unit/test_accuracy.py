# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""accuracy.txt of all benchmarks against the published accuracy."""

from __future__ import annotations

import csv
import re
import time
from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.accuracy import (
    METRICS,
    accuracy_hash,
    parse_accuracy,
)


def published_figures(row: dict[str, str]) -> dict[str, float]:
    """``NAME: value`` pairs joined by two blanks; v3.0 published the number alone."""
    if re.fullmatch(r"[\d.]+", row["accuracy"]):
        name = "F1" if row["mlperf_model"].startswith("bert") else "acc"
        return {name: float(row["accuracy"])}
    pairs = (pair.split(": ") for pair in row["accuracy"].split("  "))
    return {name: float(value) for name, value in pairs}


def test_every_published_accuracy_is_reproduced(published: Path) -> None:
    with (published / "ground_truth" / "expected_rows.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    for row in rows:
        folder = published / row["round"] / row["location"] / "accuracy"
        text = (folder / "accuracy.txt").read_text(encoding="utf-8", errors="replace")
        expected = published_figures(row)
        assert parse_accuracy(text, expected) == pytest.approx(expected, rel=1e-9), folder
        assert re.fullmatch("[0-9a-f]{64}", accuracy_hash(text) or ""), folder


@pytest.mark.parametrize(
    "line,name,value",
    [
        ("accuracy=76.064%, good=38032, total=50000", "acc", 76.064),
        ('{"accuracy": 72.5}', "acc", 72.5),
        ("mAP=37.330%", "mAP", 37.33),
        ("{'Car': 60.1, 'Total': 54.25}", "mAP", 54.25),
        ('{"exact_match": 82.819, "f1": 90.279}', "F1", 90.279),
        ('{"category": 1, "f1": 0.7886}', "F1_HIERARCHICAL", 0.7886),
        ("Accuracy: mean = 0.86112, kidney = 0.9346, tumor = 0.7877", "DICE", 0.86112),
        ("AUC=80.233%, accuracy=90.1%", "AUC", 80.233),
        ("x metric/lifetime_ne/rating: 0.866", "DLRM_NE", 0.866),
        ("x metric/lifetime_accuracy/rating: 0.69", "DLRM_ACC", 0.69),
        ("x metric/lifetime_gauc/rating: 0.78", "DLRM_AUC", 0.78),
        ("{'rouge1': np.float64(44.5), 'rouge2': '22.1'}", "ROUGE1", 44.5),
        ("{'rouge1': np.float64(44.5), 'rouge2': '22.1'}", "ROUGE2", 22.1),
        ("{'tokens_per_sample': np.float32(294.45)}", "TOKENS_PER_SAMPLE", 294.45),
        ("Accuracy Results: {'FID_SCORE': tensor(23.9), 'CLIP_SCORE': '31.7'}", "FID_SCORE", 23.9),
        ("Word Error Rate: 2.16%, accuracy=97.83%", "ACCURACY", 97.83),
        ("{'gsm8k': 73.78, 'mbxp': 60.12}", "gsm8k_accuracy", 73.78),
        ("{'vbench_score': 69.98}", "vbench_score", 69.98),
        ("Accuracy: 35.92", "E2E_ACCURACY", 35.92),
        ("{'my_metric': 1.5e-3}", "my_metric", 0.0015),
    ],
)
def test_forms(line: str, name: str, value: float) -> None:
    assert parse_accuracy(f"noise\n{line}\nDone!\n", [name]) == {name: value}


def test_the_last_matching_line_wins() -> None:
    text = "accuracy=1.0%, good=1\n 50%|##\raccuracy=75.5%, good=2\r\nhash=zz\n"
    assert parse_accuracy(text, ["acc"]) == {"acc": 75.5}


def test_lines_the_checker_would_not_see() -> None:
    assert parse_accuracy("INFO accuracy=76.0%\n", ["acc"]) == {}
    assert parse_accuracy("INFO AUC=80\nINFO Accuracy: mean = 0.8\n", ["AUC", "DICE"]) == {}
    assert parse_accuracy("accuracy=nan%\naccuracy=1e999\n", ["acc"]) == {}


def test_all_metrics_are_looked_for_by_default() -> None:
    found = parse_accuracy("{'rouge1': 38.8, 'gen_len': 8167163}\n")
    assert found == {"ROUGE1": 38.8, "GEN_LEN": 8167163}
    assert set(found) <= set(METRICS)


def test_hash() -> None:
    first, last = "a" * 64, "B" * 64
    assert accuracy_hash(f"accuracy=1%\nhash={first}\nhash={last}\n") == last.lower()
    assert accuracy_hash("hash=deadbeef\n") is None


def test_hostile_text_takes_little_time() -> None:
    start = time.perf_counter()
    parse_accuracy("{" * 300_000 + "np." * 100_000 + "\n" + "'rouge1': " * 30_000)
    assert time.perf_counter() - start < 2
