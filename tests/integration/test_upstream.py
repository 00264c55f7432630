"""The real reference harnesses of mlcommons/inference, over ssh, on stand-ins for the models.

Needs BENCHFLEET_INFERENCE_REPO, a clone of mlcommons/inference. The models have the true names and
shapes of inputs and outputs and no training; the datasets are made here. None of it could enter a
submission: a model of the lab's own makes runs of no MLPerf benchmark.
"""

from __future__ import annotations

import json
import os
import random
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import models
import pytest
from fleet import Controller, Done, snapshot
from lab import Lab
from tree import controller_environment

UPSTREAM = os.environ.get("BENCHFLEET_INFERENCE_REPO", "")
pytestmark = [
    pytest.mark.lab,
    pytest.mark.network,
    pytest.mark.skipif(not UPSTREAM, reason="BENCHFLEET_INFERENCE_REPO names no clone"),
]

HOST, USER = "sut2", "plain"
SEQUENCE, VOCABULARY, ANSWER = 384, 30_522, 2_000
LIMIT_S = 1_500.0


def _png(path: Path, width: int, height: int, pixels: bytes) -> None:
    """Write an RGB picture without loss; readers go by content, whatever the file is called."""
    rows = b"".join(b"\0" + pixels[y * width * 3 : (y + 1) * width * 3] for y in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    out = b"\x89PNG\r\n\x1a\n"
    for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        out += struct.pack(">I", len(body)) + kind + body
        out += struct.pack(">I", zlib.crc32(kind + body))
    path.write_bytes(out)


def imagenet(folder: Path, count: int = 48) -> Path:
    """Pictures in red, green and blue, labelled so, under the names of ImageNet's."""
    folder.mkdir()
    labels = []
    for number in range(count):
        colour = number % 3
        pixel = bytes(220 if channel == colour else 40 for channel in range(3))
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        _png(folder / name, 320, 256, pixel * (320 * 256))
        labels.append(f"{name} {colour}\n")
    (folder / "val_map.txt").write_text("".join(labels))
    return folder


def bert(path: Path) -> Path:
    """The signature of BERT on SQuAD; start and end are where the token ANSWER stands."""
    ids = ("input_ids", "input_mask", "segment_ids")
    outputs = ("output_start_logits", "output_end_logits")
    return models.save(
        path,
        [
            models.node("Cast", ["input_ids"], ["ids"], to=models.FLOAT),
            models.node("Sub", ["ids", "answer"], ["difference"]),
            models.node("Abs", ["difference"], ["distance"]),
            *(models.node("Neg", ["distance"], [name]) for name in outputs),
        ],
        [models.tensor(name, models.INT64, ["batch_size", SEQUENCE]) for name in ids],
        [models.tensor(name, models.FLOAT, ["batch_size", SEQUENCE]) for name in outputs],
        [models.weights("answer", [1], [float(ANSWER)])],
    )


def squad(folder: Path) -> tuple[Path, Path]:
    """Write a vocabulary and questions in the form of SQuAD v1.1, three of four of which the
    model answers rightly; return the paths of the questions and of the vocabulary."""
    words = [_word(number) for number in range(VOCABULARY)]
    for number, mark in {0: "[PAD]", 100: "[UNK]", 101: "[CLS]", 102: "[SEP]"}.items():
        words[number] = mark
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("".join(f"{word}\n" for word in words))
    chance, paragraphs = random.Random(2), []
    for number in range(12):
        # the longer ones take more than one input of the model
        length = 500 if number % 3 == 0 else 120
        context = chance.choices(words[ANSWER + 100 :], k=length)
        context[length // 2] = words[ANSWER]
        at = length // 2 if number % 4 else 3
        answer = {"text": context[at], "answer_start": len(" ".join([*context[:at], ""]))}
        question = " ".join(chance.choices(words[ANSWER + 100 :], k=6))
        asked = {"id": f"q{number}", "question": question, "answers": [answer]}
        paragraphs.append({"context": " ".join(context), "qas": [asked]})
    questions = folder / "dev.json"
    data = [{"title": "stand-in", "paragraphs": paragraphs}]
    questions.write_text(json.dumps({"version": "1.1", "data": data}))
    return questions, vocabulary


def _word(number: int) -> str:
    """A number in letters alone, as a tokenizer leaves it in one piece."""
    return "w" + "".join(chr(ord("a") + number // 26**place % 26) for place in range(4))


@dataclass(frozen=True)
class Twice:
    """A request made twice: both calls, the results after each, the cells of the latter."""

    calls: tuple[Done, Done]
    results: tuple[Any, Any]
    cells: dict[str, dict[str, Any]]


def twice(lab: Lab, folder: Path, **request: Any) -> Twice:
    """Run the reference implementation on a host of the lab as a user without root, and again."""
    (folder / "home").mkdir()
    controller = Controller(controller_environment(folder / "home"), folder / "controller")
    inventory = lab.inventory(HOST, user=USER)
    asked = {
        "implementation": "reference",
        "backend": "onnxruntime",
        "mode": "all",
        "benchfleet_inference_repo": UPSTREAM,
        **request,
    }
    first = controller.run(inventory, timeout=LIMIT_S, **asked)
    before = snapshot(controller.results)
    second = controller.run(inventory, **asked)
    cells = {f"{cell['scenario']}/{cell['mode']}": cell for cell in controller.outcomes()}
    return Twice((first, second), (before, snapshot(controller.results)), cells)


def check(made: Twice, scenarios: list[str]) -> None:
    """Every cell is valid, a figure came of each, and the second call did nothing."""
    first, second = made.calls
    wanted = {f"{name}/{mode}" for name in scenarios for mode in ("performance", "accuracy")}
    assert {name for name, cell in made.cells.items() if cell["outcome"] == "valid"} == wanted, (
        first.text
    )
    assert (first.code, second.code) == (0, 0), first.text + second.text
    assert not any(cell["submittable"] for cell in made.cells.values())
    for name in scenarios:
        assert made.cells[f"{name}/performance"]["value"] > 0
    assert second.recap[HOST]["changed"] == 0
    assert made.results[0] == made.results[1]


# Below what these reach, as a Server calibrated on a busy machine is a gamble, and enough for the
# 459 queries that early stopping wants of a test of 10 s.
SERVER = (["Server"], {"target_qps": 60})


@pytest.mark.parametrize(
    ("scenarios", "more"), [(["SingleStream", "MultiStream", "Offline"], {}), SERVER]
)
def test_resnet50(lab: Lab, tmp_path: Path, scenarios: list[str], more: dict[str, Any]) -> None:
    made = twice(
        lab,
        tmp_path,
        benchmark="resnet50",
        scenario=scenarios,
        model_path=str(models.colours(tmp_path / "colours.onnx")),
        dataset_path=str(imagenet(tmp_path / "imagenet")),
        **more,
    )
    check(made, scenarios)
    for name in scenarios:
        assert made.cells[f"{name}/accuracy"]["accuracy"] == {"acc": 100.0}


@pytest.mark.parametrize(("scenarios", "more"), [(["SingleStream", "Offline"], {}), SERVER])
def test_bert(lab: Lab, tmp_path: Path, scenarios: list[str], more: dict[str, Any]) -> None:
    questions, vocabulary = squad(tmp_path)
    made = twice(
        lab,
        tmp_path,
        benchmark="bert",
        scenario=scenarios,
        model_path=str(bert(tmp_path / "bert.onnx")),
        dataset_path=str(questions),
        benchfleet_artifact_paths={"bert-vocab": str(vocabulary)},
        **more,
    )
    check(made, scenarios)
    for name in scenarios:
        assert made.cells[f"{name}/accuracy"]["accuracy"] == {"F1": 75.0}
