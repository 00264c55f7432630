# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One artifact, asked for by itself: what the options mean, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from ansible_collections.benchfleet.mlperf.plugins.action import artifact as action
from ansible_collections.benchfleet.mlperf.plugins.modules import artifact as module
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.needs import Lab
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.probe_script import Probe
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.single import WORD, Single, single

CATALOG = Catalog()
EMPTY = {n: o.get("default", "") for n, o in action._SPEC.items()}
COMMIT = CATALOG.get("rounds", "v6.1")["inference_commit"]
SOURCE = {"name": "inference", "type": "source", "origins": [{"git": "/clone", "commit": ""}]}


def asked(lab: Lab | None = None, **given: Any) -> Single:
    return single({**EMPTY, **given}, CATALOG, lab or Lab({}))


NAMES = [
    ({"benchmark": "bert", "type": "model"}, "bert-onnx"),
    ({"benchmark": "bert", "type": "model", "backend": "pytorch"}, "bert-pytorch"),
    ({"benchmark": "bert", "type": "dataset", "backend": "pytorch"}, "squad-v1.1-dev"),
    ({"benchmark": "bert", "type": "file", "name": "bert-vocab"}, "bert-vocab"),
]


@pytest.mark.parametrize(("given", "name"), NAMES)
def test_a_benchmark_names_its_artifact(given: dict[str, str], name: str) -> None:
    what = asked(**given).needs[WORD]
    assert what["name"] == name
    assert (
        what["artifact"]["origins"]
        == CATALOG.get("benchmarks", "bert")["artifacts"][name]["origins"]
    )


def test_the_labs_own_copy_comes_first() -> None:
    lab = Lab({"bert-onnx": "/models/bert.onnx"})
    what = asked(lab, benchmark="bert", type="model").needs[WORD]
    assert (what["origin"], what["where"]) == ("path", "/models/bert.onnx")


def test_a_derived_one_comes_with_what_it_is_made_of() -> None:
    found = asked(
        Lab({"kits19": "/data/kits19"}), benchmark="3d-unet", type="dataset", round="v6.1"
    )
    assert found.needs[f"{WORD}.raw"]["where"] == "/data/kits19"
    assert found.needs["tree"]["artifact"]["origins"][0]["commit"] == COMMIT
    assert list(found.envs) == [f"{WORD}.python"]
    assert found.folder == "vision/medical_imaging/3d-unet-kits19"


def test_a_source_tree_is_at_the_commit_of_the_round_unless_one_is_given() -> None:
    assert asked(**SOURCE, round="v6.1").commit == COMMIT
    mine = [{"git": "/clone", "commit": "a" * 40}]
    found = asked(**{**SOURCE, "origins": mine}, round="v6.1")
    assert found.commit == found.needs[WORD]["artifact"]["origins"][0]["commit"] == "a" * 40


def test_patches_decide_what_a_source_tree_is() -> None:
    plain = asked(**SOURCE, round="v6.1").needs[WORD]
    patched = asked(**SOURCE, round="v6.1", patches=["3d-unet-mlperf-conf.patch"]).needs[WORD]
    assert plain["where"] != patched["where"]
    assert patched["patches"] == ["3d-unet-mlperf-conf.patch"]


REFUSALS = [
    ({"benchmark": "bart", "type": "model"}, "Did you mean"),
    ({"benchmark": "bert", "type": "model", "backend": "pytorhc"}, "is not one of bert's"),
    ({"benchmark": "bert", "type": "model", "backend": "tf_estimator"}, "name the artifact"),
    ({"benchmark": "bert", "type": "file", "name": "bert-vocabulary"}, "Did you mean 'bert-vocab'"),
    ({"benchmark": "3d-unet", "type": "dataset"}, "must be the lab's own copy"),
    ({"name": "x"}, "nothing says where x comes from"),
    (SOURCE, "a git origin needs a commit, or the round"),
    ({**SOURCE, "round": "v6.1", "patches": ["no.patch"]}, "patches/no.patch is missing"),
]


@pytest.mark.parametrize(("given", "said"), REFUSALS)
def test_what_cannot_be_is_refused_in_a_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(BenchfleetError) as refusal:
        asked(**given)
    assert said in str(refusal.value)


def test_a_path_that_is_nowhere_is_refused() -> None:
    found = asked(name="x", origins=[{"path": "/no/such/path"}])
    with pytest.raises(BenchfleetError, match="neither on the SUT nor on this controller"):
        action._places(found, Probe("/h", "/h", "b", {}, {}), None)  # type: ignore[arg-type]


def test_both_halves_take_the_same_options() -> None:
    """The module's documentation holds for the controller half."""
    documented = yaml.safe_load(module.DOCUMENTATION)["options"]
    assert set(action._SPEC) <= set(documented)
    for name, option in action._SPEC.items():
        if name not in ("state", "downloads", "sha256", "name"):
            assert option.get("default") == documented[name].get("default"), name
            assert option["type"] == documented[name]["type"] or name == "store", name
