"""A check that fails before anything is done, old runs that go, and a bundle for a bug report."""

from __future__ import annotations

import json
import socket
import tarfile
from pathlib import Path

import pytest
from fleet import snapshot
from local import Local, on_sut, why

TOO_MUCH = ("-e", "benchfleet_min_free_mb=999999999")


@pytest.fixture
def local(tmp_path: Path) -> Local:
    """A controller with a results folder of its own."""
    return Local(tmp_path / "controller")


def test_a_failed_check_refuses_before_anything_is_done(local: Local) -> None:
    done = local.bench(*TOO_MUCH, preflight_only=True, rerun=True)
    assert done.code == 2, done.text
    assert not {"Provision", "Start"}.intersection(done.tasks)
    assert "1 refused" in done.text
    (row,) = [line for line in done.text.splitlines() if line.startswith("localhost  disk")]
    assert "fail" in row and "benchfleet_home" in row
    assert not (local.results / "outcomes").exists(), "nothing was run"
    (report,) = (local.results / "preflight").glob("*.json")
    checks = json.loads(report.read_text())["hosts"]["localhost"]["checks"]
    assert {c["name"] for c in checks} >= {"disk", "clock", "logout"}
    done = local.bench(*TOO_MUCH, rerun=True)
    assert done.code == 2, done.text
    (cell,) = local.outcomes()
    assert cell["outcome"] == "refused"
    assert "disk:" in why(cell)
    assert not local.runs()


def test_a_ready_host_is_said_to_be_ready(local: Local) -> None:
    done = local.bench(preflight_only=True, rerun=True)
    assert done.code == 0, done.text
    assert "the host is ready" in done.text
    assert not local.runs()


def test_old_runs_go_and_a_bundle_holds_the_rest(local: Local) -> None:
    for again in (False, True):
        done = local.bench(rerun=again)
        assert done.code == 0, done.text
    old, new = local.runs()
    before = snapshot(old.path)
    quiet = {"scenario": None, "mode": None}
    assert local.play("prune", **quiet).code == 2, "it was not said what may go"
    assert local.play("prune", **quiet, keeep=1).code == 2
    shown = local.play("prune", "--check", **quiet, keep=0)
    assert old.path.name in shown.text and on_sut(old.path.name).is_dir()
    done = local.play("prune", **quiet, keep=0)
    assert done.code == 0, done.text
    with pytest.raises(ValueError, match="not enough values"):
        on_sut(old.path.name)
    assert on_sut(new.path.name).is_dir()
    assert snapshot(old.path) == before, "the controller keeps its copy"
    done = local.play("prune", **quiet, keep=0, where="controller")
    assert done.code == 0, done.text
    assert [run.path for run in local.runs()] == [new.path]
    again_done = local.bench()
    assert again_done.recap["localhost"]["changed"] == 0, again_done.text
    done = local.play("support_bundle", **quiet)
    assert done.code == 0, done.text
    (bundle,) = (local.results / "support").glob("*.tar.gz")
    with tarfile.open(bundle) as archive:
        texts = {m.name: archive.extractfile(m).read().decode() for m in archive.getmembers()}
    assert any(name.endswith("run.json") for name in texts)
    assert socket.gethostname() not in "\n".join([*texts, *texts.values()])
