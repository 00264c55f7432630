#!/usr/bin/env python3
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Provenance of digits.npz and digits_cnn.onnx: split the data, train the network, export it.

Run by a maintainer, never on a target: `python make_digits.py [FOLDER]` writes both files there.
Needs torch, scikit-learn, onnx and numpy; the versions used for the shipped files are in README.md.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 20260828
VALIDATION = 500
EPOCHS = 100
BATCH = 32
SCALE = np.float32(1 / 16)  # a pixel counts set bits of a 4x4 block: 0..16


def split() -> tuple[NDArray[np.uint8], ...]:
    """Return training images and labels, validation images and labels (stratified, seeded)."""
    bunch = load_digits()
    images = bunch.images.astype(np.uint8)
    labels = bunch.target.astype(np.int64)
    train_x, val_x, train_y, val_y = train_test_split(
        images, labels, test_size=VALIDATION, stratify=labels, random_state=SEED
    )
    return train_x, train_y, val_x, val_y


def network() -> nn.Sequential:
    """The network: three 3x3 convolutions and two dense layers, 98,474 parameters."""
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(256, 160),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(160, 10),
    )


def distorted(batch: torch.Tensor) -> torch.Tensor:
    """Rotate (0.2 rad), move (0.6 pixel) and scale (10 %) each image at random, at most so much."""
    count = len(batch)
    angle = (torch.rand(count) * 2 - 1) * 0.2
    scale = 1 + (torch.rand(count) * 2 - 1) * 0.1
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = torch.cos(angle) * scale
    theta[:, 1, 0] = torch.sin(angle) * scale
    theta[:, 0, 1] = -theta[:, 1, 0]
    theta[:, :, 2] = (torch.rand(count, 2) * 2 - 1) * 0.15
    grid = nn.functional.affine_grid(theta, list(batch.shape), align_corners=False)
    return nn.functional.grid_sample(batch, grid, align_corners=False)


def train(images: NDArray[np.uint8], labels: NDArray[np.int64]) -> nn.Sequential:
    """Train for a fixed number of epochs: the validation images take no part in it."""
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    x = torch.from_numpy(images.astype(np.float32) * SCALE)[:, None]
    y = torch.from_numpy(labels)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(x) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(x))
        for start in range(0, len(x) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            loss = nn.functional.cross_entropy(model(distorted(x[rows])), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def export(model: nn.Sequential) -> onnx.ModelProto:
    """Write the network as ONNX by hand: opset 13, IR 7, `image` [N,8,8] to `logits` [N,10]."""
    nodes = [helper.make_node("Unsqueeze", ["image", "channel_axis"], ["x0"])]
    tensors = [numpy_helper.from_array(np.array([1], np.int64), "channel_axis")]
    last = "x0"
    for number, layer in enumerate(layer for layer in model if not isinstance(layer, nn.Dropout)):
        out = f"x{number + 1}"
        inputs = [last]
        for kind, values in layer.named_parameters():
            tensors.append(numpy_helper.from_array(values.detach().numpy(), f"{kind}{number}"))
            inputs.append(f"{kind}{number}")
        nodes.append(node(layer, inputs, out))
        last = out
    nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        nodes,
        "digits_cnn",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", 10])],
        tensors,
    )
    opset = [helper.make_opsetid("", 13)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=7, producer_name="benchfleet")
    onnx.checker.check_model(made, full_check=True)
    return made


def node(layer: nn.Module, inputs: list[str], out: str) -> onnx.NodeProto:
    """The ONNX node of one layer."""
    if isinstance(layer, nn.Conv2d):
        return helper.make_node("Conv", inputs, [out], kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    if isinstance(layer, nn.MaxPool2d):
        return helper.make_node("MaxPool", inputs, [out], kernel_shape=[2, 2], strides=[2, 2])
    if isinstance(layer, nn.Linear):
        return helper.make_node("Gemm", inputs, [out], transB=1)
    return helper.make_node("Flatten" if isinstance(layer, nn.Flatten) else "Relu", inputs, [out])


def main() -> None:
    """Write both files and print their digests and the accuracy."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    train_x, train_y, val_x, val_y = split()
    model = train(train_x, train_y)
    with torch.no_grad():
        logits = model(torch.from_numpy(val_x.astype(np.float32) * SCALE)[:, None])
    good = int((logits.argmax(1).numpy() == val_y).sum())
    onnx.save(export(model), str(folder / "digits_cnn.onnx"))
    np.savez_compressed(folder / "digits.npz", image=val_x, labels=val_y, scale=SCALE)
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{parameters} parameters, {good} of {len(val_y)} right")
    for name in ("digits.npz", "digits_cnn.onnx"):
        data = (folder / name).read_bytes()
        print(f"{hashlib.sha256(data).hexdigest()}  {name}  {len(data)} bytes")


if __name__ == "__main__":
    main()
