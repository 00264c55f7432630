"""The implementation `reference`, from a git repository to assessed runs on a host.

A repository made of the folder standin takes the place of mlcommons/inference; all else is real:
git, delivery over ssh, LoadGen, the accuracy script, as a user who may not become root.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import upstream
from fleet import FIRST_PASS_S, Controller, Done, Run, snapshot
from lab import Lab
from local import why
from tree import controller_environment
from upstream import MAIN, PATCH, PATCHED, SCRIPT, Place, git

pytestmark = [pytest.mark.lab, pytest.mark.network]

HOST, USER = "sut2", "plain"
# Everything below a home with its size and time; no access times, which reading changes.
TREE = "find ~ -path ~/.ssh -prune -o -printf '%p %s %T@ %m\\n' | sort"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("reference")
    (folder / "home").mkdir()
    return upstream.place(folder, controller_environment(folder / "home"))


class Bench(Controller):
    """A person who runs the stand-in on one host of the lab."""

    def __init__(self, lab: Lab, place: Place, folder: Path) -> None:
        super().__init__(place.env, folder)
        self._inventory, self._place = lab.inventory(HOST, user=USER), place

    def bench(self, **request: Any) -> Done:
        """Run the main playbook."""
        asked = {**self._place.settings, "scenario": "all", "mode": "all", **request}
        return self.run(self._inventory, timeout=FIRST_PASS_S, **asked)

    def cells(self) -> dict[str, dict[str, Any]]:
        """Return the outcomes of the latest request: `benchmark/scenario/mode` -> outcome."""
        return {f"{o['benchmark']}/{o['scenario']}/{o['mode']}": o for o in self.outcomes()}

    def run_of(self, cell: str) -> Run:
        """Return the stored run of a cell of the latest request."""
        return Run(self.results / self.cells()[cell]["run"])


@dataclass(frozen=True)
class Passes:
    """Two calls that cannot get the source, what they left on the host, and one that can."""

    bench: Bench
    faults: tuple[Done, Done]
    left: tuple[str, str]
    first: Done


@pytest.fixture(scope="module")
def passes(lab: Lab, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Passes:
    bench = Bench(lab, place, tmp_path_factory.mktemp("controller"))
    before = lab.ssh(HOST, TREE, user=USER).stdout
    lost = bench.bench(benchmark="standin-lost", mode="accuracy")
    nowhere = {"benchfleet_inference_repo": "git://127.0.0.1:9/inference"}
    dead = bench.bench(benchmark="standin", mode="accuracy", **nowhere)
    left = lab.ssh(HOST, TREE, user=USER).stdout
    first = bench.bench(benchmark=["standin", "standin-tokens"])
    return Passes(bench, (lost, dead), (before, left), first)


def test_a_source_that_cannot_be_had_is_told_and_changes_nothing(
    passes: Passes, place: Place
) -> None:
    lost, dead = passes.faults
    assert (lost.code, dead.code) == (2, 2)
    assert f"{place.upstream} has no commit {'f' * 40}; fetch it there." in lost.text, lost.text
    assert "git://127.0.0.1:9/inference cannot be fetched" in dead.text, dead.text
    assert "Traceback" not in lost.text + dead.text
    assert passes.left[0] == passes.left[1]


def test_the_next_call_runs_everything(passes: Passes, place: Place) -> None:
    cells = passes.bench.cells()
    assert {name: cell["outcome"] for name, cell in cells.items()} == {
        "standin/SingleStream/performance": "valid",
        "standin/SingleStream/accuracy": "valid",
        "standin/Offline/performance": "valid",
        "standin/Offline/accuracy": "valid",
        "standin-tokens/Offline/performance": "valid",
        "standin-tokens/Offline/accuracy": "valid",
    }, passes.first.text
    assert passes.first.code == 0, passes.first.text
    assert cells["standin/Offline/accuracy"]["accuracy"] == {"acc": pytest.approx(place.accuracy)}
    assert cells["standin/Offline/performance"]["value"] > 0
    assert all(run.complete() for run in passes.bench.runs())


def test_command_settings_and_logs(passes: Passes, place: Place) -> None:
    run = passes.bench.run_of("standin/SingleStream/performance")
    record = run.read("run.json")
    source, digests = record["cell"]["recipe"]["source"], record["digests"]
    assert source["commit"] == place.commit
    tree = f"/home/{USER}/.benchfleet/artifacts/trees/{digests['tree'][:2]}/{digests['tree']}"
    words = record["argv"]
    assert words[1] == f"{tree}/{MAIN}"
    assert "--answer-bytes=2048" in words
    assert "--accuracy" not in words
    assert "--max-batchsize=16" in words
    assert "--count=500" in words
    assert record["env"]["PYTHONDONTWRITEBYTECODE"] == "1"
    assert record["env"]["PATH"].split(":")[0] == str(Path(words[0]).parent)
    assert "standin.SingleStream.target_latency = 0.5" in (run.path / "user.conf").read_text()
    names = {p.name for p in run.path.iterdir()}
    assert {"mlperf_log_summary.txt", "mlperf_log_detail.txt", "console.log", PATCH} <= names
    assert "settings.json" not in names
    assert "found in the working directory" in (run.path / "console.log").read_text()


def test_the_patch_is_recorded_and_applied_to_a_copy(
    passes: Passes, place: Place, lab: Lab
) -> None:
    run = passes.bench.run_of("standin/Offline/performance")
    (patch,) = run.read("run.json")["cell"]["recipe"]["source"]["patches"]
    text = (place.catalog / "patches" / PATCH).read_bytes()
    assert patch["sha256"] == hashlib.sha256(text).hexdigest()
    assert (run.path / PATCH).read_bytes() == text
    assert PATCHED in (run.path / "console.log").read_text()
    plain = passes.bench.run_of("standin-tokens/Offline/performance")
    assert PATCHED not in (plain.path / "console.log").read_text()
    assert plain.read("run.json")["digests"]["tree"] != run.read("run.json")["digests"]["tree"]
    assert git(place.upstream, "status", "--porcelain") == ""


def test_the_source_on_the_host_is_what_the_harness_needs_and_stays_clean(
    passes: Passes, place: Place, lab: Lab
) -> None:
    digest = passes.bench.run_of("standin-tokens/Offline/accuracy").read("run.json")["digests"]
    tree = f"~/.benchfleet/artifacts/trees/{digest['tree'][:2]}/{digest['tree']}"
    listing = lab.ssh(HOST, f"cd {tree} && find . -type f -printf '%P %m\\n'", user=USER).stdout
    assert dict(line.split() for line in listing.splitlines()) == {
        "README.md": "444",
        "vision/settings.json": "444",
        MAIN: "444",
        SCRIPT: "444",
    }
    sums = lab.ssh(HOST, f"cd {tree} && sha256sum {MAIN} {SCRIPT}", user=USER).stdout.split()
    for path, found in ((MAIN, sums[0]), (SCRIPT, sums[2])):
        assert found == hashlib.sha256((place.upstream / path).read_bytes()).hexdigest()


def test_tokens_are_read_as_wide_as_they_were_logged(passes: Passes) -> None:
    cell = passes.bench.cells()["standin-tokens/Offline/accuracy"]
    assert cell["accuracy"]["TOKENS_PER_SAMPLE"] == 3
    run = passes.bench.run_of("standin-tokens/Offline/accuracy")
    text = (run.path / "accuracy.txt").read_text()
    assert "np." not in text, text
    assert run.read("result.json")["accuracy_script"]["exit_code"] == 0


def test_a_large_accuracy_log_goes_home_as_its_ends(passes: Passes, lab: Lab) -> None:
    small = passes.bench.run_of("standin/Offline/accuracy")
    entries = json.loads((small.path / "mlperf_log_accuracy.json").read_text())
    assert len(entries) == 500
    assert "accuracy_log" not in small.read("result.json")
    run = passes.bench.run_of("standin/SingleStream/accuracy")
    whole = run.read("result.json")["accuracy_log"]
    assert whole["entries"] == 500
    assert whole["bytes"] > 1 << 20
    assert (run.path / "mlperf_log_accuracy.json").stat().st_size == 2 * 4096 + 7
    last = (run.path / "accuracy.txt").read_text().splitlines()[-1]
    assert last == f"hash={whole['sha256']}"
    kept = lab.ssh(HOST, f"sha256sum {whole['original']}", user=USER).stdout.split()[0]
    assert kept == whole["sha256"]


def test_the_second_call_changes_nothing(passes: Passes, place: Place, lab: Lab) -> None:
    bench = passes.bench
    before = snapshot(bench.results), snapshot(place.store), lab.ssh(HOST, TREE, user=USER).stdout
    done = bench.bench(benchmark=["standin", "standin-tokens"])
    assert done.code == 0, done.text
    assert done.recap[HOST]["changed"] == 0
    assert not {"Provision", "Start", "Gather"}.intersection(done.tasks)
    after = snapshot(bench.results), snapshot(place.store), lab.ssh(HOST, TREE, user=USER).stdout
    assert after == before


def test_a_traceback_is_a_failure_whatever_the_exit_code(
    lab: Lab, place: Place, tmp_path: Path
) -> None:
    bench = Bench(lab, place, tmp_path / "controller")
    done = bench.bench(benchmark="standin-broken")
    assert done.code == 2
    for mode in ("performance", "accuracy"):
        cell = bench.cells()[f"standin-broken/Offline/{mode}"]
        assert cell["outcome"] == "failed"
        assert "exited with 0 — RuntimeError: the stand-in lost its model" in why(cell)
        assert bench.run_of(f"standin-broken/Offline/{mode}").read("result.json")["exit_code"] == 0


def test_a_checkout_of_the_labs_own(passes: Passes, lab: Lab, place: Place, tmp_path: Path) -> None:
    own = tmp_path / "own"
    git(tmp_path, "clone", "-q", str(place.upstream), str(own))
    harness = own / MAIN
    harness.write_text(harness.read_text().replace("nearest mean image", "work of the lab's own"))
    before = passes.bench.run_of("standin/Offline/accuracy").read("run.json")
    bench = Bench(lab, place, tmp_path / "controller")
    asked = {"benchmark": "standin", "scenario": "Offline", "mode": "accuracy"}
    asked["source_override"] = str(own)
    done = bench.bench(**asked)
    assert done.code == 0, done.text
    run = bench.run_of("standin/Offline/accuracy")
    record = run.read("run.json")
    assert record["digest"] != before["digest"]
    assert record["digests"]["tree"] != before["digests"]["tree"]
    assert "work of the lab's own" in (run.path / "source.diff").read_text()
    assert PATCHED in (run.path / "console.log").read_text()
    stored = snapshot(bench.results)
    again = bench.bench(**asked)
    assert again.code == 0, again.text
    assert again.recap[HOST]["changed"] == 0, again.text
    assert snapshot(bench.results) == stored
    closed = bench.bench(**asked, division="closed")
    assert closed.code == 2
    assert "takes the round's own source only" in why(bench.outcomes()[0])
