# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a benchmark's dataset is made of is planned, or the plan says why it cannot be made."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.action import provision
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import (
    derived,
    needs,
    payload,
    planner,
    work,
)
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.probe_script import Probe
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse

CATALOG = Catalog()
OWN = {"kits19": "/data/kits19", "3d-unet-onnx": "/data/unet.onnx"}


def planned(benchmark: str, paths: dict[str, str], **more: Any) -> dict[str, Any]:
    asked = {"benchmark": benchmark, "implementation": "reference", "scenario": "Offline"}
    variables = parse({**asked, "mode": "performance", **more})
    (cell,) = planner.plan(variables, {"n": {"benchfleet_artifact_paths": paths}}, CATALOG)
    return cell


def item(cell: dict[str, Any], **there: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The cell as work of a host where these paths are, and the payload."""
    sent = payload.harness(CATALOG, cell)
    probe = Probe("/h", "/h/hosts/n", "b", {}, {}, there)
    needs = {"model": cell["model"], "dataset": cell["dataset"], **cell["needs"]}
    places = {word: work.place(what, probe, {}) for word, what in needs.items()}
    return {"cell": dict(cell, payload="p"), "places": places}, sent


def test_the_sources_and_the_environment_are_needs_of_the_cell() -> None:
    cell = planned("3d-unet", OWN)
    assert cell["refuse"] is None
    assert cell["dataset"]["origin"] == "derived"
    assert cell["needs"]["dataset.raw"]["where"] == "/data/kits19"
    locks = cell["recipe"]["environments"]
    assert locks["dataset.python"] == "harness_reference/3d-unet-onnxruntime-cpu.txt"
    work_item, sent = item(cell, **dict.fromkeys(OWN.values(), "1:1"))
    (entry,) = provision._derived([work_item, work_item], {"payloads": {"p": sent}})
    places = work_item["places"]
    assert entry["identity"] == places["dataset"]["identity"] == cell["dataset"]["where"]
    assert entry["sources"] == {"raw": "/data/kits19:1:1"}
    assert entry["tree"] == places["tree"]["identity"]
    assert entry["folder"] == "vision/medical_imaging/3d-unet-kits19"
    assert entry["env"] == sent["envs"]["dataset.python"]["name"]
    assert "mlcommons_loadgen" not in str(sent["envs"]["dataset.python"]["requirements"])


def test_the_labs_own_copy_needs_no_sources() -> None:
    cell = planned("3d-unet", {"kits19-preprocessed": "/data/prepared"})
    assert cell["refuse"] is None
    assert cell["dataset"]["origin"] == "path"
    assert "dataset.raw" not in cell["needs"]
    assert "dataset.python" not in cell["recipe"]["environments"]


REFUSALS = [
    ("3d-unet", "kits19-preprocessed is made from kits19. kits19 must be the lab's own copy"),
    ("retinanet", "is made by upstream's tools/openimages_mlperf.sh, whose packages are not"),
    ("rgat", "benchfleet_artifact_paths: {igbh-full: <path on the SUT>}"),
]


@pytest.mark.parametrize(("name", "words"), REFUSALS)
def test_what_cannot_be_made_is_refused_with_the_way_by_hand(name: str, words: str) -> None:
    benchmark = CATALOG.get("benchmarks", name)
    artifact = benchmark["dataset"]["artifact"]
    found = dataset_of(benchmark, artifact)
    assert words in found["refuse"], found
    assert "by hand" in found["refuse"] or "own copy" in found["refuse"]


def dataset_of(benchmark: dict[str, Any], artifact: str) -> dict[str, Any]:
    lab = needs.Lab({})
    found = {"dataset": needs.need(benchmark, artifact, "", lab, CATALOG)}
    whole = derived.with_sources(found, benchmark, lab, CATALOG)["dataset"]
    assert whole is not None
    return whole


def test_no_model_is_derived() -> None:
    """A model's origin says how it is measured, so none may be made on the host."""
    for name in CATALOG.names("benchmarks"):
        for artifact in CATALOG.get("benchmarks", name)["artifacts"].values():
            assert "derive" not in artifact or artifact["type"] != "model", name
