# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The stand-in modules for upstream's scripts, with a simulated transformers package."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SHIMS = Path(__file__).parents[2] / "roles" / "harness_reference" / "files" / "shims"
BERT = "transformers/models/bert"
VERSION_4 = {"tokenization_bert": "class BasicTokenizer: v = 4\ndef whitespace_tokenize(t): ...\n"}
VERSION_5 = {
    "tokenization_bert": "class BertTokenizer: ...\n",
    "tokenization_bert_legacy": "class BasicTokenizer: v = 5\ndef whitespace_tokenize(t): ...\n",
}


def transformers(folder: Path, modules: dict[str, str]) -> Path:
    """Make a simulated transformers package of these modules of models/bert."""
    for package in ("transformers", "transformers/models", BERT):
        (folder / package).mkdir()
        (folder / package / "__init__.py").touch()
    for name, text in modules.items():
        (folder / BERT / f"{name}.py").write_text(text)
    return folder


def run(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run code as upstream's scripts run: an interpreter of its own, the shims on PYTHONPATH."""
    variables = {"PYTHONPATH": ":".join(map(str, path)), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=variables,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(("modules", "version"), [(VERSION_4, 4), (VERSION_5, 5)])
def test_tokenization_comes_from_either_version_of_transformers(
    tmp_path: Path, modules: dict[str, str], version: int
) -> None:
    code = (
        "import tokenization as t\n"
        "print(t.BasicTokenizer.v, t.whitespace_tokenize.__name__, t.printable_text('é'))"
    )
    done = run(code, SHIMS, transformers(tmp_path, modules))
    assert done.stdout.split() == [str(version), "whitespace_tokenize", "é"], done.stderr


def test_without_transformers_the_script_says_what_is_missing(tmp_path: Path) -> None:
    done = run("import tokenization", SHIMS, tmp_path)
    assert done.returncode == 1
    assert "transformers" in done.stderr.splitlines()[-1]
