#!/usr/bin/env python3
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ONNX harness beside the reference harness of MLPerf Inference, both under one LoadGen.

    BENCHFLEET_INFERENCE_REPO=<clone of mlcommons/inference, bare will do> \\
        python tests/bench/reference.py [--pairs 3] [--samples n] [--queries 100]

Any Python from 3.11 on will do: the comparison continues in an environment of its own under the
user's cache folder, made on first use from the locks of the ONNX harness and what else the
reference imports. The reference is the round's pinned commit, unpacked into a temporary folder.

Both sides get the same files: a random model of ResNet-50's size and signature, 64 generated
images, already preprocessed, and one user.conf that fixes the number of samples. The reference
runs on its resnet50-onnxruntime profile, Offline both with --threads 1 and with its default, a
thread for each CPU; SingleStream has no threads of its own. Ours runs as it chooses itself, anew in
each run. LoadGen's figures count, so loading, warming up and choosing do not. Offline the two forms
of the reference run right before and right after ours, in turns. Printed: the medians, the median
ratio ours/reference within pairs with its 95 % bootstrap interval, and the best run of each side
against the other's, which on a host with neighbours is nearest to what a quiet one would show.
"""

from __future__ import annotations

import argparse
import functools
import io
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import HARNESS, P90, RATE, ROOT, interval, resnet50

ROUND = ROOT / "catalog" / "rounds" / "v6.1.yml"
ROLES = ROOT / "roles"
VARIABLE = "BENCHFLEET_INFERENCE_REPO"
PART = "vision/classification_and_detection/python"  # all that the reference harness imports
EXTRAS = ("onnx", "opencv-python-headless", "pycocotools")
INPUT = "input_tensor:0"
IMAGES = 64
OURS = "ours"
RATE_UNIT = "samples/s"
LONGEST_S = 1800  # a run that takes longer is stuck


def pinned(key: str) -> str:
    """A version or commit from the round's file."""
    found = re.search(rf'\b{key}: *"?([\w.]+)', ROUND.read_text("utf-8"))
    if found is None:
        raise SystemExit(f"{ROUND.name} has no {key}")
    return found[1]


def checkout(target: Path) -> Path:
    """Unpack the reference's pinned commit; the folder of its main.py."""
    repo = os.environ.get(VARIABLE)
    if not repo:
        raise SystemExit(f"missing: {VARIABLE} = path of a clone of mlcommons/inference")
    commit = pinned("inference_commit")
    argv = ["git", "-C", repo, "archive", "--format=tar", commit, PART]
    done = subprocess.run(argv, capture_output=True)
    if done.returncode:
        why = done.stderr.decode(errors="replace").strip().splitlines()
        raise SystemExit(f"missing: commit {commit} in {repo} ({why[-1] if why else 'no reason'})")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(target, filter="data")
    return target / PART


def environment() -> Path:
    """The interpreter of the comparison's environment, made on first use."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = pinned("version")
    folder = base / "benchfleet-bench" / f"reference-{version}-py{sys.version_info.minor}"
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.exists():
        print(f"making {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        for role, name in (("framework", "onnxruntime-cpu"), ("loadgen", f"loadgen-{version}")):
            path = ROLES / role / "files" / "requirements" / f"{name}.txt"
            lock = ["--require-hashes", "-r", str(path)]
            subprocess.run([*pip, "install", *lock], check=True)
        held = subprocess.run([*pip, "freeze"], check=True, capture_output=True).stdout
        (folder / "held.txt").write_bytes(held)
        subprocess.run([*pip, "install", "-c", str(folder / "held.txt"), *EXTRAS], check=True)
        ready.touch()
    return python


def make_model(path: Path) -> None:
    """The benches' random ResNet-50 with the names, shapes and types of the reference model."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    resnet50(path)
    model = onnx.load(str(path))
    graph = model.graph
    for tensor in list(graph.initializer)[-2:]:  # the classifier: 1000 classes and background
        values = numpy_helper.to_array(tensor)
        wide = values.take(range(-1, len(values)), axis=0)
        tensor.CopyFrom(numpy_helper.from_array(wide, tensor.name))
    for node in graph.node:
        node.input[:] = [INPUT if name == "image" else name for name in node.input]
    graph.input[0].name = INPUT
    outputs = {
        "ArgMax:0": helper.make_node("ArgMax", ["logits"], ["ArgMax:0"], axis=1, keepdims=0),
        "softmax_tensor:0": helper.make_node("Softmax", ["logits"], ["softmax_tensor:0"], axis=1),
    }
    graph.node.extend(outputs.values())
    del graph.output[:]
    classes, scores = outputs
    graph.output.append(helper.make_tensor_value_info(classes, TensorProto.INT64, ["N"]))
    graph.output.append(helper.make_tensor_value_info(scores, TensorProto.FLOAT, ["N", 1001]))
    onnx.save(model, str(path))


def make_images(folder: Path) -> None:
    """The same images for both: one file each and val.txt, and images.npz."""
    import numpy as np

    images = np.random.default_rng(0).random((IMAGES, 3, 224, 224), dtype=np.float32)
    for number, image in enumerate(images):
        np.save(folder / f"{number}.JPEG.npy", image)
    labels = range(IMAGES)
    (folder / "val.txt").write_text("".join(f"{n}.JPEG {n}\n" for n in labels))
    arrays: dict[str, Any] = {INPUT: images, "labels": np.array(labels, dtype=np.int64)}
    np.savez(folder / "images.npz", **arrays)


