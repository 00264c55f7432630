# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of an accuracy log where it lies, and how a big one is cut.

With a clone of mlcommons/inference the cut is compared with upstream's own tool:
BENCHFLEET_INFERENCE_REPO=<its path> pytest tests/unit/job/test_evaluation.py.
"""

from __future__ import annotations

import hashlib
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import evaluation
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.accuracy import parse_accuracy
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog

REPO = os.environ.get("BENCHFLEET_INFERENCE_REPO", "")
TOOL = "tools/submission/truncate_accuracy_log.py"


def entry(number: int, data: bytes, tokens: int | None = None) -> str:
    """One answer as LoadGen writes it."""
    count = f', "token_count" : {tokens}' if tokens is not None else ""
    start = f'{{ "seq_id" : {number}, "qsl_idx" : {number}, "data" : "'
    return f'{start}{data.hex().upper()}"{count} }}'


def write(folder: Path, entries: list[str]) -> Path:
    log = folder / evaluation.LOG
    log.write_text("[\n" + ",\n".join(entries) + "\n]\n")
    return log


def tokens(count: int, width: str) -> bytes:
    return struct.pack(f"<{count}{width}", *range(count))


# --- the width of a token --------------------------------------------------------------------


@pytest.mark.parametrize(("width", "name"), [("i", "int32"), ("q", "int64")])
@pytest.mark.parametrize("count", [1, 3, 1024])
def test_the_width_of_a_token_is_read_from_the_log(
    tmp_path: Path, width: str, name: str, count: int
) -> None:
    log = write(tmp_path, [entry(n, tokens(count, width), count) for n in range(3)])
    assert evaluation.token_dtype(log) == name


def test_answers_without_tokens_are_passed_over(tmp_path: Path) -> None:
    entries = [entry(0, b"", 0), entry(1, b"\1\2"), entry(2, tokens(5, "q"), 5)]
    assert evaluation.token_dtype(write(tmp_path, entries)) == "int64"


def test_only_the_beginning_of_a_log_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entries = [entry(n, tokens(9, "i"), 9) for n in range(1000)]
    monkeypatch.setattr(evaluation, "_HEAD", len(entries[0]) + 40)
    assert evaluation.token_dtype(write(tmp_path, entries)) == "int32"


def test_a_log_without_tokens_or_with_odd_ones_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(evaluation.LogFault, match="no answer with a token_count"):
        evaluation.token_dtype(write(tmp_path, [entry(0, b"\1\2\3\4")]))
    with pytest.raises(evaluation.LogFault, match="2 bytes for each token, 4 or 8 are known"):
        evaluation.token_dtype(write(tmp_path, [entry(0, bytes(6), 3)]))
    (tmp_path / evaluation.LOG).write_text("")
    with pytest.raises(evaluation.LogFault):
        evaluation.token_dtype(tmp_path / evaluation.LOG)


# --- what NumPy prints -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "{'rouge1': np.float64(43.0123), 'gen_len': np.int64(4016878), 'gen_num': 13368}",
            "{'rouge1': 43.0123, 'gen_len': 4016878, 'gen_num': 13368}",
        ),
        ("{'Total': np.float32(0.5425)}", "{'Total': 0.5425}"),
        ("{'a': numpy.float64(-1.5e-07)}", "{'a': -1.5e-07}"),
        ("x = np.float64(nan), np.float64(inf)", "x = nan, inf"),
        ("np.float64( 12 ) np.float16(.5)", "12 .5"),
        ("accuracy=76.456%, good=38228, total=50000", "accuracy=76.456%, good=38228, total=50000"),
        ("call np.mean(values) or np.array([1.0])", "call np.mean(values) or np.array([1.0])"),
    ],
)
def test_numbers_of_numpy_become_plain(tmp_path: Path, before: str, after: str) -> None:
    text = tmp_path / "accuracy.txt"
    text.write_text(f"first\n{before}\nlast\n")
    stamp = text.stat().st_mtime_ns
    evaluation.normalise(text)
    assert text.read_text() == f"first\n{after}\nlast\n"
    if before == after:
        assert text.stat().st_mtime_ns == stamp


def test_what_upstream_prints_has_every_figure_afterwards(tmp_path: Path) -> None:
    text = tmp_path / "accuracy.txt"
    text.write_text(
        "{'rouge1': np.float64(44.43), 'rouge2': np.float64(22.03), 'rougeL': np.float64(28.61),"
        " 'rougeLsum': np.float64(42.0), 'gen_len': np.int64(28124112), 'gen_num': 24576,"
        " 'tokens_per_sample': np.float64(294.4)}\n"
    )
    evaluation.normalise(text)
    assert "np." not in text.read_text()
    assert parse_accuracy(text.read_text()) == {
        "ROUGE1": 44.43,
        "ROUGE2": 22.03,
        "ROUGEL": 28.61,
        "ROUGELSUM": 42.0,
        "GEN_LEN": 28124112,
        "TOKENS_PER_SAMPLE": 294.4,
    }


def test_a_printout_of_no_encoding_is_no_crash(tmp_path: Path) -> None:
    text = tmp_path / "accuracy.txt"
    text.write_bytes(b"\xff {'rouge1': np.float64(1.5)}\n")
    evaluation.normalise(text)
    assert "'rouge1': 1.5" in text.read_text()


# --- a big log -------------------------------------------------------------------------------


def big(folder: Path, count: int = 400) -> Path:
    return write(folder, [entry(n, bytes([n % 251]) * 60) for n in range(count)])


@pytest.fixture(name="run")
def _run(tmp_path: Path) -> Path:
    """A run directory with a big log and a printout."""
    run = tmp_path / "runs" / "20260101T000000Z-0badcafe"
    run.mkdir(parents=True)
    big(run)
    (run / evaluation.TEXT).write_text("accuracy=76.456%, good=38228, total=50000\n")
    return run


def test_a_log_is_measured_in_one_pass(tmp_path: Path) -> None:
    log = big(tmp_path)
    content = log.read_bytes()
    assert evaluation.measure(log) == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "entries": 400,
    }


def test_entries_are_counted_over_the_borders_of_blocks(tmp_path: Path) -> None:
    block = 1 << 20
    mark = '"qsl_idx"'
    for shift in range(len(mark) + 2):
        log = tmp_path / evaluation.LOG
        log.write_text(f"{mark}{' ' * (block - 2 * len(mark) + shift)}{mark} {mark}")
        assert evaluation.measure(log)["entries"] == 3


def test_a_big_log_is_cut_and_its_original_kept(run: Path, tmp_path: Path) -> None:
    whole = (run / evaluation.LOG).read_bytes()
    found = evaluation.cut(run, tmp_path / "originals", 10_000)
    assert found is not None
    sha256 = hashlib.sha256(whole).hexdigest()
    kept = tmp_path / "originals" / run.name / evaluation.LOG
    assert found == {"sha256": sha256, "bytes": len(whole), "entries": 400, "original": str(kept)}
    assert kept.read_bytes() == whole
    assert (run / evaluation.LOG).read_bytes() == whole[:4096] + b"\n\n...\n\n" + whole[-4096:]
    lines = (run / evaluation.TEXT).read_text().splitlines()
    assert lines == ["accuracy=76.456%, good=38228, total=50000", "", f"hash={sha256}"]
    assert evaluation.cut(run, tmp_path / "originals", 10_000) is None


@pytest.mark.parametrize("printed", ["a\nb", "", None])
def test_the_digest_is_a_line_of_its_own(run: Path, tmp_path: Path, printed: str | None) -> None:
    (run / evaluation.TEXT).unlink()
    if printed is not None:
        (run / evaluation.TEXT).write_text(printed)
    found = evaluation.cut(run, tmp_path / "originals", 1)
    assert found is not None
    assert (run / evaluation.TEXT).read_text() == f"{printed or ''}\nhash={found['sha256']}\n"


def test_a_log_within_the_limit_stays_whole(run: Path, tmp_path: Path) -> None:
    size = (run / evaluation.LOG).stat().st_size
    assert evaluation.cut(run, tmp_path / "originals", size) is None
    assert not (tmp_path / "originals").exists()
    small = write(run, [entry(0, bytes(2000))]).read_bytes()
    assert evaluation.cut(run, tmp_path / "originals", 1) is None  # its ends would overlap
    assert (run / evaluation.LOG).read_bytes() == small
    (run / evaluation.LOG).unlink()
    assert evaluation.cut(run, tmp_path / "originals", 1) is None


@pytest.mark.skipif(not REPO, reason="BENCHFLEET_INFERENCE_REPO names no clone to compare with")
def test_upstreams_own_tool_cuts_the_same(run: Path, tmp_path: Path) -> None:
    tree = tmp_path / "submission"
    accuracy = tree / "open" / "me" / "results" / "sys" / "model" / "Offline" / "accuracy"
    accuracy.mkdir(parents=True)
    for name in (evaluation.LOG, evaluation.TEXT):
        (accuracy / name).write_bytes((run / name).read_bytes())
    catalog = Catalog()
    commit = catalog.get("rounds", "v6.1")["inference_commit"]
    show = ["git", "-C", REPO, "show", f"{commit}:{TOOL}"]
    tool = tmp_path / "tool.py"
    tool.write_bytes(subprocess.run(show, check=True, capture_output=True).stdout)
    argv = [sys.executable, str(tool), "--input", str(tree), "--submitter", "me"]
    argv += ["--backup", str(tmp_path / "backup")]
    subprocess.run(argv, check=True, capture_output=True, cwd=tree)
    assert evaluation.cut(run, tmp_path / "originals", 10_000)
    for name in (evaluation.LOG, evaluation.TEXT):
        assert (run / name).read_bytes() == (accuracy / name).read_bytes(), name
    # and finds nothing to do where we have cut already
    for name in (evaluation.LOG, evaluation.TEXT):
        (accuracy / name).write_bytes((run / name).read_bytes())
    subprocess.run(argv, check=True, capture_output=True, cwd=tree)
    assert (accuracy / evaluation.LOG).read_bytes() == (run / evaluation.LOG).read_bytes()
