"""One person, one machine: what can be asked for, and what comes of it."""

from __future__ import annotations

import re
import shutil
import sqlite3
import subprocess
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import models
import pytest
from fleet import Done, Run, snapshot
from local import Local, environment, home, on_sut, why
from tree import controller_environment, root

SCENARIOS = ("SingleStream", "MultiStream", "Offline", "Server")
# Targets that LoadGen meets at once: without them each cell costs a calibration.
EASY = {"scenario": "SingleStream", "mode": "performance", "target_latency": 0.005}


@pytest.fixture
def local(tmp_path: Path) -> Local:
    """A controller with a results folder of its own."""
    return Local(tmp_path / "controller")


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> tuple[Local, Done]:
    """The call with no more than the benchmark's name."""
    local = Local(tmp_path_factory.mktemp("everything"))
    return local, local.bench(scenario=None, mode=None)


def index(local: Local) -> list[Any]:
    with closing(sqlite3.connect(local.results / "index.sqlite")) as db:
        return db.execute("SELECT * FROM runs ORDER BY path").fetchall()


def test_every_scenario_and_mode(everything: tuple[Local, Done]) -> None:
    local, done = everything
    assert done.code == 0, done.text
    cells = local.cells()
    assert set(cells) == {f"digits/{s}/{m}" for s in SCENARIOS for m in ("performance", "accuracy")}
    for name, cell in cells.items():
        assert cell["outcome"] == "valid", (name, cell)
        assert not cell["submittable"]
        if name.endswith("accuracy"):
            assert cell["accuracy"]["acc"] >= 98.2
        else:
            assert cell["value"] > 0
    assert len(local.runs()) == 12
    assert all(run.complete() for run in local.runs())
    assert "CUSTOM STATS" in done.text
    assert "benchfleet" in done.text.partition("CUSTOM STATS")[2]


def test_performance_takes_the_target_of_its_calibration(everything: tuple[Local, Done]) -> None:
    runs = {run.path.name: run for run in everything[0].runs()}
    measured = [r for r in runs.values() if r.read("run.json")["cell"]["mode"] == "performance"]
    assert len(measured) == 4
    for run in measured:
        record = run.read("run.json")
        found = runs[record["calibration"]].read("calibration.json")
        assert record["target"] == found["target"], found


def test_the_second_call_does_nothing(everything: tuple[Local, Done]) -> None:
    local, _first = everything
    hosts = home() / ".benchfleet" / "hosts"
    before = snapshot(local.results), snapshot(hosts)
    for words in ((), ("--check",)):
        done = local.bench(*words, scenario=None, mode=None)
        assert done.code == 0, done.text
        assert done.recap["localhost"]["changed"] == 0, done.text
        assert "Start" not in done.tasks
    assert (snapshot(local.results), snapshot(hosts)) == before


def test_plan_and_check_touch_nothing(tmp_path: Path) -> None:
    bare = tmp_path / "home"
    bare.mkdir()
    local = Local(tmp_path / "controller", controller_environment(bare))
    for book, words in (("plan", ()), ("run_benchmark", ("--check",))):
        done = local.play(book, *words, scenario=None, mode=None)
        assert done.code == 0, done.text
        assert "8 cells on 1 SUT, 8 to do" in done.text
    assert not local.results.exists()
    assert {path.name for path in bare.iterdir()} <= {".ansible", ".config"}


def test_the_index_can_be_made_anew(everything: tuple[Local, Done]) -> None:
    local, _done = everything
    before, runs = index(local), snapshot(local.results / "runs")
    assert len(before) == 12
    (local.results / "index.sqlite").unlink()
    done = local.play("index", scenario=None, mode=None)
    assert done.code == 0, done.text
    assert index(local) == before
    assert snapshot(local.results / "runs") == runs


