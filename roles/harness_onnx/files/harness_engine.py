# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run batches without copies, and choose instances, threads and batch size by a short trial."""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnxruntime as ort
from harness_host import HarnessError
from harness_model import COMPILES_PER_SHAPE, ORT_ERRORS, Model, open_session, split_device
from harness_samples import Array, Samples

LARGEST_BATCH = 256
BATCH_BYTES = 256 << 20  # input bytes of one batch that the trial will not go beyond
TRIAL_S = 1.0  # budget of the whole trial
WORTH_IT = 1.01  # throughput that makes a larger batch or another layout worth taking
AROUND_S = 10e-6  # per batch outside the model: gathering and LoadGen; 5 to 10 us measured
KEPT_BINDINGS = 4096


class Runner:
    """One stream of batches over one session: its own gather buffers and output buffers."""

    def __init__(self, session: Any, model: Model, samples: Samples, device: str) -> None:
        self.session = session
        self._model = model
        self.samples = samples
        self._names = [tensor.name for tensor in model.outputs]
        kind = device.partition(":")[0]
        self._buckets = kind in COMPILES_PER_SHAPE
        self.slow_first = kind != "cpu"
        self._outputs: dict[int, tuple[list[Array], list[Any]]] = {}
        self._gather: dict[int, tuple[Any, dict[str, Array]]] = {}
        self._views: dict[int, dict[int, Any]] = {}
        self._kept = 0
        self.shapes: list[tuple[int, ...]] | None = None

    @property
    def providers(self) -> list[str]:
        """Execution providers of the session, first choice first."""
        names: list[str] = self.session.get_providers()
        return names

    def learn(self, rows: Sequence[int]) -> bool:
        """Run `rows` once to see the outputs; False if they cannot live in fixed buffers."""
        size = self._size(len(rows))
        feed = {name: np.take(a, _padded(rows, size), 0) for name, a in self._arrays()}
        found = self.session.run(self._names, feed)
        plain = all(
            isinstance(out, np.ndarray) and out.dtype == tensor.dtype and out.shape[:1] == (size,)
            for out, tensor in zip(found, self._model.outputs)
        )
        if not plain:
            return False
        shapes = [out.shape[1:] for out in found]
        fixed = self.shapes is None or self.shapes == shapes
        self.shapes = shapes
        return fixed

    def forget(self) -> None:
        """Drop everything that refers to the loaded samples (they are about to be unloaded)."""
        self._views.clear()
        self._kept = 0

    def prepare(self) -> None:
        """Bind each loaded sample beforehand (one-sample queries then only run)."""
        count = min(len(array) for _, array in self._arrays())
        if self.shapes is not None and self._size(1) == 1 and count <= KEPT_BINDINGS:
            for row in range(count):
                self._view(row, 1)

    def run(self, rows: Sequence[int]) -> Sequence[Array]:
        """Outputs for the loaded `rows`; the arrays are valid until the next call."""
        count = len(rows)
        if self.shapes is None:
            rows = _padded(rows, self._size(count))
            feed = {name: np.take(array, rows, 0) for name, array in self._arrays()}
            found: Sequence[Array] = self.session.run(self._names, feed)
            return found
        first = rows[0]
        size = self._size(count)
        if size == count and (
            count == 1
            or (rows[-1] - first == count - 1 and list(rows) == list(range(first, first + count)))
        ):
            kept = self._views.get(count)
            binding = kept.get(first) if kept is not None else None
            if binding is None:
                binding = self._view(first, count)
        else:
            binding, buffers = self._gather.get(size) or self._gathering(size)
            rows = _padded(rows, size)
            for name, array in self._arrays():
                np.take(array, rows, 0, out=buffers[name], mode="clip")
        self.session.run_with_iobinding(binding)
        outputs = self._outputs[size][0]
        return outputs if size == count else [out[:count] for out in outputs]

    def _arrays(self) -> Any:
        return self.samples.arrays.items()

    def _size(self, count: int) -> int:
        if self._model.fixed_batch:
            return self._model.fixed_batch
        return 1 << (count - 1).bit_length() if self._buckets else count

    def _bound(self, arrays: dict[str, Array], size: int) -> Any:
        """An IOBinding from `arrays` to this runner's output buffers for batches of `size`."""
        if size not in self._outputs:
            tensors = zip(self.shapes or (), self._model.outputs)
            buffers = [np.empty((size, *shape), tensor.dtype) for shape, tensor in tensors]
            values = [ort.OrtValue.ortvalue_from_numpy(buffer) for buffer in buffers]
            self._outputs[size] = (buffers, values)
        binding = self.session.io_binding()
        for name, array in arrays.items():
            binding.bind_cpu_input(name, array)
        for name, value in zip(self._names, self._outputs[size][1]):
            binding.bind_ortvalue_output(name, value)
        return binding

    def _view(self, first: int, count: int) -> Any:
        """Bind `count` rows from `first` where they lie; kept for the next time if few."""
        binding = self._bound({n: a[first : first + count] for n, a in self._arrays()}, count)
        if self._kept < KEPT_BINDINGS:
            self._views.setdefault(count, {})[first] = binding
            self._kept += 1
        return binding

    def _gathering(self, size: int) -> tuple[Any, dict[str, Array]]:
        buffers = {n: np.empty((size, *a.shape[1:]), a.dtype) for n, a in self._arrays()}
        made = self._gather[size] = (self._bound(buffers, size), buffers)
        return made


