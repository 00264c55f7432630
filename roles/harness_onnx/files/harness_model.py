# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An ONNX model as the harness sees it: its signature, its sessions, its batch rules."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union

import numpy as np
import onnxruntime as ort
from harness_host import HarnessError
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state

Dim = Union[int, str, None]

ORT_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(k for k in vars(ort_state).values() if isinstance(k, type) and issubclass(k, Exception)),
)

DTYPES = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    **{
        name: getattr(np, name)
        for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
    },
    "bool": np.bool_,
}

# device -> execution providers, the wanted one first; the others take what it cannot run.
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
    "openvino": ("OpenVINOExecutionProvider", "CPUExecutionProvider"),
    "rocm": ("ROCMExecutionProvider", "CPUExecutionProvider"),
    "migraphx": ("MIGraphXExecutionProvider", "CPUExecutionProvider"),
    "coreml": ("CoreMLExecutionProvider", "CPUExecutionProvider"),
    "directml": ("DmlExecutionProvider", "CPUExecutionProvider"),
    "qnn": ("QNNExecutionProvider", "CPUExecutionProvider"),
    "xnnpack": ("XnnpackExecutionProvider", "CPUExecutionProvider"),
    "dnnl": ("DnnlExecutionProvider", "CPUExecutionProvider"),
}
# These compile the network for each input shape: batches are padded to powers of two.
COMPILES_PER_SHAPE = {"tensorrt", "openvino", "migraphx", "coreml", "qnn"}


