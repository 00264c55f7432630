#!/usr/bin/env python3
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What LoadGen and the ONNX harness cost over a bare onnxruntime loop on the same samples.

    python tests/bench/harness.py [--pairs 10] [--seconds 1] [digits mobilenet resnet50]

Needs an interpreter with mlcommons-loadgen, numpy, onnxruntime and onnx. For each model: Offline
throughput as a ratio and SingleStream p90 latency as a difference, from pairs of runs in turn
(the order within a pair alternates), each run its own process, both sides with the instances,
threads and batch size that the harness chose. Printed: the median of the pairs with its 95 %
bootstrap interval, and the best run of each side against the other's, which on a
host with neighbours is nearest to what a quiet one would show.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HARNESS = ROOT / "roles" / "harness_onnx" / "files" / "harness.py"
DIGITS = ROOT / "catalog" / "data" / "digits"
P90 = re.compile(r"^90.00 percentile latency \(ns\) *: *(\d+)", re.M)
RATE = re.compile(r"^Samples per second *: *(\S+)", re.M)
GENERATED = 64  # images for the models without a dataset: 38 MB


class Graph:
    """A small writer of convolutional networks with random weights."""

    def __init__(self) -> None:
        import numpy as np

        self._random = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []

    def _weight(self, shape: Sequence[int]) -> str:
        import numpy as np
        from onnx import numpy_helper

        name = f"w{len(self.tensors)}"
        fan = int(np.prod(shape[1:])) or 1
        values = self._random.standard_normal(shape).astype(np.float32) * (2 / fan) ** 0.5
        self.tensors.append(numpy_helper.from_array(values, name))
        return name

    def node(self, kind: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        from onnx import helper

        name = f"x{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def conv(self, x: str, cin: int, cout: int, size: int, stride: int = 1, group: int = 1) -> str:
        """A convolution that keeps the image's size up to the stride."""
        inputs = [x, self._weight((cout, cin // group, size, size)), self._weight((cout,))]
        pads = [size // 2] * 4
        return self.node("Conv", inputs, pads=pads, strides=[stride] * 2, group=group)

    def save(self, x: str, channels: int, path: Path) -> None:
        """Pool, classify into 1000, and write the model."""
        import onnx
        from onnx import TensorProto, helper

        flat = self.node("Flatten", [self.node("GlobalAveragePool", [x])])
        weights = [self._weight((1000, channels)), self._weight((1000,))]
        self.nodes.append(helper.make_node("Gemm", [flat, *weights], ["logits"], transB=1))
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 224, 224])
        logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 1000])
        graph = helper.make_graph(self.nodes, "net", [image], [logits], self.tensors)
        opset = [helper.make_opsetid("", 13)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=7), str(path))


def mobilenet(path: Path) -> None:
    """The size of MobileNet v1: 4.2 million parameters, 0.57 G multiply-adds."""
    g = Graph()
    x = g.node("Relu", [g.conv("image", 3, 32, 3, 2)])
    channels = 32
    steps = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
    for wide, stride in [*steps, *[(512, 1)] * 5, (1024, 2), (1024, 1)]:
        x = g.node("Relu", [g.conv(x, channels, channels, 3, stride, channels)])
        x = g.node("Relu", [g.conv(x, channels, wide, 1)])
        channels = wide
    g.save(x, channels, path)


def resnet50(path: Path) -> None:
    """The size of ResNet-50: 25.5 million parameters, 4.1 G multiply-adds."""
    g = Graph()
    x = g.node("Relu", [g.conv("image", 3, 64, 7, 2)])
    x = g.node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for width, blocks, first in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for block in range(blocks):
            stride = first if block == 0 else 1
            y = g.node("Relu", [g.conv(x, channels, width, 1)])
            y = g.node("Relu", [g.conv(y, width, width, 3, stride)])
            y = g.conv(y, width, 4 * width, 1)
            side = g.conv(x, channels, 4 * width, 1, stride) if block == 0 else x
            x = g.node("Relu", [g.node("Add", [y, side])])
            channels = 4 * width
    g.save(x, channels, path)


MODELS: dict[str, Callable[[Path], None] | None] = {
    "digits": None,
    "mobilenet": mobilenet,
    "resnet50": resnet50,
}