def _padded(rows: Sequence[int], size: int) -> Sequence[int]:
    """`rows`, repeated from the last one up to `size`."""
    missing = size - len(rows)
    return rows if not missing else [*rows, *[rows[-1]] * missing]


@dataclass(frozen=True)
class Layout:
    """How work is spread: `instances` streams of `threads` intra-op threads each.

    `batch` 0 is not chosen yet.
    """

    instances: int
    threads: int
    batch: int = 0


@dataclass
class Engine:
    """Runners of one layout."""

    layout: Layout
    runners: list[Runner]
    cores: list[list[int]] = field(default_factory=list)

    def pin(self, number: int) -> None:
        """Pin the calling thread to the cores of instance `number`, where pinning is on."""
        if self.cores:
            os.sched_setaffinity(0, self.cores[number])


@dataclass
class Builder:
    """Opens sessions for a layout; single-threaded instances on the CPU share one session."""

    path: str
    device: str
    model: Model
    samples: Samples
    cores: list[int]
    affinity: bool | None
    sessions: dict[tuple[int, int], Any] = field(default_factory=dict)
    fixed_outputs: bool = True
    notes: list[str] = field(default_factory=list)

    def build(self, layout: Layout) -> Engine:
        """Engine for `layout`. Raises HarnessError as open_session does."""
        groups = self._groups(layout)
        shared = split_device(self.device)[0] != "cpu" or layout.threads == 1
        runners = []
        for number in range(layout.instances):
            key = (layout.threads, 0 if shared else number)
            if key not in self.sessions:
                pinned = groups[number] if groups and not shared else None
                self.sessions[key] = open_session(self.path, self.device, layout.threads, pinned)
            runners.append(Runner(self.sessions[key], self.model, self.samples, self.device))
        self._learn(runners, layout.batch)
        return Engine(layout, runners, groups)

    def keep(self, engine: Engine) -> None:
        """Close the sessions that `engine` does not use."""
        used = {id(runner.session) for runner in engine.runners}
        self.sessions = {key: s for key, s in self.sessions.items() if id(s) in used}

    def _groups(self, layout: Layout) -> list[list[int]]:
        needed = layout.instances * layout.threads
        possible = hasattr(os, "sched_setaffinity") and needed <= len(self.cores)
        wanted = self.affinity
        if wanted is None:
            wanted = possible and layout.instances > 1 and len(self.cores) > 2
            wanted = wanted and self.device == "cpu"
        if wanted and not possible:
            raise HarnessError(
                f"affinity needs {needed} cores ({layout.instances} instances of "
                f"{layout.threads} threads); {len(self.cores)} are usable"
            )
        step = layout.threads
        count = layout.instances if wanted else 0
        return [self.cores[i * step : (i + 1) * step] for i in range(count)]

    def _learn(self, runners: list[Runner], batch: int) -> None:
        """See the outputs of one sample and of two: if their shapes are fixed, buffers can be.

        Raises HarnessError when the model fails on its input.
        """
        probe = runners[0]
        size = 1
        try:
            fixed = self.fixed_outputs and probe.learn([0])
            size = 2
            if fixed and not self.model.fixed_batch and batch != 1:
                fixed = probe.learn([0, min(1, len(self.samples.position) - 1)])
        except ORT_ERRORS as error:
            reason = " ".join(str(error).split())
            if size == 1 or batch:
                raise HarnessError(f"the model fails on a batch of {size}: {reason}") from error
            self.model.fixed_batch = 1
            self.notes.append(f"batch 1 only, the model fails on two samples: {reason}")
        if not fixed and self.fixed_outputs:
            self.notes.append("batch 1 only: the shape of an output depends on the samples")
        self.fixed_outputs = fixed
        for runner in runners:
            runner.shapes = probe.shapes if fixed else None


