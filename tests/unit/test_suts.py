# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SUTs as inventories declare them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.suts import Sut, declared


def test_a_host_is_a_sut_of_its_own_name() -> None:
    assert declared("node1", {}) == [Sut("node1", ("node1",))]


def test_host_defaults_hold_for_each_sut_and_an_entry_overrides_them() -> None:
    variables = {
        "benchfleet_system_type": "datacenter",
        "benchfleet_device": "cuda",
        "benchfleet_profile": "MaxQ",
        "benchfleet_suts": [
            {"name": "one", "devices": [0]},
            {"name": "eight", "profile": "MaxP", "device": "tensorrt"},
            "plain",
        ],
    }
    one, eight, plain = declared("gpu", variables)
    assert one == Sut("one", ("gpu",), ("0",), "MaxQ", "datacenter", "cuda")
    assert (eight.profile, eight.device, eight.devices) == ("MaxP", "tensorrt", ())
    assert (plain.name, plain.host) == ("plain", "gpu")


@pytest.mark.parametrize(
    ("given", "expected"),
    [(0, ("0",)), ("0, 1", ("0", "1")), ([0, 1], ("0", "1")), ("all", ()), (None, ()), ("", ())],
)
def test_devices_in_every_spelling(given: Any, expected: tuple[str, ...]) -> None:
    assert declared("h", {"benchfleet_suts": [{"devices": given}]})[0].devices == expected


@pytest.mark.parametrize("written", ["datacenter,edge", "edge,datacenter", "edge, datacenter"])
def test_system_type_of_both(written: str) -> None:
    assert declared("h", {"benchfleet_system_type": written})[0].system_type == "datacenter,edge"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"benchfleet_suts": "one"}, ("h:", "list of SUTs")),
        ({"benchfleet_suts": {"name": "x"}}, ("list of SUTs",)),
        ({"benchfleet_suts": [{"nmae": "x"}]}, ("'nmae'", "Did you mean 'name'?")),
        ({"benchfleet_suts": [{"name": "../x"}]}, ("'../x'", "letters, digits")),
        ({"benchfleet_suts": [{"name": "x\n"}]}, ("letters, digits",)),
        ({"benchfleet_suts": [{"name": "a/b"}]}, ("'a/b'",)),
        ({"benchfleet_system_type": "edgy"}, ("system_type=edgy", "Did you mean 'edge'?")),
    ],
)
def test_wrong_declarations_name_host_and_key(
    variables: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(BenchfleetError) as caught:
        declared("h", variables)
    for word in words:
        assert word in str(caught.value)
