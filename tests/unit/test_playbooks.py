# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each benchmark has a playbook of its own, each other playbook one in the root that imports it.

A collection's playbook is called by its full name, in which Ansible takes neither a dot nor a dash:
in the file's name both are underscores.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = sorted(p.stem for p in (ROOT / "catalog" / "benchmarks").glob("*.yml"))
PLAYBOOKS = sorted(p.name for p in (ROOT / "playbooks").glob("*.yml"))
SHIMS = sorted(p.name for p in ROOT.glob("*.yml") if p.name != "galaxy.yml")


def only_play(path: Path) -> dict[str, Any]:
    """Return the one entry of a playbook."""
    (play,) = yaml.safe_load(path.read_text(encoding="utf-8"))
    found: dict[str, Any] = play
    return found


def file_of(benchmark: str) -> str:
    return re.sub(r"[.-]", "_", benchmark) + ".yml"


def test_no_two_benchmarks_share_a_playbook() -> None:
    assert len({file_of(name) for name in BENCHMARKS}) == len(BENCHMARKS)


@pytest.mark.parametrize("name", BENCHMARKS)
def test_each_benchmark_has_its_playbook(name: str) -> None:
    play = only_play(ROOT / "playbooks" / file_of(name))
    assert play["ansible.builtin.import_playbook"] == "run_benchmark.yml"
    assert play["vars"]["benchmark"] == name


@pytest.mark.parametrize("name", PLAYBOOKS)
def test_a_playbooks_name_is_one_that_a_collection_can_have(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9_]+\.yml", name)


@pytest.mark.parametrize("name", SHIMS)
def test_the_root_only_imports(name: str) -> None:
    assert only_play(ROOT / name)["ansible.builtin.import_playbook"] == f"playbooks/{name}"


def test_all_but_the_benchmarks_can_be_called_from_the_root() -> None:
    assert set(SHIMS) == set(PLAYBOOKS) - {file_of(name) for name in BENCHMARKS}