def measure(engine: Engine, batch: int, seconds: float) -> list[float]:
    """Seconds of each batch, all instances at work together, for about `seconds`."""
    rows = np.arange(batch, dtype=np.int64) * 7919 % len(engine.runners[0].samples.position)
    order = [int(row) for row in rows]
    times: list[list[float]] = [[] for _ in engine.runners]
    failed: list[Exception] = []

    def repeat(number: int) -> None:
        run, mine = engine.runners[number].run, times[number]
        engine.pin(number)
        end = time.perf_counter() + seconds
        before = time.perf_counter()
        while not mine or before < end:
            run(order)
            now = time.perf_counter()
            mine.append(now - before)
            before = now

    def work(number: int) -> None:
        try:
            repeat(number)
        except ORT_ERRORS as error:
            failed.append(error)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(len(engine.runners))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failed:
        reason = " ".join(str(failed[0]).split())
        raise HarnessError(f"the model fails on a batch of {batch}: {reason}")
    return [value for mine in times for value in mine]


@dataclass(frozen=True)
class Trial:
    """One measured setting: the median batch time and the rate it promises under LoadGen."""

    layout: Layout
    batch_ms: float
    samples_per_s: float


def sweep(engine: Engine, sizes: Sequence[int], budget: float, limit_s: float) -> list[Trial]:
    """Measure growing batches until time is up, the gain ends, or a batch exceeds `limit_s`."""
    trials: list[Trial] = []
    end = time.perf_counter() + budget
    for size in sizes:
        if engine.runners[0].slow_first:
            # a new shape is compiled or tuned for once: that is not what a batch takes
            before = time.perf_counter()
            measure(engine, size, 0.0)
            end += time.perf_counter() - before
        once = max(measure(engine, size, 0.0))
        left = end - time.perf_counter()
        if trials and (once > limit_s or once > left):
            break
        share = min(max(left, 0.0) / 3, max(0.02, 4 * once))
        median = statistics.median(measure(engine, size, share))
        layout = replace(engine.layout, batch=size)
        rate = size * len(engine.runners) / (median + AROUND_S)
        trials.append(Trial(layout, median * 1e3, rate))
        best = max(trial.samples_per_s for trial in trials)
        late = len(trials) >= 3 and all(t.samples_per_s < best for t in trials[-2:])
        if late or median * 2 > limit_s or time.perf_counter() > end:
            break
    return trials


def best_of(trials: Sequence[Trial]) -> Trial:
    """The first trial within 1 % of the fastest: small batches and single threads come first."""
    fastest = max(trial.samples_per_s for trial in trials)
    return next(trial for trial in trials if trial.samples_per_s * WORTH_IT >= fastest)


def batch_sizes(given: int | None, bytes_per_sample: int) -> list[int]:
    """The sizes to try: the one given, or 1, 2, 4 … up to 256 or 256 MiB of input."""
    if given:
        return [given]
    most = max(1, min(LARGEST_BATCH, BATCH_BYTES // max(1, bytes_per_sample)))
    return [1 << power for power in range(most.bit_length())]


def candidates(
    scenario: str, cores: int, device: str, threads: int | None, instances: int | None
) -> list[Layout]:
    """Layouts worth trying: both figures given means one, none given means two at most."""
    if threads and instances:
        return [Layout(instances, threads)]
    if scenario in ("SingleStream", "MultiStream"):
        counts = [threads] if threads else sorted({1, cores})
        return [Layout(instances or 1, count) for count in counts]
    if device != "cpu" and not instances:
        # two streams: one gathers its next batch while the device works for the other
        return [Layout(2, threads or cores)]
    if threads:
        return [Layout(max(1, cores // threads), threads)]
    if instances:
        return [Layout(instances, max(1, cores // instances))]
    return [Layout(cores, 1)] if cores == 1 else [Layout(cores, 1), Layout(1, cores)]


def choose(
    builder: Builder, layouts: Sequence[Layout], sizes: Sequence[int], limit_s: float
) -> tuple[Engine, list[Trial]]:
    """Try the layouts, keep the best, and return it with every figure measured.

    `limit_s`: what one batch may take; in Server half the latency limit, as a query waits for the
    batch before its own at worst. Nothing is measured where nothing is open.
    """
    given = sizes[0] if len(sizes) == 1 else 0
    trials: list[Trial] = []
    engines: dict[tuple[int, int], Engine] = {}
    for layout in layouts:
        engine = builder.build(replace(layout, batch=given))
        engines[layout.instances, layout.threads] = engine
        allowed = sizes
        if not builder.fixed_outputs or builder.model.fixed_batch:
            allowed = [builder.model.fixed_batch or 1]
        if len(layouts) == 1 and len(allowed) == 1:
            measure(engine, allowed[0], 0.0)
            engine.layout = replace(layout, batch=allowed[0])
            return engine, []
        trials += sweep(engine, allowed, TRIAL_S / len(layouts), limit_s)
    fitting = [trial for trial in trials if trial.batch_ms <= limit_s * 1e3]
    best = best_of(fitting) if fitting else min(trials, key=lambda trial: trial.batch_ms)
    engine = engines[best.layout.instances, best.layout.threads]
    engine.layout = best.layout
    builder.keep(engine)
    return engine, trials