@dataclass(frozen=True)
class Bench:
    """What all runs share; `work` holds model.onnx, the images and a folder for each run."""

    work: Path
    reference: Path
    counts: dict[str, int]
    layouts: list[str]

    def _folder(self, scenario: str, name: str) -> Path:
        tries = (self.work / f"{scenario}-{name}-{number}" for number in itertools.count())
        folder = next(path for path in tries if not path.exists())
        folder.mkdir()
        lines = {
            "min_duration": 1,
            "min_query_count": self.counts[scenario],
            "performance_sample_count_override": IMAGES,
        }
        lines["target_qps" if scenario == "Offline" else "target_latency"] = 100
        text = "".join(f"resnet50.{scenario}.{key} = {value}\n" for key, value in lines.items())
        (folder / "user.conf").write_text(text)
        return folder

    def _run(self, argv: list[str], folder: Path, environ: dict[str, str]) -> float:
        """One run: samples per second (Offline) or p90 in ms (SingleStream)."""
        environ = {"PATH": os.defpath, "HOME": str(folder), **environ}
        with (folder / "console.log").open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-B", *argv],
                cwd=folder,
                env=environ,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=LONGEST_S,
            )
        console = (folder / "console.log").read_text(errors="replace")
        # the reference answers a batch that failed, and goes on
        if done.returncode or "thread: failed" in console:
            raise SystemExit(f"{' '.join(argv)}: exit {done.returncode}\n{console[-2000:]}")
        summary = (folder / "mlperf_log_summary.txt").read_text()
        offline = folder.name.startswith("Offline")
        found = (RATE if offline else P90).search(summary)
        if found is None:
            raise SystemExit(f"no figure in the summary:\n{summary}")
        return float(found[1]) if offline else float(found[1]) / 1e6

    def theirs(self, scenario: str, threads: int | None) -> float:
        """The reference harness on its own profile; `threads` None: its default."""
        folder = self._folder(scenario, "reference")
        argv = [str(self.reference / "main.py"), "--profile", "resnet50-onnxruntime"]
        argv += ["--model", str(self.work / "model.onnx"), "--scenario", scenario]
        images = str(self.work)
        argv += ["--use_preprocessed_dataset", "--dataset-path", images, "--cache_dir", images]
        argv += ["--dataset-list", f"{images}/val.txt", "--output", str(folder)]
        argv += ["--user_conf", str(folder / "user.conf")]
        if threads:
            argv += ["--threads", str(threads)]
        return self._run(argv, folder, {"USE_GPU": "no"})

    def ours(self, scenario: str) -> float:
        """Our harness, which chooses its layout itself."""
        folder = self._folder(scenario, "ours")
        config = {
            "model": str(self.work / "model.onnx"),
            "dataset": str(self.work / "images.npz"),
            "scenario": scenario,
            "loadgen_model": "resnet50",
            "metric": "top1",
            "label_offset": -1,
        }
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "status").write_bytes(bytes(64))
        environ = {"BENCHFLEET_STATUS": str(folder / "status")}
        figure = self._run([str(HARNESS), "config.json"], folder, environ)
        made = json.loads((folder / "harness.json").read_text())
        self.layouts.append(f"{made['instances']}x{made['threads']} batch {made['batch_size']}")
        return figure


def report(row: str, unit: str, rows: list[tuple[float, float]]) -> None:
    """One line of the table from pairs (theirs, ours)."""
    ratios = [ours / theirs for theirs, ours in rows]
    low, high = interval(ratios)
    theirs, ours = (statistics.median(side) for side in zip(*rows, strict=True))
    best = max if unit == RATE_UNIT else min
    best_theirs, best_ours = (best(side) for side in zip(*rows, strict=True))
    each = " ".join(f"{ratio:.2f}" for ratio in ratios)
    print(
        f"{row:28} {theirs:9.1f} {ours:9.1f} {unit:10} "
        f"ratio {statistics.median(ratios):.2f} [{low:.2f}, {high:.2f}], "
        f"best {best_ours / best_theirs:.2f}; pairs {each}",
        flush=True,
    )


def compare(bench: Bench, scenario: str, others: dict[str, int | None], pairs: int) -> None:
    """Rounds of all forms of the reference around ours; a line for each form."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in others}
    bench.layouts.clear()
    for number in range(pairs):
        steps = [
            (name, functools.partial(bench.theirs, scenario, threads))
            for name, threads in others.items()
        ]
        steps.insert(1, (OURS, functools.partial(bench.ours, scenario)))
        figures = {name: step() for name, step in (reversed(steps) if number % 2 else steps)}
        for name in others:
            found[name].append((figures[name], figures[OURS]))
    unit = RATE_UNIT if scenario == "Offline" else "ms p90"
    for name, rows in found.items():
        report(f"{scenario} {name}", unit, rows)
    print(f"{'':28} ours chose {', '.join(sorted(set(bench.layouts)))}", flush=True)


def main() -> None:
    """Print the table."""
    cores = os.cpu_count() or 1
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--samples", type=int, default=64 * cores, help="Offline")
    parser.add_argument("--queries", type=int, default=100, help="SingleStream, at least 64")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        reference = checkout(work / "checkout")
        python = environment()
        if Path(sys.prefix) != python.parents[1]:
            argv = [str(python), "-B", __file__, *sys.argv[1:]]
            raise SystemExit(subprocess.run(argv).returncode)
        make_model(work / "model.onnx")
        make_images(work)
        counts = {"Offline": options.samples, "SingleStream": options.queries}
        bench = Bench(work, reference, counts, [])
        print(f"{cores} CPUs, LoadGen {pinned('version')}; reference, ours, ours/reference")
        threads = {"--threads 1": 1, f"default ({cores} threads)": None}
        compare(bench, "Offline", threads, options.pairs)
        compare(bench, "SingleStream", {"": 1}, options.pairs)


if __name__ == "__main__":
    main()
