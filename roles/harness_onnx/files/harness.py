#!/usr/bin/env python3
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run any ONNX model under LoadGen: `python harness.py config.json`, one test for each process.

Reads config.json and user.conf in the current folder, leaves LoadGen's logs and harness.json there,
and in accuracy mode accuracy.txt. Exit status: 0 the test ran, 1 it broke off, 3 it was refused
(the model, the dataset or the configuration does not fit; the last line says how).
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import platform
import queue
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import mlperf_loadgen as lg
import numpy as np
import onnxruntime as ort
from harness_engine import (
    Builder,
    Engine,
    Layout,
    Runner,
    Trial,
    batch_sizes,
    candidates,
    choose,
)
from harness_host import (
    DONE,
    EVALUATING,
    LOADING,
    MEASURING,
    REFUSED,
    WARMING_UP,
    HarnessError,
    Status,
    die,
    usable_cores,
)
from harness_model import Model, differences, open_session, split_device
from harness_samples import Array, Samples, generate, open_dataset

DEFAULTS: dict[str, Any] = {
    "dataset": None,
    "mode": "performance",
    "loadgen_model": "*",
    "device": "cpu",
    "threads": None,
    "instances": None,
    "batch_size": None,
    "affinity": None,
    "latency_limit_ms": None,
    "input_shapes": None,
    "samples": None,
    "seed": 0,
    "signature": None,
    "metric": None,
    "label_offset": 0,  # added to the model's answer before it is logged: -1 where class 0 is none
    "performance_sample_count": None,
}
SCENARIOS = ("SingleStream", "MultiStream", "Offline", "Server")
MODES = {"performance": "PerformanceOnly", "accuracy": "AccuracyOnly"}
GENERATED = 1024  # samples made when there is no dataset and no count
IN_MEMORY = 1 << 30  # bytes of samples that LoadGen holds at a time unless told otherwise
WARM_UP_ROWS = 256
AUDIT = "audit.config"


def read_config(path: Path) -> dict[str, Any]:
    """The options with their defaults. Raises HarnessError for what is missing or unknown."""
    try:
        given = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise HarnessError(f"cannot read {path}: {error}") from error
    unknown = sorted(set(given) - set(DEFAULTS) - {"model", "scenario"})
    if unknown:
        raise HarnessError(f"{path} has options the harness does not know: {', '.join(unknown)}")
    config = {**DEFAULTS, **given}
    if config.get("scenario") == "Interactive":
        config["scenario"] = "Server"
    for key, allowed in (
        ("scenario", SCENARIOS),
        ("mode", tuple(MODES)),
        ("metric", (None, "top1")),
    ):
        if config.get(key) not in allowed:
            raise HarnessError(f"{path}: {key} is {config.get(key)!r}; use one of {allowed}")
    if not config.get("model"):
        raise HarnessError(f"{path}: model is missing")
    return config


def loadgen_settings(config: dict[str, Any]) -> Any:
    """TestSettings from the one user.conf that counts."""
    if not Path("user.conf").is_file():
        raise HarnessError("there is no user.conf in the current folder")
    settings = lg.TestSettings()
    settings.scenario = getattr(lg.TestScenario, config["scenario"])
    settings.mode = getattr(lg.TestMode, MODES[config["mode"]])
    settings.FromConfig("user.conf", config["loadgen_model"], config["scenario"])
    return settings


def open_samples(config: dict[str, Any], model: Model) -> Samples:
    """The dataset, or generated samples where there is none."""
    if config["dataset"]:
        samples = Samples(model, open_dataset(config["dataset"]))
    else:
        count = config["samples"] or GENERATED
        samples = Samples(model, generate(model, count, config["seed"]))
    if config["mode"] == "accuracy" and config["metric"] and samples.labels is None:
        raise HarnessError("the metric top1 needs a dataset with an array `labels`")
    return samples


Answer = Callable[[Sequence[int], Sequence[Array]], None]


