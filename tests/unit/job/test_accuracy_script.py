# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor with upstream's harnesses: links in the run directory, accuracy scripts, big logs.

Harness and script are a few lines of Python each; they measure nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import by_hand, records

# Writes what it sees: the links of its folder with what they hold.
SEEN = """
import json, os
found = {p: open(p).read() for p in ("settings.json", "deep/er/vocab.txt") if os.path.islink(p)}
open("seen.json", "w").write(json.dumps(found))
"""
# Writes an accuracy log of three answers with three 8-byte tokens each.
ANSWERS = """
import json
entry = {"seq_id": 0, "qsl_idx": 0, "data": "0A00000000000000" * 3, "token_count": 3}
open("mlperf_log_accuracy.json", "w").write(json.dumps([entry] * 3))
"""
PRINTS = "print(\"{'rouge1': np.float64(43.5)}\"); print('accuracy=99.000%, good=3, total=3')"


def python(code: str) -> list[str]:
    return [sys.executable, "-B", "-c", code]


def script(code: str, *words: str, **more: Any) -> dict[str, Any]:
    return {"argv": [*python(code), *words], "env": {}, "links": {}, **more}


@pytest.fixture(name="linked")
def _linked(tmp_path: Path) -> dict[str, str]:
    """Links to a read-only file of a source tree."""
    folder = tmp_path / "tree"
    folder.mkdir()
    (folder / "settings.json").write_text("settings")
    (folder / "vocab").write_text("words")
    return {
        "settings.json": str(folder / "settings.json"),
        "deep/er/vocab.txt": str(folder / "vocab"),
    }


def accuracy(host: Any, code: str = ANSWERS, **changes: Any) -> dict[str, Any]:
    cell = host.cell("x", mode="accuracy", argv=python(code), **changes)
    return dict(cell)


def only(host: Any, cell: dict[str, Any], **changes: Any) -> tuple[Path, dict[str, Any]]:
    """Run one cell; return its folder and result."""
    (run,) = host.run(cell, **changes)["runs"]
    return host.run_dir(run), host.result(run)


# --- links -----------------------------------------------------------------------------------


def test_links_are_there_only_while_the_harness_runs(host: Any, linked: dict[str, str]) -> None:
    folder, result = only(host, host.cell("x", argv=python(SEEN), links=linked))
    assert (result["end"], result["exit_code"]) == ("exited", 0)
    seen = json.loads((folder / "seen.json").read_text())
    assert seen == {"settings.json": "settings", "deep/er/vocab.txt": "words"}
    assert not [p for p in folder.rglob("*") if p.is_symlink()]
    assert Path(linked["settings.json"]).read_text() == "settings"
    assert json.loads((folder / "run.json").read_text())["links"] == linked


def test_links_go_when_the_harness_is_killed(host: Any, linked: dict[str, str]) -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    folder, result = only(host, host.cell("x", argv=python(code), links=linked))
    assert result["end"] == "signalled"
    assert not [p for p in folder.rglob("*") if p.is_symlink()]


def test_a_link_that_the_harness_replaced_stays_as_what_it_is(
    host: Any, linked: dict[str, str]
) -> None:
    code = "import os; os.remove('settings.json'); open('settings.json', 'w').write('mine')"
    folder, _result = only(host, host.cell("x", argv=python(code), links=linked))
    assert (folder / "settings.json").read_text() == "mine"
    assert Path(linked["settings.json"]).read_text() == "settings"


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out", ".hidden", ""])
def test_a_name_that_leads_out_is_refused_and_nothing_is_made(
    host: Any, linked: dict[str, str], name: str
) -> None:
    cell = host.cell("look", links={**linked, name: "/etc/passwd"})
    folder, result = only(host, cell)
    assert result["end"] == "refused"
    assert f"{name!r} is not a name for a link of a run" in result["reason"]
    assert not [p for p in folder.rglob("*") if p.is_symlink()]
    assert not (folder.parent / "out").exists()
    assert not (folder / "look.json").exists()


def test_a_link_in_the_place_of_an_input_is_an_error(host: Any, linked: dict[str, str]) -> None:
    cell = host.cell("look", links={**linked, "user.conf": "/etc/passwd"})
    folder, result = only(host, cell)
    assert result["end"] == "error"
    assert "File exists" in result["reason"]
    assert not [p for p in folder.rglob("*") if p.is_symlink()]


def test_launch_script_makes_the_links_anew(host: Any, linked: dict[str, str]) -> None:
    folder, _result = only(host, host.cell("x", argv=python(SEEN), links=linked))
    subprocess.run(["sh", str(folder / "launch.sh")], check=True, capture_output=True)
    (again,) = folder.parent.glob(f"{folder.name}.by-hand.*")
    assert (again / "seen.json").read_text() == (folder / "seen.json").read_text()
    assert (again / "settings.json").is_symlink()


