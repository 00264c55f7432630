"""This machine as the SUT: a home of the session's own, provisioned by the first call."""

from __future__ import annotations

import atexit
import functools
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from fleet import QUICK, Controller, Done
from tree import controller_environment, root

INVENTORY = root() / "inventories" / "localhost.ini"


@functools.cache
def home() -> Path:
    """Home folder of the SUT's user and of the controller, for this session."""
    folder = Path(tempfile.mkdtemp(prefix="benchfleet-local-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def environment() -> dict[str, str]:
    """Environment of the controller; its custom stats are printed."""
    return controller_environment(home()) | {"ANSIBLE_SHOW_CUSTOM_STATS": "1"}


class Local(Controller):
    """A person at a terminal of the SUT itself."""

    def __init__(self, folder: Path, env: dict[str, str] | None = None) -> None:
        super().__init__(env or environment(), folder)

    def play(self, book: str, *words: str, **request: Any) -> Done:
        """Run a playbook of the root with `request` over QUICK; None takes an option away."""
        asked = {k: v for k, v in {**QUICK, **request}.items() if v is not None}
        extra = ["-e", json.dumps(asked)] if asked else []
        done = subprocess.run(
            ["ansible-playbook", str(root() / f"{book}.yml"), "-i", str(INVENTORY), *words, *extra],
            cwd=self.folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def bench(self, *words: str, **request: Any) -> Done:
        """Run run_benchmark.yml."""
        return self.play("run_benchmark", *words, **request)

    def cells(self) -> dict[str, dict[str, Any]]:
        """Return the outcomes of the latest request: `benchmark/scenario/mode` -> outcome."""
        return {f"{o['benchmark']}/{o['scenario']}/{o['mode']}": o for o in self.outcomes()}

    def states(self) -> dict[str, str]:
        """Return the same with the bare outcome of each."""
        return {name: cell["outcome"] for name, cell in self.cells().items()}


def why(cell: dict[str, Any]) -> str:
    """All reasons of an outcome in one text."""
    return "; ".join(reason["what"] for reason in cell["reasons"])


def on_sut(run_id: str) -> Path:
    """A run's directory on the SUT."""
    (found,) = (home() / ".benchfleet" / "hosts").glob(f"*/runs/{run_id}")
    return found