def answering(with_data: bool, metric: str | None, offset: int = 0) -> Answer:
    """A function that completes one batch; each stream of batches needs its own.

    `offset` is added to each class, so that the accuracy log holds labels.
    """
    response, complete = lg.QuerySampleResponse, lg.QuerySamplesComplete
    pool: list[Any] = []
    set_id = response.id.fset

    def bare(ids: Sequence[int], _outputs: Sequence[Array]) -> None:
        count = len(ids)
        while len(pool) < count:
            pool.append(response(0, 0, 0))
        deque(map(set_id, pool, ids), 0)  # slot.id = query for each, at two thirds of a loop's cost
        complete(pool if len(pool) == count else pool[:count])

    def full(ids: Sequence[int], outputs: Sequence[Array]) -> None:
        if metric == "top1":
            data = classes(outputs[0], len(ids)) + offset
        else:
            data = as_bytes(outputs, len(ids))
        size = data.strides[0]
        start = data.ctypes.data
        ends = range(start, start + size * len(ids), size)
        complete([response(query, address, size) for query, address in zip(ids, ends)])

    return full if with_data else bare


def classes(output: Array, count: int) -> Array:
    """Class of each sample, int64 [count]: the largest score, or the output if it is a class."""
    flat = output.reshape(count, -1)
    if flat.shape[1] == 1 and flat.dtype.kind in "iu":
        return np.ascontiguousarray(flat[:, 0], dtype=np.int64)
    return np.ascontiguousarray(flat.argmax(1), dtype=np.int64)


def as_bytes(outputs: Sequence[Array], count: int) -> Array:
    """All outputs of each sample, one after the other: uint8 [count, bytes of a sample]."""
    if not all(isinstance(out, np.ndarray) and out.dtype != object for out in outputs):
        raise HarnessError("an output is no plain array: its bytes cannot be logged")
    rows = [np.ascontiguousarray(out).reshape(count, -1).view(np.uint8) for out in outputs]
    return rows[0] if len(rows) == 1 else np.concatenate(rows, 1)


def guarded(function: Callable[..., None]) -> Callable[..., None]:
    """End the process when a callback raises: LoadGen would wait for its answers for ever."""

    def call(*args: Any) -> None:
        try:
            function(*args)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it must not be lost
            die(error)

    return call


Issue = Callable[[Sequence[int], Sequence[int]], None]


def inline(runner: Runner, samples: Samples, batch: int, answer: Answer, status: Status) -> Issue:
    """SingleStream and MultiStream: the LoadGen thread itself runs the query."""
    words, run = status.words, runner.run
    totals = itertools.accumulate(itertools.repeat(1))

    def single(ids: Sequence[int], indices: Sequence[int]) -> None:
        answer(ids, run((samples.position[indices[0]],)))
        words[1] = words[2] = next(totals)

    def several(ids: Sequence[int], indices: Sequence[int]) -> None:
        words[1] += len(ids)
        rows = [samples.position[index] for index in indices]
        for start in range(0, len(ids), batch):
            part = ids[start : start + batch]
            answer(part, run(rows[start : start + batch]))
            words[2] += len(part)

    return lambda ids, indices: (single if len(ids) == 1 else several)(ids, indices)