def test_launch_script_repeats_a_run(everything: tuple[Local, Done]) -> None:
    cell = everything[0].cells()["digits/Offline/accuracy"]
    folder = on_sut(Path(cell["run"]).name)
    before = snapshot(folder)
    done = subprocess.run(
        [folder / "launch.sh"],
        env=environment(),
        cwd="/",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (fresh,) = folder.parent.glob(f"{folder.name}.by-hand.*")
    assert (fresh / "accuracy.txt").read_text() == (folder / "accuracy.txt").read_text()
    assert snapshot(folder) == before


def test_rerun_is_a_new_attempt(local: Local) -> None:
    assert local.bench().code == 0
    (first,) = local.runs()
    before = snapshot(first.path)
    assert local.bench(rerun=True).code == 0
    old, new = local.runs()
    assert (old.path, snapshot(old.path)) == (first.path, before)
    assert new.read("run.json")["attempt"] == 2
    assert new.read("run.json")["digest"] == old.read("run.json")["digest"]
    assert local.states() == {"digits/Offline/accuracy": "valid"}
    assert local.outcomes()[0]["run"].endswith(new.path.name)


def test_debug_prepares_a_shell(local: Local) -> None:
    done = local.bench(debug=True)
    assert done.code == 0, done.text
    assert "PREPARED: localhost/digits/onnx/Offline/accuracy" in done.text
    assert not local.runs()
    commands = set(re.findall(r"bash --rcfile (\S+) -i", done.text))
    assert len(commands) == 1, done.text
    (shellrc,) = commands
    shell = subprocess.run(
        ["bash", "--rcfile", shellrc, "-i"],
        input="fc -s\npwd\nexit\n",
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "accuracy=" in shell.stdout, shell.stdout + shell.stderr
    assert str(Path(shellrc).parent) in shell.stdout
    assert (Path(shellrc).parent / "accuracy.txt").exists()


def test_calibrate_then_run(local: Local) -> None:
    asked = {"scenario": "SingleStream", "mode": "performance", "threads": 1}
    done = local.play("calibrate", **asked)
    assert done.code == 0, done.text
    assert local.states() == {"digits/SingleStream/calibration": "valid"}
    (found,) = local.runs()
    assert local.bench(**asked).code == 0
    (run,) = [run for run in local.runs() if run != found]
    assert run.read("run.json")["calibration"] == found.path.name
    assert run.read("run.json")["target"] == found.read("calibration.json")["target"]


def test_an_invalid_cell_leaves_the_others_alone(local: Local) -> None:
    done = local.bench(**EASY | {"scenario": ["Server", "SingleStream"]}, target_qps=100,
                       latency_limit=0.001)  # fmt: skip
    assert done.code == 2, done.text
    cells = local.cells()
    assert cells["digits/SingleStream/performance"]["outcome"] == "valid"
    bad = cells["digits/Server/performance"]
    assert bad["outcome"] == "invalid"
    assert "Performance constraints satisfied: NO" in why(bad)
    assert bad["reasons"][0]["what"] in done.text
    targets = [run.read("run.json")["target"] for run in local.runs()]
    assert {"target_qps": 100.0} in targets
    assert {"target_latency_ms": 0.005} in targets


# --- models and data of the user's own -------------------------------------------------------


def test_own_model_in_every_scenario(local: Local, tmp_path: Path) -> None:
    model = models.dense(tmp_path / "dense.onnx", (16, 4))
    done = local.bench(benchmark="custom", scenario=None, mode=None, model_path=str(model))
    assert done.code == 0, done.text
    states = local.states()
    for scenario in SCENARIOS:
        assert states[f"custom.dense/{scenario}/performance"] == "valid", done.text
        assert states[f"custom.dense/{scenario}/accuracy"] == "skipped"


def test_two_models_have_cells_of_their_own(local: Local, tmp_path: Path) -> None:
    paths = [
        models.dense(tmp_path / "wide.onnx", (64, 8)),
        models.dense(tmp_path / "fixed.onnx", (16, 4), batch=4),
    ]
    done = local.bench(**EASY, benchmark="custom", model_path=[str(p) for p in paths])
    assert done.code == 0, done.text
    assert set(local.states().items()) == {
        ("custom.wide/SingleStream/performance", "valid"),
        ("custom.fixed/SingleStream/performance", "valid"),
    }


def test_dynamic_axes_need_a_size(local: Local, tmp_path: Path) -> None:
    asked = EASY | {"benchmark": "custom", "model_path": str(models.sums(tmp_path / "sums.onnx"))}
    done = local.bench(**asked)
    assert done.code == 2, done.text
    (cell,) = local.outcomes()
    assert cell["outcome"] == "failed"
    assert "give its dynamic axes a size" in why(cell)
    done = local.bench(**asked, input_shapes={"ids": [1, 16]})
    assert done.code == 0, done.text
    assert local.states() == {"custom.sums/SingleStream/performance": "valid"}


def test_models_in_place_of_a_reference(local: Local, tmp_path: Path) -> None:
    corrupt = tmp_path / "corrupt.onnx"
    corrupt.write_bytes(b"\x08\x08" + b"\xff" * 500)
    paths = [
        models.digits_linear(tmp_path / "linear.onnx"),
        models.dense(tmp_path / "other.onnx", (64, 10)),
        corrupt,
    ]
    done = local.bench(model_path=[str(path) for path in paths])
    assert done.code == 2, done.text
    cells = {cell["benchmark"].partition(".")[2]: cell for cell in local.outcomes()}
    assert cells["linear"]["outcome"] == "valid"
    assert 0 <= cells["linear"]["accuracy"]["acc"] < 98
    assert cells["other"]["outcome"] == "failed"
    for difference in ("input 'image' is missing", "input 'x' is not in the reference",
                       "output 'logits' is missing", "output 'y' is not in the"):  # fmt: skip
        assert difference in why(cells["other"])
    assert cells["corrupt"]["outcome"] == "failed"
    assert "onnxruntime cannot open" in why(cells["corrupt"])


def test_request_file_and_dataset_folder(local: Local, tmp_path: Path) -> None:
    folder = tmp_path / "arrays"
    with zipfile.ZipFile(root() / "catalog" / "data" / "digits" / "digits.npz") as archive:
        archive.extractall(folder)
    request = tmp_path / "request.yml"
    request.write_text(
        f"benchmark: [digits]\nscenario: [MultiStream]\nmode: [accuracy]\ndataset_path: {folder}\n"
    )
    done = local.bench("-e", f"@{request}", scenario=None, mode=None)
    assert done.code == 0, done.text
    cell = local.cells()["digits/MultiStream/accuracy"]
    assert cell["accuracy"]["acc"] >= 98.2
    (run,) = local.runs()
    assert run.read("config.json")["dataset"] == str(folder)


def test_resnet50_with_a_stand_in(local: Local, tmp_path: Path) -> None:
    folder = tmp_path / "imagenet"
    folder.mkdir()
    labels = [i * 5 % 3 for i in range(64)]
    plane = 224 * 224
    images = b"".join(bytes([200 if c == k else 9]) * plane for k in labels for c in range(3))
    models.npy(folder / "input_tensor:0.npy", "|u1", [64, 3, 224, 224], images)
    models.npy(folder / "labels.npy", "|u1", [64], bytes(labels))
    done = local.bench(
        benchmark="resnet50",
        mode=None,
        model_path=str(models.colours(tmp_path / "colours.onnx")),
        dataset_path=str(folder),
    )
    assert done.code == 0, done.text
    cells = local.cells()
    assert cells["resnet50.colours/Offline/accuracy"]["accuracy"]["acc"] == 100
    assert cells["resnet50.colours/Offline/performance"]["outcome"] == "valid"


# --- commands before the harness -------------------------------------------------------------

PREFIXES = ("nice -n 1", "numactl --localalloc", "gdb -batch -ex run -ex bt --args")


@pytest.mark.parametrize("prefix", PREFIXES)
def test_run_prefix(local: Local, prefix: str) -> None:
    if not shutil.which(prefix.split()[0]):
        pytest.skip(f"{prefix.split()[0]} is not installed")
    done = local.bench(run_prefix=prefix)
    assert done.code == 0, done.text
    (run,) = local.runs()
    assert run.read("run.json")["prefix"] == prefix.split()


@pytest.mark.skipif(not shutil.which("gdb"), reason="gdb is not installed")
def test_a_debugger_without_a_terminal_is_a_failure_that_says_so(local: Local) -> None:
    done = local.bench(run_prefix="gdb --args")
    assert done.code == 2, done.text
    (cell,) = local.outcomes()
    assert cell["outcome"] == "failed"
    assert "debug=true" in "; ".join(f"{r['what']} {r['do']}" for r in cell["reasons"])
    assert Run(local.results / cell["run"]).complete()
