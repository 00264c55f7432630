# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every role: its defaults, argument specs, README and tasks say the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(p.name for p in (ROOT / "roles").iterdir() if any(p.glob("*/*.yml")))
# It has the lab's settings and the request beside its own; test_roles.py keeps those in step.
OWN = [name for name in ROLES if name != "benchfleet"]
ROW = re.compile(r"^\| `(\w+)` \|", re.M)
KEYWORDS = {
    *("name", "when", "vars", "register", "loop", "loop_control", "until", "retries", "delay"),
    *("become", "become_user", "changed_when", "check_mode", "notify", "run_once", "delegate_to"),
    *("block", "rescue", "always", "tags", "no_log", "args", "environment", "listen", "diff"),
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None


def specs(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(ROOT / "roles" / name / "meta" / "argument_specs.yml")
    return dict(found["argument_specs"])


def options(name: str) -> dict[str, dict[str, Any]]:
    return dict(specs(name)["main"].get("options") or {})


def tasks(name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, task) of each task and handler of a role, those in blocks too."""

    def each(found: list[dict[str, Any]], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for task in found:
            yield place, task
            for part in ("block", "rescue", "always"):
                yield from each(task.get(part, []), place)

    for kind in ("tasks", "handlers"):
        for path in sorted((ROOT / "roles" / name / kind).glob("*.yml")):
            yield from each(read(path) or [], f"{name}/{kind}/{path.name}")


@pytest.mark.parametrize("name", ROLES)
def test_a_role_says_what_it_is(name: str) -> None:
    folder = ROOT / "roles" / name
    info = read(folder / "meta" / "main.yml")["galaxy_info"]
    assert info["license"] == "GPL-3.0-or-later"
    assert info["description"] and info["min_ansible_version"] and info["platforms"]
    assert (folder / "README.md").read_text(encoding="utf-8").startswith(f"# {name}\n")
    for spec in specs(name).values():
        assert spec["short_description"] and spec["description"] and spec["version_added"]


@pytest.mark.parametrize("name", ROLES)
def test_defaults_agree_with_the_argument_specs(name: str) -> None:
    own = {
        n: o["default"]
        for n, o in options(name).items()
        if "default" in o and n.startswith(f"{name}_")
    }
    assert own == (read(ROOT / "roles" / name / "defaults" / "main.yml") or {})


@pytest.mark.parametrize("name", OWN)
def test_variables_have_the_name_of_the_role_and_are_described(name: str) -> None:
    for option, about in options(name).items():
        assert option.startswith(f"{name}_"), option
        assert about["type"] and about["description"], option
        assert about.get("required") or "default" in about, option


@pytest.mark.parametrize("name", ROLES)
def test_what_a_role_keeps_for_itself_has_its_name(name: str) -> None:
    for path in sorted((ROOT / "roles" / name / "vars").glob("*.yml")):
        for variable in read(path):
            assert variable.startswith(f"__{name}_"), (path.name, variable)
    for place, task in tasks(name):
        given = [task["register"]] if "register" in task else []
        given += task.get("ansible.builtin.set_fact", {})
        for variable in given:
            assert variable.removeprefix("__").startswith(f"{name}_"), (place, variable)


@pytest.mark.parametrize("name", OWN)
def test_the_readme_has_a_row_for_each_variable(name: str) -> None:
    text = (ROOT / "roles" / name / "README.md").read_text(encoding="utf-8")
    rows = [row for row in ROW.findall(text) if row.startswith(f"{name}_")]
    assert rows == list(options(name))


@pytest.mark.parametrize("name", ROLES)
def test_facts_are_told_in_the_readme(name: str) -> None:
    text = (ROOT / "roles" / name / "README.md").read_text(encoding="utf-8")
    for place, task in tasks(name):
        for fact in task.get("ansible.builtin.set_fact", {}):
            assert fact.startswith("__") or f"`{fact}`" in text, (place, fact)


@pytest.mark.parametrize("name", ROLES)
def test_tasks_name_modules_in_full_and_hide_no_failure(name: str) -> None:
    for place, task in tasks(name):
        assert task["name"][0].isupper(), (place, task["name"])
        assert not {"ignore_errors", "failed_when"} & set(task), (place, task["name"])
        modules = set(task) - KEYWORDS
        assert len(modules) == (0 if "block" in task else 1), (place, task["name"], modules)
        for module in modules:
            assert re.fullmatch(r"\w+\.\w+\.\w+", module), (place, module)


def test_the_tests_see_every_role() -> None:
    folders = {p.name for p in (ROOT / "roles").iterdir() if p.is_dir()}
    assert folders == set(ROLES)
