"""A stand-in for mlcommons/inference: a repository of the folder standin, and a catalog for it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tree import root

MAIN, SCRIPT = "vision/python/main.py", "vision/python/accuracy.py"
SAYS = "stand-in for a harness of mlcommons/inference, made for tests"
PATCH, PATCHED = "standin-says.patch", f"{SAYS}, patched"
LOCK = "framework/onnxruntime-cpu"  # what our own harness has on a host already
TARGETS = {"target_qps": 20_000, "target_latency": 0.5}  # the stand-in is slower


def git(folder: Path, *words: str) -> str:
    """Run git with nobody's own settings."""
    who = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main"]
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def repository(folder: Path) -> str:
    """Make the stand-in's repository and return its commit."""
    shutil.copytree(Path(__file__).with_name("standin"), folder)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "the stand-in")
    return git(folder, "rev-parse", "HEAD").strip()


def images_and_labels() -> Mapping[str, Any]:
    """Return the arrays of the embedded benchmark's dataset."""
    with np.load(root() / "catalog" / "data" / "digits" / "digits.npz") as arrays:
        return dict(arrays)


def model(path: Path) -> float:
    """Write the mean image of each digit; return the accuracy in percent of the nearest one."""
    data = images_and_labels()
    images, labels = data["image"].reshape(-1, 64).astype(np.float32), data["labels"]
    means = np.stack([images[labels == n].mean(axis=0) for n in range(10)])
    np.savez(path, means=means)
    found = ((images[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    return float(100 * (found == labels).mean())


def benchmark(name: str, model_file: Path, **changes: Any) -> dict[str, Any]:
    """Return a catalog file that runs the stand-in as upstream's vision harness is run."""
    flavour = name.removeprefix("standin-")
    command = ["{python}", f"{{folder}}/{MAIN.removeprefix('vision/')}", "--model={model}"]
    command += ["--dataset-path={dataset}", "--output={out}", "--user_conf={user_conf}"]
    command += ["--scenario={scenario}", "--max-batchsize={batch_size}", "--count={samples}"]
    script = ["{python}", f"{{folder}}/{SCRIPT.removeprefix('vision/')}"]
    script += ["--mlperf-accuracy-file={out}/mlperf_log_accuracy.json", "--dataset={dataset}"]
    ours = (root() / "catalog" / "data" / "digits" / "digits.npz").read_bytes()
    files = {"model": ("model", model_file.read_bytes()), "digits": ("dataset", ours)}
    origins = {"model": f"data/{model_file.name}", "digits": "data/digits/digits.npz"}
    return {
        "name": name,
        "title": "A stand-in",
        "kind": "embedded",
        "task": "image classification",
        "checker_names": [],
        "loadgen_model": "standin",
        "scenarios": ["Offline"],
        "artifacts": {
            part: {
                "type": kind,
                "title": part,
                "origins": [{"file": origins[part]}],
                "sha256": hashlib.sha256(content).hexdigest(),
                "bytes": len(content),
                "licence": None,
                "gate": None,
            }
            for part, (kind, content) in files.items()
        },
        "model": {"format": "npz", "artifact": "model"},
        "dataset": {"name": "digits", "samples": 500, "artifact": "digits"},
        "metric": None,
        "accuracy": [{"metric": "acc", "reference": None, "target": 80}],
        "performance_sample_count": 500,
        "test": {"min_duration_ms": 300},
        "expected_s": {"accuracy": 2},
        "reference": {
            "folder": "vision",
            "paths": ["vision", "README.md"],
            "links": ["settings.json"],
            "backends": {"numpy": {"model": "model", "devices": {"cpu": {"environment": LOCK}}}},
            "values": {"batch_size": 16},
            "command": [*command, *([f"--flavour={flavour}"] if flavour != name else [])],
            "scenarios": {"SingleStream": {"arguments": ["--answer-bytes=2048"]}},
            "modes": {"performance": [], "accuracy": ["--accuracy"]},
            "accuracy": {"command": script},
            **changes,
        },
    }


@dataclass(frozen=True)
class Place:
    """The stand-in's repository and commit, a catalog of the lab's own, a controller's home."""

    upstream: Path
    commit: str
    catalog: Path
    env: dict[str, str]
    accuracy: float

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that every call has."""
        return {
            "implementation": "reference",
            "benchfleet_catalog_path": str(self.catalog),
            "benchfleet_inference_repo": str(self.upstream),
            "benchfleet_accuracy_log_max_mb": 1,
            **TARGETS,
        }

    @property
    def store(self) -> Path:
        """The controller's store."""
        return Path(self.env["HOME"]) / ".cache" / "benchfleet"


def place(folder: Path, env: dict[str, str]) -> Place:
    """Make the repository, and a catalog with `standin` (patched), `standin-tokens`,
    `standin-broken` and `standin-lost`, whose commit does not exist."""
    catalog = folder / "catalog"
    for part in ("benchmarks", "data", "patches"):
        (catalog / part).mkdir(parents=True)
    commit = repository(folder / "inference")
    accuracy = model(catalog / "data" / "model.npz")
    harness = folder / "inference" / MAIN
    before = harness.read_text()
    harness.write_text(before.replace(SAYS, PATCHED))
    (catalog / "patches" / PATCH).write_text(git(folder / "inference", "diff"))
    harness.write_text(before)
    made = Place(folder / "inference", commit, catalog, env, accuracy)
    tokens = [{"metric": "ROUGE1", "reference": None, "target": 80}]
    tokens += [{"metric": "TOKENS_PER_SAMPLE", "reference": None, "target": 3, "upper": 3}]
    add(made, "standin", patches=[{"file": PATCH, "because": "to be seen"}])
    script = benchmark("standin", catalog / "data" / "model.npz")
    dtype = [*script["reference"]["accuracy"]["command"], "--dtype={token_dtype}"]
    add(made, "standin-tokens", tokens, accuracy={"command": dtype})
    add(made, "standin-broken")
    add(made, "standin-lost", commit="f" * 40)
    return made


def add(place: Place, name: str, scores: list[Any] | None = None, **changes: Any) -> None:
    """Add a benchmark to the lab's catalog."""
    changes = {"commit": place.commit, **changes}
    made = benchmark(name, place.catalog / "data" / "model.npz", **changes)
    if scores:
        made["accuracy"] = scores
    if name == "standin":
        made["scenarios"] = ["SingleStream", "Offline"]
    (place.catalog / "benchmarks" / f"{name}.yml").write_text(json.dumps(made))
