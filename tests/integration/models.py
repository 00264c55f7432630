"""Small ONNX models and .npy arrays, written without any package that knows the formats."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

FLOAT, INT64 = 1, 7  # TensorProto.DataType
Dim = int | str
_INT, _INTS = 2, 7  # AttributeProto.AttributeType


def _varint(number: int) -> bytes:
    out = bytearray()
    number &= (1 << 64) - 1
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _block(field: int, value: bytes | str) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return _varint(field << 3 | 2) + _varint(len(raw)) + raw


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _block(1, name) + _number(3, value) + _number(20, _INT)
    return _block(1, name) + b"".join(_number(8, v) for v in value) + _number(20, _INTS)


def node(
    kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: int | Sequence[int]
) -> bytes:
    """A NodeProto."""
    parts = [_block(1, name) for name in inputs] + [_block(2, name) for name in outputs]
    parts.append(_block(4, kind))
    parts += [_block(5, _attribute(name, value)) for name, value in attributes.items()]
    return b"".join(parts)


def weights(name: str, shape: Sequence[int], values: Iterable[float]) -> bytes:
    """A TensorProto of floats."""
    raw = struct.pack(f"<{math.prod(shape)}f", *values)
    dims = b"".join(_number(1, size) for size in shape)
    return dims + _number(2, FLOAT) + _block(8, name) + _block(9, raw)


def tensor(name: str, kind: int, shape: Sequence[Dim]) -> bytes:
    """A ValueInfoProto; a name in the shape is a dynamic axis."""
    dims = [_number(1, d) if isinstance(d, int) else _block(2, d) for d in shape]
    body = _number(1, kind) + _block(2, b"".join(_block(1, dim) for dim in dims))
    return _block(1, name) + _block(2, _block(1, body))


def save(
    path: Path,
    nodes: Sequence[bytes],
    inputs: Sequence[bytes],
    outputs: Sequence[bytes],
    tensors: Sequence[bytes] = (),
) -> Path:
    """Write a model of operator set 13 and return its path."""
    graph = b"".join(
        [
            *(_block(1, one) for one in nodes),
            _block(2, "graph"),
            *(_block(5, one) for one in tensors),
            *(_block(11, one) for one in inputs),
            *(_block(12, one) for one in outputs),
        ]
    )
    opset = _block(1, "") + _number(2, 13)
    path.write_bytes(_number(1, 8) + _block(7, graph) + _block(8, opset))
    return path


def dense(path: Path, sizes: tuple[int, int], batch: Dim = "N") -> Path:
    """`x` [batch, sizes[0]] times a matrix: `y` [batch, sizes[1]]."""
    count = sizes[0] * sizes[1]
    return save(
        path,
        [node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", FLOAT, [batch, sizes[0]])],
        [tensor("y", FLOAT, [batch, sizes[1]])],
        [weights("w", sizes, (i % 7 - 3 for i in range(count)))],
    )


def sums(path: Path) -> Path:
    """`ids` int64 [N, length], their mean: `total` float [N]."""
    return save(
        path,
        [
            node("Cast", ["ids"], ["f"], to=FLOAT),
            node("ReduceMean", ["f"], ["total"], axes=[1], keepdims=0),
        ],
        [tensor("ids", INT64, ["N", "length"])],
        [tensor("total", FLOAT, ["N"])],
    )


def digits_linear(path: Path) -> Path:
    """A poor network with the signature of the benchmark digits."""
    return save(
        path,
        [node("Flatten", ["image"], ["flat"], axis=1), node("MatMul", ["flat", "w"], ["logits"])],
        [tensor("image", FLOAT, ["N", 8, 8])],
        [tensor("logits", FLOAT, ["N", 10])],
        [weights("w", [64, 10], ((i * 37 % 101) / 101 for i in range(640)))],
    )


def colours(path: Path) -> Path:
    """The signature of resnet50; the answer is the brightest channel plus one."""
    bright = {1: 1.0, 1001 + 2: 1.0, 2002 + 3: 1.0}
    return save(
        path,
        [
            node("GlobalAveragePool", ["input_tensor:0"], ["mean"]),
            node("Flatten", ["mean"], ["flat"], axis=1),
            node("MatMul", ["flat", "w"], ["scores"]),
            node("ArgMax", ["scores"], ["ArgMax:0"], axis=1, keepdims=0),
            node("Softmax", ["scores"], ["softmax_tensor:0"], axis=1),
        ],
        [tensor("input_tensor:0", FLOAT, ["N", 3, 224, 224])],
        [tensor("ArgMax:0", INT64, ["N"]), tensor("softmax_tensor:0", FLOAT, ["N", 1001])],
        [weights("w", [3, 1001], (bright.get(i, 0.0) for i in range(3003)))],
    )


def npy(path: Path, kind: str, shape: Sequence[int], raw: bytes) -> Path:
    """Write an array; `kind` is numpy's type string (`|u1`, `<i8`)."""
    dims = "".join(f"{size}, " for size in shape)
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': ({dims}), }}"
    header += " " * (-(len(header) + 11) % 64) + "\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + raw)
    return path
