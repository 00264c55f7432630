# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Locked environments. The Pythons, pip and uv here are simulators: shell scripts that answer what
they are asked and print what the real ones were seen to print."""

from __future__ import annotations

import json
import os
import platform
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils import python_env
from ansible_collections.benchfleet.mlperf.plugins.module_utils.host_store import HostError
from ansible_collections.benchfleet.mlperf.plugins.module_utils.python_env import (
    commands,
    installer,
)
from ansible_collections.benchfleet.mlperf.plugins.modules import python_env as module

ROOT = Path(__file__).parents[2]
LOCKS = sorted((ROOT / "roles").glob("*/files/requirements/*.txt"))
INDEX = "https://download.example.org/whl/cpu"
# Answers what a Python is asked: what it can do, to make an environment, to be its pip.
PYTHON = """#!/bin/sh
case "$*" in
  *sysconfig*) echo /nowhere;;
  *importlib.metadata*) echo 6.0.17;;
  *"import mlperf_loadgen") ;;
  "-I -c "*) printf '3\\t11\\t%s\\tTrue\\tTrue\\tTrue\\n' "$0";;
  "-m venv "*) for last; do :; done; mkdir -p "$last/bin" && cp "$0" "$last/bin/python";;
  *"-m pip "*" wheel "*)
    while [ "$1" != -w ]; do shift; done; mkdir -p "$2" && touch "$2/lg-1.whl";;
  *"-m pip "*" install "*) echo "index: $PIP_INDEX_URL"; PIP;;
esac
"""
UV = """#!/bin/sh
case "$*" in
  --version) echo "uv VERSION (x86_64)";;
  "venv "*) for last; do :; done; mkdir -p "$last/bin" && cp "$4" "$last/bin/python";;
  *) env | grep -E "^(UV_|ALL_PROXY|SSL_CERT_FILE)" | sort; PIP;;