def test_debug_makes_the_links(host: Any, linked: dict[str, str], tmp_path: Path) -> None:
    cell = host.cell("x", argv=python(SEEN), links=linked, folders=[str(tmp_path / "cache" / "x")])
    folder = by_hand.prepare(host.host_dir, cell)
    assert (tmp_path / "cache" / "x").is_dir()
    subprocess.run([folder / "launch.sh"], check=True, capture_output=True)
    assert json.loads((folder / "seen.json").read_text())["settings.json"] == "settings"
    other = tmp_path / "other"
    other.write_text("other")
    assert (
        by_hand.prepare(host.host_dir, {**cell, "links": {"settings.json": str(other)}}) == folder
    )
    assert (folder / "settings.json").read_text() == "other"
    with pytest.raises(ValueError, match="not a name for a link"):
        by_hand.prepare(host.host_dir, {**cell, "links": {"../out": "/etc/passwd"}})


def test_folders_are_kept_between_runs(host: Any, tmp_path: Path) -> None:
    cache = tmp_path / "cache" / "digits"
    code = f"import os; print(len(os.listdir({str(cache)!r}))); open({str(cache / 'x')!r}, 'w')"
    cells = [host.cell("x", name=n, argv=python(code), folders=[str(cache)]) for n in "ab"]
    runs = host.run(*cells)["runs"]
    assert [(host.run_dir(r) / "console.log").read_text() for r in runs] == ["0\n", "1\n"]


# --- accuracy scripts ------------------------------------------------------------------------


def test_a_script_reads_the_log_and_its_printout_is_kept(host: Any, linked: dict[str, str]) -> None:
    code = f"import os, sys; sys.stderr.write('warned\\n'); {PRINTS}; print(os.environ['WHO'])"
    own = {"vocab.txt": linked["deep/er/vocab.txt"]}
    code += "; print(open('vocab.txt').read(), open('settings.json').read(), *sys.argv[1:])"
    spec = script(code, "@run_dir@/mlperf_log_accuracy.json", env={"WHO": "@run_dir@"}, links=own)
    cell = accuracy(host, links={"settings.json": linked["settings.json"]}, accuracy=spec)
    folder, result = only(host, cell)
    assert (result["end"], result["exit_code"]) == ("exited", 0)
    assert (folder / "accuracy.txt").read_text().splitlines() == [
        "{'rouge1': 43.5}",
        "accuracy=99.000%, good=3, total=3",
        str(folder),
        f"words settings {folder}/mlperf_log_accuracy.json",
    ]
    assert (folder / "accuracy.log").read_text() == "warned\n"
    assert (folder / "console.log").read_text() == ""
    judged = result["accuracy_script"]
    assert (judged["end"], judged["exit_code"], judged["reason"]) == ("exited", 0, None)
    assert judged["elapsed_s"] > 0
    assert not [p for p in folder.rglob("*") if p.is_symlink()]
    record = json.loads((folder / "run.json").read_text())
    assert record["accuracy_script"]["argv"][0] == sys.executable


def test_the_script_is_told_the_width_of_the_tokens(host: Any) -> None:
    spec = script("import sys; print(sys.argv[1:])", "--dtype=@token_dtype@", "@token_dtype@")
    folder, _result = only(host, accuracy(host, accuracy=spec))
    assert (folder / "accuracy.txt").read_text() == "['--dtype=int64', 'int64']\n"


def test_a_log_without_tokens_is_an_error_where_they_are_asked_for(host: Any) -> None:
    code = "open('mlperf_log_accuracy.json', 'w').write('[]')"
    spec = script("print(1)", "@token_dtype@")
    folder, result = only(host, accuracy(host, code, accuracy=spec))
    assert (result["end"], result["exit_code"]) == ("error", 0)
    assert "mlperf_log_accuracy.json holds no answer with a token_count" in result["reason"]
    assert not (folder / "accuracy.txt").exists()


def test_no_log_at_all_is_an_error_that_names_it(host: Any) -> None:
    spec = script("print(1)", "@token_dtype@")
    _folder, result = only(host, accuracy(host, "pass", accuracy=spec))
    assert result["end"] == "error"
    assert "mlperf_log_accuracy.json" in result["reason"]


def test_a_failing_script_is_an_error_with_its_last_line(host: Any) -> None:
    code = "print('half'); raise KeyError('qsl_idx')"
    folder, result = only(host, accuracy(host, accuracy=script(code)))
    assert (result["end"], result["exit_code"]) == ("error", 0)
    assert result["reason"] == "the accuracy script failed: exit code 1 — KeyError: 'qsl_idx'"
    assert result["accuracy_script"]["exit_code"] == 1
    assert "Traceback" in (folder / "accuracy.log").read_text()
    assert (folder / "accuracy.txt").read_text() == "half\n"


