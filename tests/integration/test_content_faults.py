"""Harnesses that misbehave, full disks, runs that lie: nothing is lost, all is well after."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fleet import Run, snapshot, until
from local import Local, environment, home, on_sut, why
from tree import root

GOOD = 'exec "$@"\n'


@pytest.fixture
def local(tmp_path: Path) -> Local:
    """A controller with a results folder of its own."""
    return Local(tmp_path / "controller")


class Launcher:
    """A command before the harness whose behaviour can be changed while the request stays."""

    def __init__(self, folder: Path, script: str) -> None:
        self.path = folder / "launcher"
        self.say(script)

    def say(self, script: str) -> None:
        """Do this from now on; `"$@"` is the harness."""
        self.path.write_text(f"#!/bin/sh\n{script}")
        self.path.chmod(0o755)


def processes(argument: str) -> list[int]:
    """Pids of processes that have `argument` among their arguments."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if folder.name.isdigit() and argument.encode() in words:
            found.append(int(folder.name))
    return found


TRACEBACK = 'echo "Traceback (most recent call last):"; "$@"; exit 0\n'
HANG = "sleep 2718.25 & setsid sleep 2718.25 & trap '' TERM; wait; wait\n"
FAULTS = {
    "killed": ('"$@" & sleep 0.3; kill -9 $!; kill -9 $$\n', "killed by SIGKILL"),
    "hangs": (HANG, "still running at its limit of 4 s"),
    "traceback": (TRACEBACK, "printed an exception although it exited with 0"),
    "silent": ("exit 0\n", "is missing"),
    "fails": ('echo "no licence for this model"; exit 7\n', "no licence for this model"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_harness_that_fails(local: Local, tmp_path: Path, name: str) -> None:
    script, told = FAULTS[name]
    launcher = Launcher(tmp_path, script)
    asked: dict[str, Any] = {"run_prefix": str(launcher.path)}
    asked |= {"time_limit": 4} if name == "hangs" else {}
    done = local.bench(**asked)
    assert done.code == 2, done.text
    (cell,) = local.outcomes()
    assert cell["outcome"] == "failed"
    assert told in why(cell)
    assert told in done.text
    assert not processes("2718.25")
    (bad,) = local.runs()
    assert bad.complete()
    before = snapshot(bad.path)
    launcher.say(GOOD)
    done = local.bench(**{k: v for k, v in asked.items() if k != "time_limit"})
    assert done.code == 0, done.text
    assert local.states() == {"digits/Offline/accuracy": "valid"}
    old, new = local.runs()
    assert (old.path, snapshot(old.path)) == (bad.path, before)
    assert new.read("run.json")["attempt"] == 2


def test_one_killed_harness_leaves_the_other_cells_alone(local: Local, tmp_path: Path) -> None:
    # Only the measurement of SingleStream is killed.
    launcher = Launcher(tmp_path, f"grep -q SingleStream config.json && kill -9 $$\n{GOOD}")
    asked = {"scenario": ["SingleStream", "Offline"], "run_prefix": str(launcher.path)}
    done = local.bench(**asked)
    assert done.code == 2, done.text
    states = {"digits/SingleStream/accuracy": "failed", "digits/Offline/accuracy": "valid"}
    assert local.states() == states
    launcher.say(GOOD)
    assert local.bench(**asked).code == 0
    assert set(local.states().values()) == {"valid"}
    assert len(local.runs()) == 3


# --- a full disk -----------------------------------------------------------------------------


@pytest.fixture
def small_disk(local: Local) -> Iterator[Path]:
    """A file system of 24 MB where the SUT keeps its runs."""
    assert local.bench().code == 0  # the environment is there
    hosts = home() / ".benchfleet" / "hosts"
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m,mode=0700", "tmpfs", str(hosts)]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system needs root")
    yield hosts
    subprocess.run(["umount", "-l", str(hosts)], check=True)


def test_full_disk(local: Local, tmp_path: Path, small_disk: Path) -> None:
    filler = small_disk / "filler"
    launcher = Launcher(tmp_path, f"cat /dev/zero > {filler} 2>/dev/null\n{GOOD}")
    asked = {"scenario": ["Offline", "SingleStream"], "run_prefix": str(launcher.path)}
    earlier = snapshot(local.results / "runs")
    words = ("-e", "benchfleet_min_free_mb=1")
    done = local.bench(*words, **asked)
    assert done.code == 2, done.text
    assert set(local.states().values()) == {"failed"}
    assert "disk full" in done.text
    launcher.say(GOOD)
    assert local.bench(*words, **asked).code == 2  # still full: said again, nothing broken
    assert not [run for run in local.runs() if not run.complete()]
    filler.unlink()
    done = local.bench(*words, **asked)
    assert done.code == 0, done.text
    assert set(local.states().values()) == {"valid"}
    now = snapshot(local.results / "runs")
    assert {name: now.get(name) for name in earlier} == earlier


def test_too_little_space_is_said_before_the_run(local: Local, small_disk: Path) -> None:
    done = local.bench(rerun=True)
    assert done.code == 2, done.text
    (cell,) = local.outcomes()
    assert cell["outcome"] == "refused"
    assert "MB free in" in why(cell)
    assert "this run may need" in why(cell)


# --- runs that were changed after they were finished -----------------------------------------


@dataclass(frozen=True)
class Uncollected:
    """A finished run on the SUT that its controller has not seen, beside one that it has."""

    local: Local
    request: dict[str, Any]
    run: Path
    copy: Path
    collected: dict[str, tuple[str, int]]


@pytest.fixture(scope="module")
def uncollected(tmp_path_factory: pytest.TempPathFactory) -> Uncollected:
    """The run was made for a controller that is gone since."""
    folder = tmp_path_factory.mktemp("uncollected")
    other, local = Local(folder / "other"), Local(folder / "controller")
    request = {"scenario": "MultiStream", "batch_size": 3}
    done = other.bench(**request)
    assert done.code == 0, done.text
    (made,) = other.runs()
    assert local.bench().code == 0
    run = on_sut(made.path.name)
    copy = folder / "copy"
    shutil.copytree(run, copy, symlinks=True)
    return Uncollected(local, request, run, copy, snapshot(local.results / "runs"))


Change = Callable[[Path], None]


def claim(run: Path, name: str, size: int | None = None) -> None:
    """Enter a file into the manifest; with its own size and digest where it is there."""
    manifest = json.loads((run / "manifest.json").read_text())
    raw = (run / name).read_bytes() if size is None else b""
    manifest["files"][name] = {
        "sha256": hashlib.sha256(raw).hexdigest(),
        "size": len(raw) if size is None else size,
    }
    (run / "manifest.json").write_text(json.dumps(manifest))


def truncated(run: Path) -> None:
    os.truncate(run / "mlperf_log_detail.txt", 1000)


def altered(run: Path) -> None:
    log = run / "accuracy.txt"
    log.write_text(log.read_text().replace("9", "8"))


def climbing(run: Path) -> None:
    (run.parent / "stray").write_text("outside")
    claim(run, "../stray")


def absolute(run: Path) -> None:
    claim(run, "/etc/hostname")


def linked(run: Path) -> None:
    secret = run.parent / "secret"
    secret.write_text("secret")
    (run / "extra.txt").symlink_to(secret)
    claim(run, "extra.txt")


def bomb(run: Path) -> None:
    claim(run, "bomb", 1 << 45)


def swollen(run: Path) -> None:
    os.truncate(run / "console.log", 1 << 40)  # a sparse file far beyond its manifest


CHANGES: dict[Change, str] = {
    truncated: "mlperf_log_detail.txt",
    altered: "accuracy.txt",
    climbing: "`..` part",
    absolute: "is absolute",
    linked: "extra.txt",
    bomb: "has the size",
    swollen: "console.log",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_changed_run_is_refused(uncollected: Uncollected, change: Change) -> None:
    local, run = uncollected.local, uncollected.run
    change(run)
    try:
        done = local.bench(**uncollected.request)
    finally:
        shutil.rmtree(run)
        shutil.copytree(uncollected.copy, run, symlinks=True)
    assert done.code == 2, done.text
    (cell,) = local.outcomes()
    assert (cell["outcome"], cell["run"]) == ("failed", None)
    assert CHANGES[change] in why(cell)
    assert snapshot(local.results / "runs") == uncollected.collected
    assert not list(local.folder.rglob("stray"))
    size = sum(path.lstat().st_blocks * 512 for path in local.results.rglob("*"))
    assert size < 50_000_000


def test_the_run_is_collected_once_it_is_whole_again(uncollected: Uncollected) -> None:
    local = uncollected.local
    done = local.bench(**uncollected.request)
    assert done.code == 0, done.text
    assert local.states() == {"digits/MultiStream/accuracy": "valid"}
    now = snapshot(local.results / "runs")
    assert {name: now[name] for name in uncollected.collected} == uncollected.collected
    assert any(run.path.name == uncollected.run.name and run.complete() for run in local.runs())


def test_a_dead_controller_loses_nothing(local: Local, tmp_path: Path) -> None:
    launcher = Launcher(tmp_path, f"sleep 3\n{GOOD}")
    asked = {"run_prefix": str(launcher.path)}
    inventory = root() / "inventories" / "localhost.ini"
    call = local.start(inventory, **asked)
    for _look in until(60):
        if processes(str(launcher.path)):
            break
    call.kill(signal.SIGKILL)
    started = time.monotonic()
    done = local.bench(**asked)
    assert done.code == 0, done.text
    assert time.monotonic() - started < 60
    (run,) = local.runs()
    assert run.read("run.json")["attempt"] == 1
    assert Run(run.path).complete()
    assert environment()["HOME"] == str(home())