@dataclass(frozen=True)
class Tensor:
    """One model input or output: ONNX element type (`float`, `int64`) and shape."""

    name: str
    type: str
    shape: tuple[Dim, ...]

    @classmethod
    def of(cls, node: Any) -> Tensor:
        """From a node of `session.get_inputs()` or `get_outputs()`."""
        kind = str(node.type)
        inner = kind[len("tensor(") : -1] if kind.startswith("tensor(") else kind
        return cls(node.name, inner, tuple(node.shape or ()))

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The numpy type, or None where numpy has none (string, sequence, bfloat16)."""
        kind = DTYPES.get(self.type)
        return None if kind is None else np.dtype(kind)

    def __str__(self) -> str:
        return f"{self.type} {_show(self.shape)}"


def _show(shape: tuple[Dim, ...]) -> str:
    return "[" + ",".join("?" if dim is None else str(dim) for dim in shape) + "]"


def split_device(device: str) -> tuple[str, int | None]:
    """`cuda:1` -> ("cuda", 1). Raises HarnessError for a device the harness has no name for."""
    kind, _, number = device.partition(":")
    if kind not in PROVIDERS or (number and not number.isdigit()):
        raise HarnessError(f"unknown device {device!r}: use one of {', '.join(sorted(PROVIDERS))}")
    return kind, int(number) if number else None


def open_session(path: str, device: str, threads: int, cores: list[int] | None = None) -> Any:
    """Open the model on `device` with `threads` intra-op threads, pinned to `cores` if given.

    Raises HarnessError when the provider is not in the installed package, when it could not be
    started (ONNX Runtime would go on with the CPU), and when the model cannot be read.
    """
    kind, number = split_device(device)
    wanted = PROVIDERS[kind]
    offered = ort.get_available_providers()
    if wanted[0] not in offered:
        raise HarnessError(
            f"device {device!r} needs {wanted[0]}, but the installed onnxruntime {ort.__version__} "
            f"offers {', '.join(offered)}"
        )
    if kind in ("cuda", "tensorrt") and hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    providers = [
        (name, {"device_id": str(number)}) if number is not None and name != wanted[-1] else name
        for name in wanted
        if name in offered
    ]
    if not Path(path).is_file():
        raise HarnessError(f"no model at {path}")
    try:
        options = _options(kind, threads, cores)
        session = ort.InferenceSession(path, options, providers=providers)
    except ORT_ERRORS as error:
        reason = " ".join(str(error).split())
        raise HarnessError(f"onnxruntime cannot open {path}: {reason}") from error
    got = session.get_providers()
    if got[0] != wanted[0]:
        raise HarnessError(
            f"{wanted[0]} did not start on this host (driver or libraries missing?); onnxruntime "
            f"fell back to {', '.join(got)}, which was not asked for"
        )
    session.disable_fallback()
    return session


def _options(kind: str, threads: int, cores: list[int] | None) -> Any:
    options = ort.SessionOptions()
    # on the CPU the exception says all; elsewhere the log names the library that is missing
    options.log_severity_level = 4 if kind == "cpu" else 3
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    if cores and threads > 1:
        # one entry for each pool thread; the calling thread is the first of the `threads`
        pinned = ";".join(str(core + 1) for core in cores[1:threads])
        options.add_session_config_entry("session.intra_op_thread_affinities", pinned)
    return options


class Model:
    """The signature of an opened model and what follows from it for batching."""

    def __init__(self, session: Any, shapes: dict[str, list[int]] | None = None) -> None:
        """`shapes` fixes dynamic dimensions by input name, batch axis included.

        Raises HarnessError for inputs that cannot be fed from arrays or that lack a batch axis.
        """
        self.inputs = [Tensor.of(node) for node in session.get_inputs()]
        self.outputs = [Tensor.of(node) for node in session.get_outputs()]
        self.shapes = {name: tuple(shape) for name, shape in (shapes or {}).items()}
        for name, shape in self.shapes.items():
            self._check_given(name, shape)
        first = [self._first(tensor) for tensor in self.inputs]
        fixed = {dim for dim in first if isinstance(dim, int)}
        if len(fixed) > 1:
            raise HarnessError(
                f"inputs differ in their first axis ({sorted(fixed)}): no batch axis"
            )
        self.fixed_batch: int | None = fixed.pop() if fixed else None

    def _check_given(self, name: str, shape: tuple[int, ...]) -> None:
        known = {tensor.name: tensor for tensor in self.inputs}
        if name not in known:
            raise HarnessError(f"input_shapes names {name!r}; the model's inputs: {list(known)}")
        if not _matches(known[name].shape, shape):
            raise HarnessError(
                f"input_shapes for {name!r} is {_show(shape)}; the model has "
                f"{_show(known[name].shape)}"
            )

    def _first(self, tensor: Tensor) -> Dim:
        if tensor.dtype is None:
            raise HarnessError(f"input {tensor.name!r} is of type {tensor.type}: not supported")
        if not tensor.shape:
            raise HarnessError(f"input {tensor.name!r} is a scalar: samples need a first axis")
        return tensor.shape[0]

    def sample_shape(self, tensor: Tensor) -> tuple[Dim, ...]:
        """Shape of one sample of an input: without the batch axis, `input_shapes` applied."""
        return self.shapes.get(tensor.name, tensor.shape)[1:]

    def describe(self) -> dict[str, list[dict[str, Any]]]:
        """The signature as data, in the form of the `signature` option."""
        return {
            side: [{"name": t.name, "type": t.type, "shape": list(t.shape)} for t in tensors]
            for side, tensors in (("inputs", self.inputs), ("outputs", self.outputs))
        }


def _matches(ours: tuple[Dim, ...], theirs: tuple[Dim, ...]) -> bool:
    """Same rank, and no axis where both are numbers and differ."""
    return len(ours) == len(theirs) and all(
        a == b for a, b in zip(ours, theirs) if isinstance(a, int) and isinstance(b, int)
    )


def differences(model: Model, signature: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Where the model departs from the reference `signature`: one line for each tensor."""
    found = []
    for side, have in (("input", model.inputs), ("output", model.outputs)):
        ours = {tensor.name: tensor for tensor in have}
        wanted = [_reference(entry) for entry in signature.get(side + "s", [])]
        for ref in wanted:
            mine = ours.pop(ref.name, None)
            if mine is None:
                found.append(f"{side} {ref.name!r} is missing (reference: {ref})")
            elif mine.type != ref.type or not _matches(mine.shape, ref.shape):
                found.append(f"{side} {ref.name!r} is {mine}, reference: {ref}")
        found += [f"{side} {name!r} is not in the reference" for name in ours if wanted]
    return found


def _reference(entry: dict[str, Any]) -> Tensor:
    kind = str(entry["type"])
    kind = kind[len("tensor(") : -1] if kind.startswith("tensor(") else kind
    kind = {"float32": "float", "float64": "double"}.get(kind, kind)
    return Tensor(entry["name"], kind, tuple(entry["shape"]))
