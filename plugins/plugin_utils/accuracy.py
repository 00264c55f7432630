# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take the accuracy figures out of accuracy.txt, the printout of a benchmark's accuracy script.

The printout may have thousands of other lines (progress bars, logging); the last line that has the
form of a metric counts, as in the official checker. With this rule the published accuracy follows
from the file for every published row of v4.1, v5.1 and v6.0.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable

_NUMBER = r"([-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?)"
_WRAPPED = re.compile(r"\b(?:(?:np|numpy)\.\w+|tensor|array)\(\s*([-+.\deE]+)\s*(?:,[^()]*)?\)")
_HASH = re.compile(r"hash=([0-9A-Fa-f]{64})\s*$")
_MAX_LINE = 100_000
"""Characters of a line that are looked at; metric lines are short."""


def _entry(key: str) -> re.Pattern[str]:
    """``'key': 1.5``, ``'key': '1.5'`` or ``"key": 1.5`` anywhere in a line (a printed dict)."""
    return re.compile(rf"""['"]{re.escape(key)}['"]\s*:\s*['"]?{_NUMBER}""")


def _start(text: str) -> re.Pattern[str]:
    """A number after ``text`` (a regular expression) at the beginning of a line."""
    return re.compile(rf"^{text}\s*{_NUMBER}")


_FORMS: dict[str, tuple[re.Pattern[str], ...]] = {
    "acc": (_start(r'(?:accuracy=|\{"accuracy":)'),),
    "mAP": (re.compile(rf"\bmAP=\s*{_NUMBER}"), _entry("Total")),
    "F1": (_start(r"""\{['"]exact_match['"]:\s*[\d.]+,\s*['"]f1['"]:"""),),
    "F1_HIERARCHICAL": (_entry("f1"),),
    "DICE": (_start(r"Accuracy:\s*mean\s*="),),
    "AUC": (_start("AUC="),),
    "ACCURACY": (re.compile(rf"^Word Error Rate:[^,]*,\s*accuracy=\s*{_NUMBER}"),),
    "E2E_ACCURACY": (_start(r"Accuracy:"),),
    "bleu": (_start(r"BLEU:"),),
    "meanAcc": (_entry("mean-accuracy"),),
    "DLRM_NE": (re.compile(rf"\bmetric/lifetime_ne/rating:\s*{_NUMBER}"),),
    "DLRM_ACC": (re.compile(rf"\bmetric/lifetime_accuracy/rating:\s*{_NUMBER}"),),
    "DLRM_AUC": (re.compile(rf"\bmetric/lifetime_gauc/rating:\s*{_NUMBER}"),),
    "ROUGE1": (_entry("rouge1"),),
    "ROUGE2": (_entry("rouge2"),),
    "ROUGEL": (_entry("rougeL"),),
    "ROUGELSUM": (_entry("rougeLsum"),),
    "GEN_LEN": (_entry("gen_len"),),
    "TOKENS_PER_SAMPLE": (_entry("tokens_per_sample"),),
    "CLIP_SCORE": (_entry("CLIP_SCORE"),),
    "FID_SCORE": (_entry("FID_SCORE"),),
    "gsm8k_accuracy": (_entry("gsm8k"),),
    "mbxp_accuracy": (_entry("mbxp"),),
    "exact_match": (_entry("exact_match"),),
    "vbench_score": (_entry("vbench_score"),),
}
METRICS = tuple(_FORMS)
"""The metric names that ``parse_accuracy`` knows: those of the official checker."""


def _lines(text: str) -> Iterable[str]:
    """The lines of a printout; a carriage return ends one, as a progress bar does."""
    for line in io.StringIO(text, newline=None):
        yield _WRAPPED.sub(r"\1", line[:_MAX_LINE]) if "(" in line else line[:_MAX_LINE]


def _find(line: str, forms: tuple[re.Pattern[str], ...]) -> float | None:
    for form in forms:
        if match := form.search(line):
            value = float(match[1])
            if math.isfinite(value):
                return value
    return None


def parse_accuracy(text: str, metrics: Iterable[str] | None = None) -> dict[str, float]:
    """The figures of ``metrics`` (all known ones when None), as printed, by metric name.

    Percentages stay percentages, fractions stay fractions. A metric without a line is left out; a
    name outside ``METRICS`` is looked for as a dict entry of that name.
    """
    names = METRICS if metrics is None else tuple(metrics)
    forms = {name: _FORMS.get(name) or (_entry(name),) for name in names}
    found: dict[str, float] = {}
    for line in _lines(text):
        for name, patterns in forms.items():
            value = _find(line, patterns)
            if value is not None:
                found[name] = value
    return found


def accuracy_hash(text: str) -> str | None:
    """sha256 of the untruncated mlperf_log_accuracy.json from the last ``hash=`` line, or None."""
    found = None
    for line in _lines(text):
        if match := _HASH.match(line):
            found = match[1].lower()
    return found
