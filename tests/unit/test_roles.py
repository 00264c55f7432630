# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings and options are said in several places; all of them say the same."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import outcomes, request

ROOT = Path(__file__).resolve().parents[2]
ROLE = ROOT / "roles" / "benchfleet"
GROUP_FILES = ("suts", "power_directors", "nvidia_gpus")
OPTION_ROW = re.compile(r"^\| `(\w+)` \|", re.M)
TYPES = {
    "tuple": "list",
    "str": "str",
    "bool": "bool",
    "float": "float",
    "int": "int",
    "Mapping": "dict",
}


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def options(entry_point: str = "main") -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read(ROLE / "meta" / "argument_specs.yml")["argument_specs"]
    return found[entry_point]["options"]


def section(heading: str) -> str:
    """The text of one section of the collection's README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def commented(name: str) -> dict[str, Any]:
    """What a file of group_vars holds when each commented-out setting is taken in."""
    lines = (ROOT / "group_vars" / f"{name}.yml").read_text(encoding="utf-8").splitlines()
    taken = [line[2:] for line in lines if re.match(r"# \w+:(?: \S+| \".*\")$", line)]
    found = yaml.safe_load("\n".join(taken))
    assert len(found) == len(taken), "a setting is shown twice"
    return dict(found)


DEFAULTS: Mapping[str, Any] = read(ROLE / "defaults" / "main.yml")


def test_defaults_agree_with_the_argument_specs() -> None:
    said = {n: o["default"] for n, o in options().items() if n.startswith("benchfleet_")}
    assert said == DEFAULTS


def test_defaults_are_the_settings_an_extra_var_is_checked_against() -> None:
    assert read(ROLE / "vars" / "main.yml")["__benchfleet_settings"] == list(DEFAULTS)


def test_group_vars_show_every_setting_with_its_default() -> None:
    assert commented("all") == DEFAULTS


@pytest.mark.parametrize("name", GROUP_FILES)
def test_group_vars_of_a_group_show_settings_that_exist(name: str) -> None:
    own = {k: v for k, v in commented(name).items() if not k.startswith("ansible_")}
    assert set(own) <= set(DEFAULTS)
    assert read(ROOT / "group_vars" / f"{name}.yml") is None, "an example sets something"


def test_argument_specs_hold_the_request() -> None:
    short = {n: o for n, o in options().items() if not n.startswith("benchfleet_")}
    assert list(short) == list(request.NAMES)
    empty = request.parse({})
    for field in dataclasses.fields(empty):
        default = getattr(empty, field.name)
        if isinstance(default, tuple):
            default = list(default)
        kinds = [TYPES[word] for word in re.findall(r"\w+", str(field.type)) if word in TYPES]
        assert short[field.name]["type"] == kinds[0], field.name
        assert short[field.name].get("default") == default, field.name


@pytest.mark.parametrize("name", ["division", "duration", "on_busy", "quiet_host"])
def test_choices_of_the_argument_specs_are_those_of_the_request(name: str) -> None:
    for choice in options()[name]["choices"]:
        assert getattr(request.parse({name: choice}), name) == choice
    with pytest.raises(request.BenchfleetError) as refusal:
        request.parse({name: "no-such-word"})
    named = str(refusal.value).rpartition("Valid: ")[2].rstrip(".").split(", ")
    assert sorted(named) == sorted(options()[name]["choices"])


def test_entry_points_are_the_task_files_that_playbooks_call() -> None:
    specs = read(ROLE / "meta" / "argument_specs.yml")["argument_specs"]
    called = {"main"}
    for playbook in (ROOT / "playbooks").glob("*.yml"):
        called |= set(re.findall(r"tasks_from: (\w+)\.yml", playbook.read_text(encoding="utf-8")))
    assert set(specs) == called
    assert options("show") == options("provision") == options()
    for name, option in options("index").items():
        assert option == options()[name]


def test_readme_has_one_row_for_each_option_of_the_request() -> None:
    assert OPTION_ROW.findall(section("Options")) == list(request.NAMES)


def test_readme_of_the_role_has_one_row_for_each_setting() -> None:
    text = (ROLE / "README.md").read_text(encoding="utf-8").partition("\n## Settings\n")[2]
    assert OPTION_ROW.findall(text) == list(DEFAULTS)


def test_readme_knows_every_outcome() -> None:
    said = set(OPTION_ROW.findall(section("Outcomes")))
    assert said >= set(outcomes.GOOD)
    code = inspect.getsource(outcomes)
    assert said - {"valid", "invalid", "lost"} <= set(re.findall(r'"(\w+)"', code))


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 260


def test_action_group_lists_every_module() -> None:
    modules = {p.stem for p in (ROOT / "plugins" / "modules").glob("*.py")} - {"__init__"}
    assert set(read(ROOT / "meta" / "runtime.yml")["action_groups"]["benchfleet"]) == modules
