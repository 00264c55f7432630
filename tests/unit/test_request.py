# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people type: accepted forms, and refusals that name the valid ones."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import (
    BenchfleetError,
    nearest,
)
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import (
    Request,
    check_names,
    parse,
)

SETTINGS = {"benchfleet_home", "benchfleet_results"}


def test_empty_values_are_defaults_and_foreign_variables_are_ignored() -> None:
    empty = {"benchmark": "", "samples": None, "input_shapes": {}, "sut": [], "ansible_host": "x"}
    assert parse(empty) == Request()


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("benchmark", "digits, resnet50 ,digits", ("digits", "resnet50")),
        ("scenario", ["Offline", "Server"], ("Offline", "Server")),
        ("threads", "8", 8),
        ("threads", 8, 8),
        ("target_qps", "1.5e3", 1500.0),
        ("time_limit", 90, 90.0),
        ("rerun", "Yes", True),
        ("rerun", False, False),
        ("affinity", "off", False),
        ("division", " closed ", "closed"),
        ("input_shapes", '{"ids": [1, 128]}', {"ids": [1, 128]}),
        ("input_shapes", {"ids": (1, 2)}, {"ids": (1, 2)}),
        ("run_prefix", "numactl -N 0 -- ", "numactl -N 0 --"),
    ],
)
def test_accepts(name: str, given: Any, expected: Any) -> None:
    assert getattr(parse({name: given}), name) == expected


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("division", "close", ("division=close", "'closed'", "closed, network, open")),
        ("duration", "Official", ("'official'",)),
        ("on_busy", "queue", ("fail, wait",)),
        ("rerun", "maybe", ("rerun=maybe", "true, false")),
        ("threads", "four", ("threads=four", "whole number")),
        ("threads", "1.5", ("whole number",)),
        ("samples", 0, ("above zero",)),
        ("target_qps", "nan", ("above zero",)),
        ("target_qps", "1e400", ("below 1e15",)),
        ("latency_limit", "-3", ("latency_limit=-3",)),
        ("benchmark", " , ", ("empty list",)),
        ("input_shapes", "[1, 2]", ("input_shapes", "for example")),
        ("input_shapes", {"ids": [0, 2]}, ("input_shapes",)),
        ("input_shapes", {"ids": [True, 2]}, ("input_shapes",)),
        ("input_shapes", '{"ids"', ("input_shapes",)),
        ("run_prefix", 'taskset "0', ("run_prefix", "quotation")),
    ],
)
def test_refuses_naming_what_is_valid(name: str, given: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(BenchfleetError) as caught:
        parse({name: given})
    for word in (name, *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("name", ["benchmark", "scenario", "mode", "implementation", "sut"])
def test_all_stands_alone(name: str) -> None:
    assert getattr(parse({name: "all"}), name) == ("all",)
    with pytest.raises(BenchfleetError, match="'all' stands alone"):
        parse({name: "all,other"})


def test_a_model_may_be_called_all() -> None:
    assert parse({"model_name": "all,x"}).model_name == ("all", "x")


def test_unknown_option_is_refused_with_the_nearest_spelling() -> None:
    with pytest.raises(BenchfleetError, match=r"'senario' does not exist.*'scenario'"):
        check_names({"senario": "Offline"}, SETTINGS, set())
    with pytest.raises(BenchfleetError, match=r"'benchfleet_hom' .*'benchfleet_home'"):
        check_names({"benchfleet_hom": "/x"}, SETTINGS, set())


def test_known_options_settings_own_and_ansible_names_pass() -> None:
    names = ("scenario", "benchfleet_home", "mine", "ansible_user", "awx_job_id", "tower_x")
    check_names(dict.fromkeys(names, 1), SETTINGS, {"mine"})


def test_own_names_are_refused_until_declared() -> None:
    with pytest.raises(BenchfleetError, match="benchfleet_other_vars"):
        check_names({"mine": 1}, SETTINGS, set())


@pytest.mark.parametrize(
    ("word", "hint"), [("OFFLINE", "'Offline'"), ("singlestream", "'SingleStream'"), ("zzz", None)]
)
def test_nearest_spelling_ignores_case(word: str, hint: str | None) -> None:
    text = nearest(word, ("Offline", "SingleStream", "Server"))
    assert text.endswith("Valid: Offline, Server, SingleStream.")
    assert ("Did you mean" in text) == (hint is not None)
    assert hint is None or hint in text


def test_nearest_of_nothing() -> None:
    assert nearest("x", ()) == " Valid: none."
