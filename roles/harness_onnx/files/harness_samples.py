# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where samples come from and how they lie in memory while LoadGen asks for them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from harness_host import HarnessError
from harness_model import Model, Tensor

Array = np.ndarray[Any, Any]
RESERVED = ("labels", "scale")
CONVERTED_AT_ONCE = 256  # rows; bounds the temporary copy while converting


def open_dataset(path: str) -> dict[str, Array]:
    """Read a dataset: an .npz file, or a folder of .npy files (these stay memory-mapped).

    One array for each model input, named like it, first axis = samples; `labels` (optional, what
    accuracy is computed against); `scale` (optional, multiplies floating-point inputs).
    """
    source = Path(path)
    try:
        if source.is_dir():
            files = sorted(source.glob("*.npy"))
            return {f.stem: np.load(f, mmap_mode="r", allow_pickle=False) for f in files}
        with np.load(source, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        reason = error.strerror if isinstance(error, OSError) else "no archive of plain arrays"
        raise HarnessError(f"cannot read the dataset {path}: {reason}") from error


def generate(model: Model, count: int, seed: int) -> dict[str, Array]:
    """Make `count` samples for every input: floats in [0, 1), integers and booleans in {0, 1}."""
    random = np.random.default_rng(seed)
    made: dict[str, Array] = {}
    for tensor in model.inputs:
        shape = (count, *_static(model, tensor))
        if tensor.dtype is not None and tensor.dtype.kind == "f":
            made[tensor.name] = random.random(shape, dtype=np.float32).astype(tensor.dtype)
        else:
            made[tensor.name] = random.integers(0, 2, shape, dtype=np.uint8).astype(tensor.dtype)
    return made


def _static(model: Model, tensor: Tensor) -> tuple[int, ...]:
    dims = model.sample_shape(tensor)
    if not all(isinstance(dim, int) and dim > 0 for dim in dims):
        example = ",".join(str(d) if isinstance(d, int) else "128" for d in (1, *dims))
        raise HarnessError(
            f"input {tensor.name!r} has the shape {tensor}: give its dynamic axes a size, for "
            f"example -e 'input_shapes={{\"{tensor.name}\":[{example}]}}', or give a dataset"
        )
    return tuple(int(dim) for dim in dims if dim is not None)


class Samples:
    """Checked source arrays, and the rows that LoadGen has asked to hold in memory."""

    def __init__(self, model: Model, source: dict[str, Array]) -> None:
        """Raises HarnessError when an input is missing, or its type or shape does not fit."""
        self._tensors = model.inputs
        self._source = source
        counts = {t.name: _checked(model, t, source).shape[0] for t in model.inputs}
        labels = source.get("labels")
        if labels is not None:
            counts["labels"] = labels.size
        if len(set(counts.values())) != 1:
            raise HarnessError(f"arrays of the dataset differ in their number of samples: {counts}")
        self.count: int = next(iter(counts.values()))
        if not self.count:
            raise HarnessError("the dataset holds no samples")
        self.labels: Array | None = labels
        self.arrays: dict[str, Array] = {}
        self.position: list[int] | range = range(0)

    @property
    def bytes_per_sample(self) -> int:
        """Memory of one loaded sample, all inputs together."""
        total = 0
        for tensor in self._tensors:
            array = self._source[tensor.name]
            total += int(np.prod(array.shape[1:])) * np.dtype(tensor.dtype).itemsize
        return total

    def load(self, indices: list[int]) -> None:
        """Lay the samples out in the model's types, contiguous, in the order of `indices`."""
        every = indices == list(range(self.count))
        self.arrays = {t.name: self._rows(t, indices, every) for t in self._tensors}
        if every:
            self.position = range(self.count)
            return
        self.position = [-1] * self.count
        for row, index in enumerate(indices):
            self.position[index] = row

    def unload(self) -> None:
        """Give the memory back."""
        self.arrays = {}

    def _rows(self, tensor: Tensor, indices: list[int], every: bool) -> Array:
        array = self._source[tensor.name]
        scale = self._source.get("scale") if np.dtype(tensor.dtype).kind == "f" else None
        plain = scale is None and array.dtype == tensor.dtype and array.flags.c_contiguous
        if every and plain and not isinstance(array, np.memmap):
            return array
        rows = np.empty((len(indices), *array.shape[1:]), tensor.dtype)
        for start in range(0, len(indices), CONVERTED_AT_ONCE):
            part = array[indices[start : start + CONVERTED_AT_ONCE]]
            target = rows[start : start + CONVERTED_AT_ONCE]
            if scale is None:
                target[...] = part
            else:
                np.multiply(part, scale, out=target, casting="unsafe")
        return rows


def _checked(model: Model, tensor: Tensor, source: dict[str, Array]) -> Array:
    """The source array of one input, if it fits."""
    array = source.get(tensor.name)
    if array is None:
        held = ", ".join(sorted(set(source) - set(RESERVED))) or "none"
        raise HarnessError(f"the dataset lacks input {tensor.name!r} ({tensor}); it holds: {held}")
    wanted = model.sample_shape(tensor)
    got = array.shape[1:]
    fits = array.ndim == len(wanted) + 1 and all(
        not isinstance(dim, int) or dim == size for dim, size in zip(wanted, got)
    )
    if not fits:
        raise HarnessError(
            f"the dataset's {tensor.name!r} has samples of shape {list(got)}; "
            f"the model takes {tensor}"
        )
    if not np.can_cast(array.dtype, np.dtype(tensor.dtype), "same_kind"):
        raise HarnessError(
            f"the dataset's {tensor.name!r} is {array.dtype}; the model takes {tensor.type}"
        )
    return array