class Workers:
    """One thread for each instance, fed by a queue."""

    def __init__(self, engine: Engine, samples: Samples, answers: list[Answer], status: Status):
        self._engine = engine
        self._samples = samples
        self._batch = engine.layout.batch
        self._words = status.words
        self._lock = threading.Lock()
        self.queue: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=guarded(self._work), args=(number, answer), daemon=True)
            for number, answer in enumerate(answers)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Wait for the threads to end."""
        for _ in self._threads:
            self.queue.put(None)
        for thread in self._threads:
            thread.join()

    def offline(self, ids: Sequence[int], indices: Sequence[int]) -> None:
        """Issue one query of many samples: each worker takes the next batch until none is left."""
        self._words[3] = self._words[1] = self._words[1] + len(ids)
        starts = itertools.count(0, self._batch)
        for _ in self._threads:
            self.queue.put((ids, indices, starts))

    def server(self, ids: Sequence[int], indices: Sequence[int]) -> None:
        """Issue one query: it joins the batch of the next free worker."""
        self._words[1] += len(ids)
        self.queue.put((ids, indices, None))

    def _work(self, number: int, answer: Answer) -> None:
        self._engine.pin(number)
        run = self._engine.runners[number].run
        while True:
            item = self.queue.get()
            if item is None:
                return
            ids, indices, starts = item
            if starts is None:
                self._serve(run, answer, list(ids), list(indices))
                continue
            for start in starts:
                if start >= len(ids):
                    break
                end = start + self._batch
                self._run(run, answer, ids[start:end], indices[start:end])

    def _serve(self, run: Any, answer: Answer, ids: list[int], indices: list[int]) -> None:
        """Add the queries that wait, up to the batch size; none is waited for."""
        try:
            while len(ids) < self._batch:
                item = self.queue.get_nowait()
                if item is None:
                    self.queue.put(None)
                    break
                ids += item[0]
                indices += item[1]
        except queue.Empty:
            pass
        for start in range(0, len(ids), self._batch):
            end = start + self._batch
            self._run(run, answer, ids[start:end], indices[start:end])

    def _run(self, run: Any, answer: Answer, ids: Sequence[int], indices: Sequence[int]) -> None:
        position = self._samples.position
        rows = indices if type(position) is range else [position[index] for index in indices]
        answer(ids, run(rows))
        with self._lock:
            self._words[2] += len(ids)


def run_test(
    config: dict[str, Any], settings: Any, engine: Engine, samples: Samples, status: Status
) -> None:
    """The LoadGen test itself. Every exception inside it ends the process."""
    with_data = config["mode"] == "accuracy" or Path(AUDIT).exists()
    metric, offset = config["metric"], int(config["label_offset"])
    answers = [answering(with_data, metric, offset) for _ in engine.runners]
    workers: Workers | None = None
    if config["scenario"] in ("SingleStream", "MultiStream"):
        engine.pin(0)
        first = engine.runners[0]
        issue = inline(first, samples, engine.layout.batch, answers[0], status)
    else:
        workers = Workers(engine, samples, answers, status)
        issue = workers.offline if config["scenario"] == "Offline" else workers.server

    def load(indices: Sequence[int]) -> None:
        samples.load(list(indices))
        for runner in engine.runners:
            runner.forget()
        if config["scenario"] == "SingleStream":
            engine.runners[0].prepare()
        status.phase(MEASURING)

    def unload(_indices: Sequence[int]) -> None:
        for runner in engine.runners:
            runner.forget()
        samples.unload()

    held = held_count(config, samples)
    qsl = lg.ConstructQSL(samples.count, held, guarded(load), guarded(unload))
    sut = lg.ConstructFastSUT(guarded(issue), lambda: None)
    log = lg.LogSettings()
    log.log_output.outdir = "."
    log.enable_trace = False
    gc.collect()
    gc.freeze()
    gc.disable()
    lg.StartTestWithLogSettings(sut, qsl, settings, log, AUDIT)
    lg.DestroyFastSUT(sut)
    lg.DestroyQSL(qsl)
    if workers is not None:
        workers.stop()


def held_count(config: dict[str, Any], samples: Samples) -> int:
    """Samples that LoadGen may hold in memory at a time."""
    fitting = max(1, IN_MEMORY // max(1, samples.bytes_per_sample))
    return min(samples.count, int(config["performance_sample_count"] or fitting))


def logged_classes(path: Path, count: int) -> Array:
    """Class logged for each of `count` samples. Raises HarnessError if one is missing or odd."""
    found = np.full(count, -1, np.int64)
    entries = json.loads(path.read_text("ascii"))
    for entry in entries:
        found[entry["qsl_idx"]] = np.frombuffer(bytes.fromhex(entry["data"]), "<i8", 1)[0]
    missing = count - len({entry["qsl_idx"] for entry in entries})
    if missing:
        raise HarnessError(f"{path} lacks {missing} of {count} samples")
    return found


def write_accuracy(samples: Samples) -> str:
    """Compare the accuracy log with the labels; write and return the line for the checker."""
    labels = np.asarray(samples.labels).reshape(-1)
    good = int((logged_classes(Path("mlperf_log_accuracy.json"), samples.count) == labels).sum())
    total = samples.count
    line = f"accuracy={100 * good / total:.3f}%, good={good}, total={total}"
    Path("accuracy.txt").write_text(line + "\n", "ascii")
    return line


def write_report(
    config: dict[str, Any], builder: Builder, engine: Engine, trials: list[Trial]
) -> None:
    """harness.json: what was resolved, and the figures it was chosen by."""
    samples = builder.samples
    report = {
        "format": 1,
        "versions": {
            "python": platform.python_version(),
            "loadgen": metadata.version("mlcommons_loadgen"),
            "onnxruntime": ort.__version__,
            "numpy": np.__version__,
        },
        "device": config["device"],
        "providers": engine.runners[0].providers,
        "cores": builder.cores,
        **layout_data(engine.layout),
        "affinity": bool(engine.cores),
        "notes": builder.notes,
        "trials": [
            {
                **layout_data(trial.layout),
                "batch_ms": round(trial.batch_ms, 4),
                "samples_per_s": round(trial.samples_per_s, 1),
            }
            for trial in trials
        ],
        "samples": {
            "count": samples.count,
            "generated": not config["dataset"],
            "in_memory": held_count(config, samples),
            "bytes_each": samples.bytes_per_sample,
        },
        "signature": builder.model.describe(),
    }
    Path("harness.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def layout_data(layout: Layout) -> dict[str, int]:
    """A layout by the names of the options."""
    return {
        "instances": layout.instances,
        "threads": layout.threads,
        "batch_size": layout.batch,
    }


def prepare(config: dict[str, Any], settings: Any, status: Status) -> tuple[Engine, Samples]:
    """Open the model and the samples, warm up, choose the layout, write harness.json."""
    status.phase(LOADING)
    cores = usable_cores()
    device = config["device"]
    threads = config["threads"] or (1 if split_device(device)[0] == "cpu" else len(cores))
    session = open_session(config["model"], device, threads)
    model = Model(session, config["input_shapes"])
    if config["signature"]:
        found = differences(model, config["signature"])
        if found:
            raise HarnessError("the model differs from the reference: " + "; ".join(found))
    samples = open_samples(config, model)
    status.phase(WARMING_UP)
    samples.load(list(range(min(WARM_UP_ROWS, samples.count))))
    opened = {(threads, 0): session}
    builder = Builder(config["model"], device, model, samples, cores, config["affinity"], opened)
    engine, trials = resolve(config, settings, builder)
    if config["mode"] == "accuracy" and not builder.fixed_outputs and engine.layout.batch > 1:
        raise HarnessError("accuracy mode cannot tell the samples of a batch apart in the outputs")
    write_report(config, builder, engine, trials)
    for runner in engine.runners:
        runner.forget()
    samples.unload()
    return engine, samples


def resolve(config: dict[str, Any], settings: Any, builder: Builder) -> tuple[Engine, list[Trial]]:
    """Choose instances, threads and batch size for the scenario."""
    scenario, model = config["scenario"], builder.model
    given = config["batch_size"]
    if model.fixed_batch and given not in (None, model.fixed_batch):
        raise HarnessError(f"batch_size is {given}; the model only takes {model.fixed_batch}")
    given = model.fixed_batch or given
    if scenario == "SingleStream":
        given = 1
    elif scenario == "MultiStream":
        given = given or int(settings.multi_stream_samples_per_query)
    limit_s = float("inf")
    if scenario == "Server":
        limit_s = (config["latency_limit_ms"] or settings.server_target_latency_ns / 1e6) / 2e3
    layouts = candidates(
        scenario,
        len(builder.cores),
        split_device(config["device"])[0],
        config["threads"],
        config["instances"],
    )
    return choose(builder, layouts, batch_sizes(given, builder.samples.bytes_per_sample), limit_s)


def main() -> int:
    """Run the test that config.json describes."""
    status = Status(os.environ.get("BENCHFLEET_STATUS"))
    try:
        config = read_config(Path(sys.argv[1] if len(sys.argv) > 1 else "config.json"))
        settings = loadgen_settings(config)
        engine, samples = prepare(config, settings, status)
        run_test(config, settings, engine, samples, status)
        if config["mode"] == "accuracy" and config["metric"]:
            status.phase(EVALUATING)
            print(write_accuracy(samples))
    except HarnessError as error:
        print(f"harness: {error}", file=sys.stderr)
        return REFUSED
    status.phase(DONE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