esac
"""
HASHES = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE. If you have"


def script(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def python(folder: Path, pip: str = "exit 0", version: str = "11") -> str:
    text = PYTHON.replace("PIP;;", f"{pip};;").replace("3\\t11", f"3\\t{version}")
    return script(folder / "python 3", text)


@pytest.fixture(autouse=True)
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without uv and without settings of pip, whatever this one has."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'uv'}:/usr/bin:/bin")
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("XDG_CONFIG_DIRS", str(tmp_path / "xdg"))
    for name in os.environ:
        if name.startswith(("PIP_", "UV_")) or name == "SSL_CERT_FILE":
            monkeypatch.delenv(name)


def uv(folder: Path, pip: str = "exit 0", version: str = "0.9.1") -> str:
    return script(folder / "uv" / "uv", UV.replace("PIP;;", f"{pip};;").replace("VERSION", version))


def spec(path: str, **changes: Any) -> python_env.Spec:
    requirements = {
        "loadgen.txt": "mlcommons-loadgen==1 \\\n    --hash=sha256:1\n",
        "run.txt": "numpy==2 \\\n    --hash=sha256:2\n",
    }
    wheels = [os.uname().machine]
    given = {"name": "e1", "requirements": requirements, "loadgen": "loadgen.txt", "wheels": wheels}
    return python_env.Spec(**(given | {"python": path} | changes))


def elsewhere(path: str, **changes: Any) -> python_env.Spec:
    """An environment with one package of an index of its own and one built from source."""
    text = (
        f"# Index: {INDEX} for torch\n# Built from source: rouge\n"
        "numpy==2 \\\n    --hash=sha256:2\nrouge==1 \\\n    --hash=sha256:3\n    # via x\n"
        "torch==2.13.0+cpu \\\n    --hash=sha256:4\n"
    )
    return spec(path, requirements={"run.txt": text}, loadgen="", **changes)


def log_of(home: Path) -> str:
    return (home / "logs" / "env-e1.log").read_text()


def commands_of(home: Path) -> list[str]:
    return [line for line in log_of(home).splitlines() if line.startswith("$")]


def fault(home: Path, wanted: python_env.Spec) -> str:
    with pytest.raises(HostError) as caught:
        python_env.build(str(home), wanted)
    assert not python_env.ready(str(home), wanted)
    return str(caught.value)


def test_an_environment_is_built_once_from_its_locks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    wanted = spec(python(tmp_path / "bin"), environment={"PIP_INDEX_URL": "https://index"})
    assert python_env.missing_packages(wanted) == []
    assert python_env.build(str(home), wanted) is True
    assert python_env.ready(str(home), wanted)
    log = log_of(home)
    assert "--no-deps --require-hashes --only-binary :all: -r" in log
    assert "loadgen.txt" in log
    assert "index: https://index" in log
    assert python_env.build(str(home), wanted) is False
    facts = python_env.facts(str(home), "e1")
    assert (facts["path"], facts["loadgen"]) == (str(home / "envs" / "e1"), "6.0.17")
    assert not (home / "envs" / ".tmp").exists()


def test_an_environment_that_holds_something_else_is_built_anew(tmp_path: Path) -> None:
    home, path = str(tmp_path / "home"), python(tmp_path / "bin")
    python_env.build(home, spec(path))
    other = spec(path, requirements={"loadgen.txt": "mlcommons-loadgen==2 \\\n    --hash=x\n"})
    assert python_env.build(home, other) is True
    assert python_env.build(home, other) is False


def test_an_environment_whose_python_is_gone_is_built_anew(tmp_path: Path) -> None:
    home, wanted = str(tmp_path / "home"), spec(python(tmp_path / "bin"))
    python_env.build(home, wanted)
    Path(python_env.facts(home, "e1")["python"]).unlink()
    assert python_env.build(home, wanted) is True


def test_loadgen_is_built_from_source_where_no_wheel_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    home = tmp_path / "home"
    wanted = spec(python(tmp_path / "bin"), wheels=["aarch64"])
    assert python_env.build(str(home), wanted) is True
    install, wheel, last = [x for x in commands_of(home) if "-m pip" in x]
    assert "loadgen.txt" not in install
    assert "--require-hashes --no-binary mlcommons-loadgen" in wheel
    assert "--no-index --no-deps" in last
    assert last.endswith("loadgen-cp311-aarch64/lg-1.whl")
    assert python_env.missing_packages(wanted), "a compiler and headers are needed"
    python_env.build(str(home), spec(python(tmp_path / "bin"), wheels=[], name="e2"))
    assert " wheel " not in (home / "logs" / "env-e2.log").read_text()


def test_a_machine_without_wheels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"loadgen\.txt, run\.txt exist for s390x only; this host"):
        python_env.missing_packages(spec(python(tmp_path / "bin"), wheels=["s390x"]))


def test_loadgen_of_the_labs_own_sources_is_built_once_for_each_content(tmp_path: Path) -> None:
    home, source = tmp_path / "home", tmp_path / "sources"
    source.mkdir()
    (source / "setup.py").write_text("one")
    source.chmod(0o555)
    wanted = spec(python(tmp_path / "bin"), loadgen_source=str(source))
    assert python_env.build(str(home), wanted) is True
    assert [p.name for p in source.iterdir()] == ["setup.py"]
    assert python_env.build(str(home), wanted) is False
    (source / "setup.py").write_text("two")
    assert python_env.build(str(home), wanted) is True
    kept = sorted((home / "wheels").iterdir())
    assert [len(list(p.iterdir())) for p in kept] == [1, 1]
    assert all(re.fullmatch(r"loadgen-[0-9a-f]{12}-cp311-\w+", p.name) for p in kept)
    (source / "setup.py").unlink()
    with pytest.raises(HostError, match=r"does not hold LoadGen's sources \(no setup\.py\)"):
        python_env.ready(str(home), wanted)


def test_an_environment_waits_for_the_sources_that_a_plan_names(tmp_path: Path) -> None:
    home, digest = tmp_path / "home", "ab" * 32
    given = spec(python(tmp_path / "bin"), loadgen_source=digest)
    env = {k: getattr(given, k) for k in ("name", "requirements", "loadgen", "wheels")}
    planned = python_env.Spec.planned(
        str(home), env | {"loadgen_source": digest}, python=given.python
    )
    assert planned.loadgen_source is not None
    assert planned.loadgen_source.startswith(str(home))
    assert python_env.waiting(str(home), [planned]) == [planned]
    source = Path(planned.loadgen_source)
    source.mkdir(parents=True)
    (source / "setup.py").write_text("one")
    assert python_env.waiting(str(home), [planned]) == [planned]
    assert python_env.build(str(home), planned) is True
    assert python_env.waiting(str(home), [planned]) == []
    (source / "setup.py").unlink()
    source.rmdir()  # the store was tidied up
    assert python_env.waiting(str(home), [planned]) == [planned]
    plain = python_env.Spec.planned(str(home), env, python=given.python)
    assert plain.loadgen_source is None


def test_uv_installs_where_a_host_has_it_from_the_index_that_pip_is_told(tmp_path: Path) -> None:
    home, program = tmp_path / "home", uv(tmp_path)
    given = {
        "PIP_INDEX_URL": "https://me:secret@index/simple",
        "PIP_EXTRA_INDEX_URL": "https://two https://three",
        "PIP_CERT": "/ca.pem",
        "PIP_PROXY": "http://proxy:3128",
    }
    python_env.build(str(home), spec(python(tmp_path / "bin"), environment=given))
    make, install, _look = commands_of(home)
    assert make.startswith(f"$ {program} venv --no-config --python ")
    assert install.startswith(f"$ {program} pip install --python {home}/envs/e1/bin/python ")
    assert "--no-deps --require-hashes --only-binary :all: -r" in install
    assert log_of(home).splitlines()[2:8] == [
        "ALL_PROXY=http://proxy:3128",
        "SSL_CERT_FILE=/ca.pem",
        "UV_DEFAULT_INDEX=https://***@index/simple",
        "UV_INDEX=https://two https://three",
        "UV_NO_CONFIG=1",
        "UV_NO_PROGRESS=1",
    ]


def test_uv_takes_the_index_of_pips_configuration_files(tmp_path: Path) -> None:
    folder = tmp_path / "xdg" / "pip"
    folder.mkdir(parents=True)
    (folder / "pip.conf").write_text(
        "[global]\nindex-url = https://conf\nfind-links =\n  /a\n  /b\n[install]\nindex-url = https://i"
    )
    found = installer.Uv("uv", python_env.interpreters(python(tmp_path / "bin"))[0], tmp_path)
    settings = found.environment({"UV_CACHE_DIR": "/cache"})
    assert settings["UV_DEFAULT_INDEX"] == "https://i"
    assert settings["UV_FIND_LINKS"] == "/a,/b"
    assert settings["UV_CACHE_DIR"] == "/cache"
    assert found.environment({"UV_DEFAULT_INDEX": "https://own"})["UV_DEFAULT_INDEX"] == (
        "https://own"
    )
    assert installer.pip_settings({"PIP_CONFIG_FILE": os.devnull}) == {"config-file": os.devnull}


def test_an_old_uv_is_left_alone(tmp_path: Path) -> None:
    uv(tmp_path, version="0.4.30")
    assert installer.uv_program() is None
    uv(tmp_path, version="0.5.0")
    assert installer.uv_program() is not None


def test_uv_serves_a_host_whose_python_has_neither_venv_nor_pip(tmp_path: Path) -> None:
    bare = PYTHON.replace("True", "False")
    wanted = spec(script(tmp_path / "bin" / "python3", bare))
    assert python_env.missing_packages(wanted) != []
    uv(tmp_path)
    assert python_env.missing_packages(wanted) == []
    assert python_env.build(str(tmp_path / "home"), wanted) is True


@pytest.mark.parametrize("with_uv", [False, True])
def test_a_folder_of_wheels_replaces_every_index(tmp_path: Path, with_uv: bool) -> None:
    home = tmp_path / "home"
    if with_uv:
        uv(tmp_path)
    path = python(tmp_path / "bin")
    python_env.build(str(home), elsewhere(path, wheels_folder="/srv/wheels"))
    wheels, index, source = [x for x in commands_of(home) if " install " in x]
    for command in (wheels, index, source):
        assert "--no-index --find-links /srv/wheels" in command
        assert INDEX not in command
    assert "--no-build-isolation --no-binary rouge" in source


def test_each_part_of_a_lock_comes_from_its_place(tmp_path: Path) -> None:
    home = tmp_path / "home"
    python_env.build(str(home), elsewhere(python(tmp_path / "bin")))
    wheels, index, source = [x for x in commands_of(home) if " install " in x]
    assert f"--extra-index-url {INDEX} --only-binary :all: -r" in index
    assert INDEX not in wheels + source
    folder = home / "envs" / "e1" / "requirements"
    held = {p.name: p.read_text() for p in folder.iterdir()}
    assert held["run.index.txt"] == "torch==2.13.0+cpu \\\n    --hash=sha256:4\n"
    assert held["run.source.txt"].splitlines()[0] == "rouge==1 \\"
    assert "torch" not in held["run.wheels.txt"] + held["run.source.txt"]


def test_a_lab_with_an_index_of_its_own_is_sent_nowhere_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    absent = "ERROR: No matching distribution found for torch==2"
    pip = f'case "$*" in *index.txt) echo "{absent}"; exit 1; esac'
    wanted = elsewhere(python(tmp_path / "bin", pip), environment={"PIP_INDEX_URL": "https://mine"})
    said = fault(home, wanted)
    assert "the index has no file of torch==2 for this Python and machine." in said
    assert f"It is at {INDEX}: add that to benchfleet_pip_extra_index_urls." in said
    assert INDEX not in log_of(home)


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            [HASHES, "    six==1.17.0 from https://x#sha256=4:", "        Expected sha256 1"],
            "six==1.17.0 from the index is not the locked file (its sha256 differs)",
        ),
        (
            ["error: Failed to download `six==1.17.0`", "  cause: Hash mismatch for `six==1.17.0`"],
            "six==1.17.0 from the index is not the locked file",
        ),
        (
            ["ERROR: Ignored versions", "ERROR: No matching distribution found for pandas==1.5.3"],
            "the index has no file of pandas==1.5.3 for this Python and machine.",
        ),
        (
            ["  cause: Because pandas==1.5.3 has no usable wheels and you require pandas==1.5.3"],
            "the index has no file of pandas==1.5.3 for this Python and machine.",
        ),
        (
            ["  cause: Because there is no version of six==99.9 and you require six==99.9"],
            "the index has no file of six==99.9",
        ),
        (
            [
                "Looking in indexes: https://me:secret@pypi.corp/simple",
                "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError"
                "(Failed to establish a new connection: [Errno -2] Name or service not known)'",
                "ERROR: No matching distribution found for six==99.9",
            ],
            "no connection to pypi.corp; set benchfleet_proxy, or benchfleet_pip_index_url",
        ),
        (
            [
                "error: Request failed after 3 retries in 11.2s",
                "  cause: Failed to fetch: https://nowhere.invalid/simple/six/",
                "  cause: dns error",
            ],
            "no connection to nowhere.invalid;",
        ),
        (
            ["SSLError(HTTPSConnectionPool(host='pypi.org'): [SSL: CERTIFICATE_VERIFY_FAILED]"],
            "the certificate of pypi.org is not trusted here; set benchfleet_ca_bundle",
        ),
        (["OSError: [Errno 28] No space left on device", "  at x"], "the disk is full ("),
        (["ERROR: of a new kind", "note: see pip"], "ERROR: of a new kind"),
        (["fatal: broken"], "fatal: broken"),
        (["just words", "last words"], "last words"),
        ([], "no output."),
    ],
)
def test_a_failed_build_tells_the_reason_in_one_line(
    tmp_path: Path, said: list[str], line: str
) -> None:
    (tmp_path / "said").write_text("\n".join(said))
    home = tmp_path / "home"
    found = fault(
        home, spec(python(tmp_path / "bin", f"cat '{tmp_path}/said'; exit 1"), loadgen="")
    )
    expected = line.replace("no output.", "index:")  # what the simulator itself prints
    assert f"building the Python environment failed: {expected}" in found
    assert found.endswith(f"The whole output: {home}/logs/env-e1.log")
    assert "\n" not in found and "secret" not in found


def test_passwords_of_an_index_stay_out_of_arguments_and_log(tmp_path: Path) -> None:
    home = tmp_path / "home"
    pip = 'echo "argv: $*"; echo "ERROR: at $PIP_INDEX_URL and token $PIP_EXTRA_INDEX_URL"; exit 1'
    given = {
        "PIP_INDEX_URL": "https://me:s3cr@t@index/simple",
        "PIP_EXTRA_INDEX_URL": "https://ghp_token@other/simple",
    }
    said = fault(home, spec(python(tmp_path / "bin", pip), environment=given))
    for text in (said, log_of(home)):
        assert "://***@index/simple" in text and "://***@other/simple" in text
        assert not re.search(r"me:|s3cr|t@index|ghp_", text)


def test_an_installer_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    child = script(tmp_path / "child", "#!/bin/sh\nexec sleep 60\n")
    log = tmp_path / "log"
    log.touch()
    with log.open() as lock:
        runner = commands.Commands(log, tmp_path, lock.fileno(), limit_s=0.2)
        started = time.monotonic()
        with pytest.raises(HostError, match=r"failed: it took longer than 0\.00333333 minutes\."):
            runner.run(["/bin/sh", "-c", f"{child} & wait"], {})
    assert time.monotonic() - started < 5


def test_a_build_that_was_killed_is_begun_anew_and_not_beside_the_old_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    began, ended = tmp_path / "began", tmp_path / "ended"
    slow = python(tmp_path / "bin", f"touch '{began}'; sleep 1; touch '{ended}'")
    code = (
        "import sys, json; from ansible_collections.benchfleet.mlperf.plugins.module_utils import"
        " python_env as p; p.build(sys.argv[1], p.Spec(**json.loads(sys.argv[2])))"
    )
    wanted = spec(slow)
    argv = [sys.executable, "-c", code, str(home), json.dumps(vars(wanted))]
    above = {"PYTHONPATH": str(ROOT / "collections")}
    killed = subprocess.Popen(argv, env=os.environ | above, stderr=subprocess.DEVNULL)
    await_file(began)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not python_env.ready(str(home), wanted)
    (tmp_path / "bin" / "python 3").write_text(PYTHON.replace("PIP;;", "exit 0;;"))
    assert not ended.exists()
    assert python_env.build(str(home), wanted) is True
    assert ended.exists(), "the orphaned installer still wrote there"


def await_file(path: Path) -> None:
    end = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.01)


def test_a_python_without_a_pip_of_its_own_gives_the_environment_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    own = PYTHON.replace("\\tTrue\\n", "\\tFalse\\n").replace("PIP;;", ";;")
    python_env.build(str(home), spec(script(tmp_path / "bin" / "python3", own)))
    make, install, _look = commands_of(home)
    assert "--without-pip" not in make
    assert install.startswith(f"$ {home}/envs/e1/bin/python -I -m pip install")


def test_two_builders_of_one_environment_build_it_once(tmp_path: Path) -> None:
    home, wanted = str(tmp_path / "home"), spec(python(tmp_path / "bin", "sleep 0.2"))
    found: list[bool] = []
    builders = [
        threading.Thread(target=lambda: found.append(python_env.build(home, wanted)))
        for _ in range(2)
    ]
    for builder in builders:
        builder.start()
    for builder in builders:
        builder.join()
    assert sorted(found) == [False, True]


def test_a_failed_build_is_begun_anew(tmp_path: Path) -> None:
    home = str(tmp_path / "home")
    with pytest.raises(HostError):
        python_env.build(home, spec(python(tmp_path / "bin", "exit 1")))
    assert python_env.build(home, spec(python(tmp_path / "bin"))) is True


def test_a_loadgen_that_cannot_be_loaded_is_a_fault(tmp_path: Path) -> None:
    broken = PYTHON.replace("PIP;;", ";;").replace(
        '*"import mlperf_loadgen") ;;',
        '*"import mlperf_loadgen") echo "ImportError: GLIBC"; exit 1;;',
    )
    wanted = spec(script(tmp_path / "bin" / "python3", broken))
    assert "failed: ImportError: GLIBC" in fault(tmp_path / "home", wanted)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    text = "# Disk: 900000000 MB\nnumpy==2 \\\n    --hash=sha256:2\n"
    home = tmp_path / "home"
    said = fault(home, spec(python(tmp_path / "bin"), requirements={"a.txt": text}, loadgen=""))
    assert re.search(r"has \d+ MB free; the environment e1 takes about 900000000 MB", said)
    assert [p.name for p in home.rglob("*") if p.is_file()] == [".lock"]


def test_a_lock_for_older_pythons_says_so(tmp_path: Path) -> None:
    text = "# Python: 3.9 to 3.11\nnumpy==2 \\\n    --hash=sha256:2\n"
    wanted = spec(python(tmp_path / "bin", version="12"), requirements={"a.txt": text}, loadgen="")
    with pytest.raises(
        HostError, match=r"a\.txt need Python 3\.9 to 3\.11 and this host has 3\.12"
    ):
        python_env.missing_packages(wanted)
    later = spec(wanted.python, requirements={"a.txt": text.replace("to 3.11", "and later")})
    assert python_env.missing_packages(later) == []


def test_a_named_python_that_does_not_run() -> None:
    with pytest.raises(HostError, match="benchfleet_python=/nowhere/python does not run"):
        python_env.missing_packages(spec("/nowhere/python"))


def test_an_interpreter_without_venv_comes_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, able in (("python3.13", "False"), ("python3.12", "True")):
        minor = name.rpartition(".")[2]
        answer = f"3\\t{minor}\\t{tmp_path / name}\\t{able}\\t{able}\\t{able}\\n"
        script(tmp_path / name, f"#!/bin/sh\nprintf '{answer}'\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = python_env.interpreters("auto")
    assert [i.version for i in found] == [(3, 12), (3, 13)]
    (tmp_path / "python3.12").unlink()
    assert python_env.missing_packages(spec("auto")) != []
    (tmp_path / "python3.13").unlink()
    assert python_env.interpreters("auto") == []
    assert any("python" in name for name in python_env.missing_packages(spec("auto")))


@pytest.mark.parametrize("path", LOCKS, ids=lambda p: p.name)
def test_the_header_of_a_lock_fits_its_packages(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    lock = python_env.read(text)
    names = set(re.findall(r"^([a-z0-9._-]+)==", text, re.M))
    parts = lock.parts()
    assert sum(len(re.findall(r"^\S+==", part, re.M)) for part in parts.values()) == len(
        re.findall(r"^\S+==", text, re.M)
    )
    assert set(lock.indexed) | set(lock.from_source) <= names
    assert bool(lock.index) == bool(lock.indexed) == ("+cpu" in text.partition("==")[2])
    assert not lock.from_source or {"setuptools", "wheel"} <= names
    assert (3, 9) <= lock.pythons[0] <= lock.pythons[1]
    assert "mlcommons-loadgen" not in names or path.parts[-4] == "loadgen"


def params(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    wanted = vars(spec(python(tmp_path / "bin"))) | {"home": str(tmp_path / "home")}
    plain = {"wheels_folder": "", "loadgen_source": "", "secrets": {}, "ca": None}
    return wanted | plain | changes


def test_the_module_builds_and_says_where(tmp_path: Path) -> None:
    result: dict[str, Any] = {}
    module._make(params(tmp_path, environment={"PIP_RETRIES": 1}), False, result)
    assert (result["changed"], result["built"], result["loadgen"]) == (True, True, "6.0.17")
    assert Path(result["python"]).exists() and Path(result["log"]).exists()
    module._make(params(tmp_path), False, result)
    assert (result["changed"], result["built"]) == (False, False)


def test_check_mode_of_the_module_says_what_would_be_and_writes_nothing(tmp_path: Path) -> None:
    result: dict[str, Any] = {}
    module._make(params(tmp_path), True, result)
    assert (result["changed"], result["built"], result["loadgen"]) == (True, False, "")
    assert not (tmp_path / "home").exists()
    module._make(params(tmp_path), False, {})
    module._make(params(tmp_path), True, result)
    assert result["changed"] is False
