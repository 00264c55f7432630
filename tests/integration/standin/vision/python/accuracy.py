# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for an accuracy script of mlcommons/inference, for tests; it prints what those do."""

import argparse
import json
from pathlib import Path

import numpy as np


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mlperf-accuracy-file", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--dtype", default="float32")
    given = parser.parse_args()
    labels = np.load(given.dataset)["labels"]
    entries = json.loads(Path(given.mlperf_accuracy_file).read_text())
    seen = {e["qsl_idx"]: np.frombuffer(bytes.fromhex(e["data"]), given.dtype) for e in entries}
    good = sum(int(answer[0]) == labels[index] for index, answer in seen.items())
    count = np.int64(np.median([len(answer) for answer in seen.values()]))
    share = np.float64(100.0 * good / len(seen))
    print({"rouge1": share, "tokens_per_sample": count})
    print(f"accuracy={share:.3f}%, good={good}, total={len(seen)}")


if __name__ == "__main__":
    main()