def bare(task: dict[str, Any]) -> float:
    """The loop to compare with: samples per second (Offline) or p90 in ns (SingleStream)."""
    import numpy as np
    import onnxruntime as ort

    if task["dataset"]:
        with np.load(task["dataset"]) as data:
            images = data["image"].astype(np.float32) * data["scale"]
    else:
        images = np.random.default_rng(0).random((GENERATED, 3, 224, 224), dtype=np.float32)
    options = ort.SessionOptions()
    options.intra_op_num_threads = task["threads"]
    session = ort.InferenceSession(task["model"], options, providers=["CPUExecutionProvider"])
    batch = task["batch_size"]
    session.run(None, {"image": images[:batch]})
    if task["scenario"] == "SingleStream":
        return one_by_one(session, images, task["seconds"])
    sessions = [session] * task["instances"]
    starts = iter(range(0, task["samples"], batch))
    spans = [images[i : i + batch] for i in range(0, len(images) - batch + 1, batch)]

    def work(mine: Any) -> None:
        for start in starts:
            mine.run(None, {"image": spans[start // batch % len(spans)]})

    threads = [threading.Thread(target=work, args=(s,)) for s in sessions]
    before = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return float(task["samples"] / (time.perf_counter() - before))


def one_by_one(session: Any, images: Any, seconds: float) -> float:
    """p90 in ns of single samples in turn."""
    times = []
    end = time.perf_counter() + seconds
    for row in itertools.cycle(range(len(images))):
        before = time.perf_counter_ns()
        session.run(None, {"image": images[row : row + 1]})
        after = time.perf_counter_ns()
        times.append(after - before)
        if time.perf_counter() > end:
            break
    times.sort()
    return float(times[int(len(times) * 0.9)])


def under_loadgen(folder: Path, config: dict[str, Any], target: float, seconds: float) -> float:
    """One run of the harness: samples per second (Offline) or p90 in ns (SingleStream)."""
    scenario = config["scenario"]
    key = "target_qps" if scenario == "Offline" else "target_latency"
    lines = [f"*.*.min_duration = {int(seconds * 1000)}", f"*.{scenario}.{key} = {target}"]
    if scenario == "Offline":
        lines.append("*.Offline.min_query_count = 1")
    (folder / "user.conf").write_text("\n".join(lines) + "\n")
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "status").write_bytes(bytes(64))
    environ = {"BENCHFLEET_STATUS": str(folder / "status"), "PATH": "/usr/bin:/bin"}
    argv = [sys.executable, "-B", str(HARNESS), "config.json"]
    subprocess.run(argv, cwd=folder, env=environ, check=True)
    summary = (folder / "mlperf_log_summary.txt").read_text()
    found = (RATE if scenario == "Offline" else P90).search(summary)
    if found is None:
        raise SystemExit(f"no figure in {folder / 'mlperf_log_summary.txt'}")
    return float(found[1])


def run_bare(task: dict[str, Any]) -> float:
    """The bare loop in its own process."""
    argv = [sys.executable, "-B", __file__, "--bare", json.dumps(task)]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


def interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the median."""
    draw = random.Random(0)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[1949]


def compare(folder: Path, config: dict[str, Any], pairs: int, seconds: float) -> None:
    """Calibrate, run the pairs, print one line of the table."""
    scenario = config["scenario"]
    offline = scenario == "Offline"
    guess = 20.0 if offline else 1000.0
    first = under_loadgen(folder, {**config, "batch_size": None}, guess, 0.3)
    chosen = json.loads((folder / "harness.json").read_text())
    layout = {key: chosen[key] for key in ("instances", "threads", "batch_size")}
    if offline:
        first = max([first, *(trial["samples_per_s"] for trial in chosen["trials"])])
    target = first if offline else first / 4e6
    rows: list[tuple[float, float]] = []
    samples = int(first * seconds)
    for pair in range(pairs):
        task = {**config, **layout, "seconds": seconds, "samples": samples}
        if pair % 2:
            ours = under_loadgen(folder, {**config, **layout}, target, seconds)
            theirs = run_bare(task)
        else:
            theirs = run_bare(task)
            ours = under_loadgen(folder, {**config, **layout}, target, seconds)
        issued = struct.unpack("=8Q", (folder / "status").read_bytes())[1]
        samples = issued if offline else samples
        rows.append((theirs, ours))
    report(config["model"], scenario, layout, rows)


def report(model: str, scenario: str, layout: dict[str, int], rows: Any) -> None:
    """One line of the table: both medians, the paired comparison, its interval, the goal."""
    bare_median = statistics.median(theirs for theirs, _ in rows)
    ours_median = statistics.median(ours for _, ours in rows)
    shape = f"{layout['instances']}x{layout['threads']} batch {layout['batch_size']}"
    if scenario == "Offline":
        paired = [ours / theirs for theirs, ours in rows]
        low, high = interval(paired)
        figures = f"{bare_median:11.1f} {ours_median:11.1f} samples/s"
        middle = statistics.median(paired)
        best = max(ours for _, ours in rows) / max(theirs for theirs, _ in rows)
        text = f"ratio {middle:.3f} [{low:.3f}, {high:.3f}], best {best:.3f}; goal >= 0.970"
    else:
        paired = [(ours - theirs) / 1e3 for theirs, ours in rows]
        low, high = interval(paired)
        figures = f"{bare_median / 1e3:11.1f} {ours_median / 1e3:11.1f} us p90    "
        goal = max(30.0, 0.01 * bare_median / 1e3)
        middle = statistics.median(paired)
        best = (min(ours for _, ours in rows) - min(theirs for theirs, _ in rows)) / 1e3
        span = f"[{low:+.1f}, {high:+.1f}]"
        text = f"difference {middle:+.1f} us {span}, best {best:+.1f} us; goal <= {goal:.0f} us"
    name = Path(model).stem
    print(f"{name:11} {scenario:12} {shape:15} {figures}  {text}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("models", nargs="*", default=list(MODELS), metavar="model")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--bare", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.bare:
        print(bare(json.loads(options.bare)))
        return
    print("model       scenario     layout            bare loop     harness")
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.models:
            make = MODELS[name]
            path = Path(scratch) / f"{name}.onnx" if make else DIGITS / "digits_cnn.onnx"
            if make:
                make(path)
            dataset = None if make else str(DIGITS / "digits.npz")
            for scenario in ("Offline", "SingleStream"):
                config = {"model": str(path), "dataset": dataset, "scenario": scenario}
                if make:
                    config["samples"] = GENERATED
                compare(Path(scratch), config, options.pairs, options.seconds)


if __name__ == "__main__":
    main()
