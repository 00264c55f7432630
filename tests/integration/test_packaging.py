"""One tree works in the three ways in which people get it, with each supported ansible-core."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
import tree
from tree import controller_environment, copy

# ansible-core 2.20 and later want Python 3.12; each core and each Python is there, not each pair.
CONTROLLERS = (
    ("3.11", "2.18"),
    ("3.11", "2.19"),
    ("3.12", "2.19"),
    ("3.12", "2.20"),
    ("3.12", "2.21"),
    ("3.13", "2.18"),
    ("3.13", "2.21"),
)
PLAYBOOK = "benchfleet.mlperf.run_benchmark"
SCENARIOS = ("SingleStream", "MultiStream", "Offline", "Server")
SHORT_CELL = ("-e", "scenario=Offline", "-e", "mode=accuracy")
NEVER_SHIPPED = (
    "collections/ansible_collections",
    "playbooks/collections",
    "tests/",
    ".ci/",
    "results/",
)


@dataclass(frozen=True)
class Controller:
    """A virtual environment with ansible-core and a private home."""

    folder: Path
    env: dict[str, str]

    def run(self, *words: str, cwd: Path, timeout: float = 300) -> str:
        """Run one of the environment's programs; its stdout. Fails the test with all output."""
        argv = [str(self.folder / "bin" / words[0]), *words[1:]]
        done = subprocess.run(
            argv,
            cwd=cwd,
            env=self.env,
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(argv)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


def interpreter(version: str) -> str | None:
    """A Python of that version that runs here: pyenv's, then the one on PATH."""
    candidates = sorted((Path.home() / ".pyenv" / "versions").glob(f"{version}.*/bin/python"))
    check = f"import sys, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '{version}')"
    for candidate in [*map(str, reversed(candidates)), f"python{version}"]:
        try:
            done = subprocess.run([candidate, "-c", check], capture_output=True, check=False)
        except FileNotFoundError:
            continue
        if done.returncode == 0:
            return candidate
    return None


def controller(folder: Path, python: str, requirements: Sequence[str]) -> Controller:
    """Make a virtual environment with some requirements."""
    home = folder / "home"
    home.mkdir(parents=True)
    env = controller_environment(home)
    subprocess.run([python, "-m", "venv", str(folder / "venv")], check=True, env=env)
    env["PATH"] = f"{folder / 'venv' / 'bin'}{os.pathsep}{env['PATH']}"
    made = Controller(folder / "venv", env)
    made.run("python", "-m", "pip", "install", "-q", "--no-compile", *requirements, cwd=folder)
    return made


@pytest.fixture(scope="module")
def checkout_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A plain checkout, links included, that tests may write to."""
    return copy(tmp_path_factory.mktemp("checkout") / "benchfleet.mlperf", links=True)


@pytest.fixture(scope="module")
def wheel(checkout_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built with the test environment's hatchling."""
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(out)],
        cwd=checkout_copy,
        check=True,
        capture_output=True,
    )
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def artefact(checkout_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The collection's archive, as Galaxy gets it."""
    out = tmp_path_factory.mktemp("artefact")
    galaxy = Path(sys.executable).parent / "ansible-galaxy"
    env = controller_environment(tmp_path_factory.mktemp("home"))
    words = ["collection", "build", "--output-path", str(out)]
    subprocess.run([galaxy, *words], cwd=checkout_copy, env=env, check=True, capture_output=True)
    (built,) = out.glob("benchfleet-mlperf-*.tar.gz")
    return built


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder that is neither the checkout nor the environment, with an inventory."""
    (tmp_path / "lab.ini").write_text(
        "[suts]\nlocalhost ansible_connection=local "
        "ansible_python_interpreter='{{ ansible_playbook_python }}'\n"
    )
    return tmp_path


@pytest.fixture
def here(ansible_env: dict[str, str]) -> Controller:
    """The test environment itself as the controller."""
    return Controller(Path(sys.executable).parent.parent, ansible_env)


def plans_everything(made: Controller, playbook: str, cwd: Path, inventory: Path) -> None:
    """A check-mode run prints the table of all cells, and makes nothing where it stands."""
    before = sorted(cwd.iterdir())
    printed = made.run("ansible-playbook", "--check", playbook, "-i", str(inventory), cwd=cwd)
    rows = [line.split() for line in printed.splitlines() if line.startswith("localhost  digits")]
    assert [row[3:5] for row in rows] == [
        [scenario, mode] for scenario in SCENARIOS for mode in ("performance", "accuracy")
    ], printed
    assert "8 cells on 1 SUT, 8 to do" in printed
    assert sorted(cwd.iterdir()) == before


def shipped(names: Sequence[str]) -> None:
    """The archive holds what Ansible needs, and nothing else of the checkout."""
    inside = [name.split("ansible_collections/benchfleet/mlperf/")[-1] for name in names]
    assert {"README.md", "LICENSE", "meta/runtime.yml", "playbooks/run_benchmark.yml"} <= set(
        inside
    )
    assert any(name.startswith("catalog/rounds/") for name in inside)
    assert [name for name in inside if name.startswith(NEVER_SHIPPED)] == []
    assert [name for name in inside if name.endswith(".pyc")] == []


def test_wheel_holds_the_collection(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    shipped([name for name in names if name.startswith("ansible_collections/")])
    assert len(names) == len(set(names))
    expected = {
        name
        for name in tree.files()
        if name.startswith(("plugins/", "roles/", "playbooks/", "catalog/", "meta/"))
    }
    inside = {name.removeprefix("ansible_collections/benchfleet/mlperf/") for name in names}
    assert expected - inside == set()


def test_artefact_holds_the_collection(artefact: Path) -> None:
    listing = subprocess.run(
        ["tar", "-tzf", str(artefact)], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    shipped([name for name in listing if not name.endswith("/")])


def test_checkout_needs_no_installation(
    checkout_copy: Path, here: Controller, elsewhere: Path
) -> None:
    inventory = elsewhere / "lab.ini"
    for playbook in ("run_benchmark.yml", "playbooks/run_benchmark.yml"):
        plans_everything(here, playbook, checkout_copy, inventory)
        plans_everything(here, str(checkout_copy / playbook), elsewhere, inventory)


def test_galaxy_installation(artefact: Path, here: Controller, elsewhere: Path) -> None:
    target = elsewhere / "installed"
    here.run(
        *("ansible-galaxy", "collection", "install", "--offline", "-p", str(target)),
        str(artefact),
        cwd=elsewhere,
    )
    here.env["ANSIBLE_COLLECTIONS_PATH"] = str(target)
    listing = here.run(
        "ansible-galaxy", "collection", "verify", "--offline", "benchfleet.mlperf", cwd=elsewhere
    )
    assert "benchfleet.mlperf" in listing
    plans_everything(here, PLAYBOOK, elsewhere, elsewhere / "lab.ini")


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize(("version", "core"), CONTROLLERS)
def test_wheel_with_every_supported_controller(
    wheel: Path, elsewhere: Path, version: str, core: str
) -> None:
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    made = controller(elsewhere / "controller", python, [str(wheel), f"ansible-core=={core}.*"])
    assert f"core {core}." in made.run("ansible", "--version", cwd=elsewhere)
    plans_everything(made, PLAYBOOK, elsewhere, elsewhere / "lab.ini")
    assert "benchfleet.mlperf" in made.run("ansible-galaxy", "collection", "list", cwd=elsewhere)


@pytest.mark.network
@pytest.mark.slow
def test_wheel_runs_a_cell_from_any_folder(wheel: Path, elsewhere: Path) -> None:
    made = controller(elsewhere / "controller", sys.executable, [str(wheel)])
    work = elsewhere / "somewhere else"
    work.mkdir()
    words = ("ansible-playbook", PLAYBOOK, "-i", str(elsewhere / "lab.ini"), *SHORT_CELL)
    printed = made.run(*words, cwd=work)
    (run,) = (work / "results" / "runs").glob("localhost/digits/onnx/Offline/accuracy/*")
    result = json.loads((run / "result.json").read_text())
    assert (result["end"], result["exit_code"]) == ("exited", 0), printed
    assert "accuracy=" in (run / "accuracy.txt").read_text()
    assert json.loads((run / "manifest.json").read_text())["run_id"] == run.name
