# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host keeps: published atomically and verified; environments, with a made-up Python."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import host_store, python_env
from ansible_collections.benchfleet.mlperf.plugins.module_utils.host_store import HostError

FILES = [
    {"path": "a.py", "content": base64.b64encode(b"one\n").decode()},
    {"path": "sub/b.py", "content": base64.b64encode(b"\0two").decode()},
]
# Answers what a Python is asked: what it can do, to make an environment, to be its pip.
PYTHON = """#!/bin/sh
case "$*" in
  *sysconfig*) echo /nowhere;;
  "-I -c "*) printf '3\\t11\\t%s\\tTrue\\tTrue\\tTrue\\n' "$0";;
  "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python";;
  *"pip wheel"*) mkdir -p "${10}" && touch "${10}/mlcommons_loadgen-1.whl";;
  *"pip install"*) echo "index: $PIP_INDEX_URL"; PIP;;
esac
"""


def write(folder: Path, check: bool = False) -> bool:
    return host_store.write_files(str(folder), FILES, check)


def test_files_are_written_once_and_completely(tmp_path: Path) -> None:
    folder = tmp_path / "src" / "onnx-1"
    assert write(folder, check=True) is True
    assert list(tmp_path.iterdir()) == []
    assert write(folder) is True
    assert (folder / "a.py").read_bytes() == b"one\n"
    assert (folder / "sub" / "b.py").read_bytes() == b"\0two"
    assert (write(folder), write(folder, check=True)) == (False, False)
    assert not list(folder.parent.glob(".partial-*"))


def test_a_folder_that_is_not_complete_is_replaced(tmp_path: Path) -> None:
    folder = tmp_path / "onnx-1"
    write(folder)
    (folder / ".complete").unlink()
    (folder / "a.py").write_text("broken")
    assert write(folder) is True
    assert (folder / "a.py").read_bytes() == b"one\n"


def test_nothing_partial_stays_after_a_fault(tmp_path: Path) -> None:
    bad = [*FILES, {"path": "a.py/x", "content": ""}]
    with pytest.raises(OSError, match=r"a\.py"):
        host_store.write_files(str(tmp_path / "f"), bad, False)
    assert list(tmp_path.iterdir()) == []


def python(folder: Path, pip: str = "exit 0") -> str:
    folder.mkdir(exist_ok=True)
    path = folder / "python 3"
    path.write_text(PYTHON.replace("PIP;;", f"{pip};;"))
    path.chmod(0o755)
    return str(path)


def spec(path: str, **changes: Any) -> python_env.Spec:
    requirements = {"loadgen.txt": "mlcommons-loadgen==1", "run.txt": "numpy==2"}
    wheels = [os.uname().machine]
    given = {"name": "e1", "requirements": requirements, "loadgen": "loadgen.txt", "wheels": wheels}
    return python_env.Spec(**(given | {"python": path} | changes))


def log_of(home: Path) -> str:
    return (home / "logs" / "env-e1.log").read_text()


def test_an_environment_is_built_once_from_its_locks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    wanted = spec(python(tmp_path / "bin"), environment={"PIP_INDEX_URL": "https://index"})
    assert python_env.missing_packages(wanted) == []
    assert python_env.build(str(home), wanted) is True
    assert python_env.ready(str(home), "e1")
    log = log_of(home)
    assert "--require-hashes --only-binary :all: -r" in log
    assert "loadgen.txt" in log
    assert "index: https://index" in log
    assert python_env.build(str(home), wanted) is False


def test_loadgen_is_built_from_source_where_no_wheel_exists(tmp_path: Path) -> None:
    home = tmp_path / "home"
    wanted = spec(python(tmp_path / "bin"), wheels=["other"])
    assert python_env.build(str(home), wanted) is True
    install, wheel, last = [
        x for x in log_of(home).splitlines() if x.startswith("$") and "pip" in x
    ]
    assert "loadgen.txt" not in install
    assert "--no-binary mlcommons-loadgen" in wheel
    assert "--no-index --no-deps" in last
    assert last.endswith("mlcommons_loadgen-1.whl")
    assert python_env.missing_packages(wanted), "a compiler and headers are needed"


HASHES = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE."


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            ["Collecting numpy", "ERROR: No matching distribution", "note: see pip"],
            "ERROR: No match",
        ),
        ([HASHES, "    numpy from x:", "        Expected sha256 1"], HASHES),
        (["OSError: [Errno 28] No space left on device", "  at x"], "OSError: [Errno 28]"),
        (["fatal: no network"], "fatal: no network"),
        (["just words", "last words"], "last words"),
    ],
)
def test_a_failed_build_tells_pips_own_reason(tmp_path: Path, said: list[str], line: str) -> None:
    script = "; ".join(f"echo '{text}'" for text in said)
    wanted = spec(python(tmp_path / "bin", f"{script}; exit 1"))
    with pytest.raises(HostError) as caught:
        python_env.build(str(tmp_path / "home"), wanted)
    assert f"failed: {line}" in str(caught.value)
    assert str(tmp_path / "home" / "logs" / "env-e1.log") in str(caught.value)
    assert not python_env.ready(str(tmp_path / "home"), "e1")


def test_a_failed_build_is_begun_anew(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    with pytest.raises(HostError):
        python_env.build(home, spec(python(tmp_path / "bin", "exit 1")))
    assert python_env.build(home, spec(python(tmp_path / "bin"))) is True


def test_a_named_python_that_does_not_run() -> None:
    with pytest.raises(HostError, match="benchfleet_python=/nowhere/python does not run"):
        python_env.missing_packages(spec("/nowhere/python"))


def test_an_interpreter_without_venv_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, able in (("python3.13", "False"), ("python3.12", "True")):
        path = tmp_path / name
        minor = name.rpartition(".")[2]
        path.write_text(f"#!/bin/sh\nprintf '3\\t{minor}\\t{path}\\t{able}\\t{able}\\t{able}\\n'\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = python_env.interpreters("auto")
    assert [i.version for i in found] == [(3, 12), (3, 13)]
    (tmp_path / "python3.12").unlink()
    assert python_env.missing_packages(spec("auto")) != []
    (tmp_path / "python3.13").unlink()
    assert python_env.interpreters("auto") == []
    assert any("python" in name for name in python_env.missing_packages(spec("auto")))