def test_a_script_that_is_not_there(host: Any) -> None:
    spec = {"argv": ["/no/such/python"], "env": {}, "links": {}}
    _folder, result = only(host, accuracy(host, accuracy=spec))
    assert result["end"] == "error"
    assert "cannot start /no/such/python: No such file or directory" in result["reason"]


def test_a_script_that_hangs_is_ended_with_all_it_started(host: Any) -> None:
    code = "import subprocess, time; subprocess.Popen(['sleep', '77.125']); time.sleep(60)"
    cell = accuracy(host, accuracy=script(code), time_limit_s=1.5)
    _folder, result = only(host, cell)
    assert result["end"] == "error"
    assert "still running at its limit of 1.5 s" in result["reason"]
    assert result["accuracy_script"]["end"] == "timeout"
    listing = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True)
    assert "sleep 77.125" not in listing.stdout


def test_no_script_runs_after_a_harness_that_failed_or_only_measured(host: Any) -> None:
    spec = script("print(1)")
    failed = accuracy(host, "raise SystemExit(3)", accuracy=spec, name="failed")
    measured = host.cell("x", argv=python("pass"), accuracy=spec, name="measured")
    for run in host.run(failed, measured)["runs"]:
        assert not (host.run_dir(run) / "accuracy.txt").exists()
        assert "accuracy_script" not in host.result(run)
        assert (host.result(run)["exit_code"], run["mode"]) in [(3, "accuracy"), (0, "performance")]


def test_a_hostile_link_of_a_script_is_refused(host: Any) -> None:
    spec = script("print(1)", links={"../out": "/etc/passwd"})
    folder, result = only(host, accuracy(host, accuracy=spec))
    assert result["end"] == "refused"
    assert "'../out' is not a name for a link" in result["reason"]
    assert not (folder.parent / "out").exists()


# --- big logs --------------------------------------------------------------------------------

BIG = """
entry = '{ "seq_id" : 0, "qsl_idx" : 0, "data" : "%s" }' % ("0A" * 500)
open("mlperf_log_accuracy.json", "w").write("[\\n" + ",\\n".join([entry] * 100) + "\\n]\\n")
"""


def test_a_big_log_is_cut_after_its_script(host: Any) -> None:
    code = "import os; print('accuracy=1%', os.path.getsize('mlperf_log_accuracy.json'))"
    cell = accuracy(host, BIG, accuracy=script(code), log_limit=20_000)
    folder, result = only(host, cell)
    whole = result["accuracy_log"]
    assert whole["entries"] == 100
    original = Path(whole["original"])
    assert original.parent == host.host_dir / "originals" / folder.name
    assert hashlib.sha256(original.read_bytes()).hexdigest() == whole["sha256"]
    lines = (folder / "accuracy.txt").read_text().splitlines()
    assert lines == [f"accuracy=1% {whole['bytes']}", "", f"hash={whole['sha256']}"]
    assert (folder / "mlperf_log_accuracy.json").stat().st_size == 2 * 4096 + 7


def test_a_small_log_or_one_whose_script_failed_stays_whole(host: Any) -> None:
    small = accuracy(host, BIG, accuracy=script("print(1)"), log_limit=10**6, name="small")
    failed = accuracy(host, BIG, accuracy=script("exit(1)"), log_limit=20_000, name="failed")
    for run in host.run(small, failed)["runs"]:
        assert "accuracy_log" not in host.result(run)
        log = host.run_dir(run) / "mlperf_log_accuracy.json"
        assert len(json.loads(log.read_text())) == 100


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small file system needs root")
@pytest.mark.parametrize("what", ["printout", "harness"])
def test_a_disk_that_fills_up_meanwhile(tmp_path: Path, host: Any, what: str) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(small)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("no tmpfs can be mounted here")
    try:
        host.host_dir = small / "h1"
        spec = script("print('x' * 4_000_000)" if what == "printout" else "print(1)")
        code = ANSWERS if what == "printout" else ANSWERS + "print('x' * 4_000_000)"
        (run,) = host.run(accuracy(host, code, accuracy=spec, log_limit=100))["runs"]
        result = host.result(run)
        assert result["end"] == "error"
        assert result["reason"].startswith("disk full: ")
    finally:
        host.end()
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_links_are_checked_before_any_is_made(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match="not a name"),
        records.linked(tmp_path, {"good": "/x", "../bad": "/x"}),
    ):
        pytest.fail("not reached")
    assert list(tmp_path.iterdir()) == []
