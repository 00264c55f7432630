# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for a harness of mlcommons/inference, for tests: the flags are upstream's, LoadGen is
real, the model is the nearest mean image and nothing else.

Flavours: `images` answers with one float32 each, `tokens` with three int64 tokens and their count,
`broken` prints a traceback and ends with exit code 0.
"""

import argparse
import json
import sys
import time
import traceback
from pathlib import Path

import mlperf_loadgen as lg
import numpy as np

NAME = "standin"
TOKENS = 3
PAUSE_S = 1e-3  # of each batch, so that a host of any speed takes at least as long


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("model", "dataset-path", "output", "user_conf"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--scenario", choices=["SingleStream", "Offline"])
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--max-batchsize", type=int, default=32)
    parser.add_argument("--answer-bytes", type=int, default=4)
    parser.add_argument("--flavour", choices=["images", "tokens", "broken"], default="images")
    parser.add_argument("--accuracy", action="store_true")
    return parser.parse_args()


class Sut:
    """Answers queries batch by batch in the thread that LoadGen calls from."""

    def __init__(self, given, images, means):
        self.given, self.images, self.means = given, images, means

    def issue(self, samples):
        for at in range(0, len(samples), self.given.max_batchsize):
            self.answer(samples[at : at + self.given.max_batchsize])

    def answer(self, samples):
        time.sleep(PAUSE_S)
        images = self.images[[s.index for s in samples]]
        distances = ((images[:, None] - self.means) ** 2).sum(axis=2)
        for sample, found in zip(samples, distances.argmin(axis=1), strict=True):
            data = self.packed(found)
            count = [TOKENS] if self.given.flavour == "tokens" else []
            response = lg.QuerySampleResponse(sample.id, data.ctypes.data, data.nbytes, *count)
            lg.QuerySamplesComplete([response])

    def packed(self, found):
        if self.given.flavour == "tokens":
            return np.full(TOKENS, found, np.int64)
        return np.full(self.given.answer_bytes // 4, found, np.float32)


def run(given, images, means):
    settings = lg.TestSettings()
    settings.FromConfig(given.user_conf, NAME, given.scenario)
    settings.scenario = getattr(lg.TestScenario, given.scenario)
    mode = "AccuracyOnly" if given.accuracy else "PerformanceOnly"
    settings.mode = getattr(lg.TestMode, mode)
    settings.use_token_latencies = given.flavour == "tokens"
    log = lg.LogSettings()
    log.log_output.outdir = given.output
    log.enable_trace = False
    count = given.count or len(images)
    sut = lg.ConstructSUT(Sut(given, images, means).issue, lambda: None)
    qsl = lg.ConstructQSL(count, count, lambda _samples: None, lambda _samples: None)
    lg.StartTestWithLogSettings(sut, qsl, settings, log)
    lg.DestroyQSL(qsl)
    lg.DestroySUT(sut)


def main():
    given = arguments()
    print("stand-in for a harness of mlcommons/inference, made for tests")
    print(json.loads(Path("settings.json").read_text())["greeting"])
    if given.flavour == "broken":
        try:
            raise RuntimeError("the stand-in lost its model")
        except RuntimeError:
            traceback.print_exc()
            return 0
    images = np.load(given.dataset_path)["image"].reshape(-1, 64).astype(np.float32)
    run(given, images, np.load(given.model)["means"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
