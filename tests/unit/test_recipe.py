# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the reference implementation runs a benchmark: what its section says, layer by layer."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import planner, recipe
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse

CATALOG = Catalog()
REFERENCE = CATALOG.get("implementations", "reference")
ONNX = CATALOG.get("implementations", "onnx")

SECTION: dict[str, Any] = {
    "folder": "vision/thing",
    "uses": {"vocab": "words"},
    "links": ["a/settings.json"],
    "aliases": {"data": "{dataset}"},
    "values": {"threads": 8, "batch_size": 1, "shape": "section"},
    "variables": {"WHO": "section", "GONE": "x", "PYTHONHASHSEED": "7", "ONLY": "section"},
    "backends": {
        "ort": {
            "model": "net-onnx",
            "arguments": ["--backend=ort"],
            "variables": {"WHO": "backend", "GONE": None},
            "values": {"batch_size": 4, "shape": "backend"},
            "devices": {
                "cpu": {
                    "environment": "net-ort-cpu",
                    "arguments": ["--device=cpu"],
                    "variables": {"WHO": "device"},
                    "values": {"shape": "device"},
                },
                "cuda": {"environment": "framework/onnxruntime-cuda"},
            },
        },
        "torch": {
            "model": None,
            "dataset": "images-png",
            "scenarios": ["Offline"],
            "devices": {"cuda": {"environment": None, "why_not": "it needs eight of them"}},
        },
        "tf": {"model": None, "devices": {"cpu": {"environment": "net-tf-cpu"}}},
    },
    "scenarios": {
        "Server": {
            "arguments": ["--coalesce"],
            "variables": {"WHO": "scenario"},
            "values": {"shape": "scenario"},
        }
    },
    "command": ["{python}", "{folder}/main.py"],
    "modes": {"performance": ["--fast"], "accuracy": ["--accuracy"]},
    "accuracy": {
        "environment": "net-accuracy-cpu",
        "command": ["{accuracy_python}", "{folder}/score.py"],
        "variables": {"PYTHONPATH": "{shims}"},
        "links": {"vocab.txt": "{vocab}"},
        "scenarios": {"Server": {"arguments": ["--short"], "values": {"most": 5}}},
    },
}
FAMILY: dict[str, Any] = {
    "wide": {
        "model": "net-wide",
        "backends": ["tf", "ort"],
        "arguments": ["--wide"],
        "values": {"shape": "variant"},
        "accuracy": [{"metric": "acc", "reference": 70.0, "target": 69.0}],
    },
    "narrow": {"dataset": None, "backends": ["ort"], "accuracy": []},
    "flat": {"backends": [], "why_not": "upstream never published it", "accuracy": []},
}


def made(
    device: str = "cpu",
    scenario: str = "Offline",
    mode: str = "performance",
    asked: dict[str, Any] | None = None,
    **section: Any,
) -> recipe.Recipe:
    """The recipe of a benchmark with SECTION and changes."""
    benchmark = {
        "name": "thing",
        "dataset": {"name": "images", "samples": 10, "artifact": "images"},
        "reference": copy.deepcopy(SECTION) | section,
    }
    before = copy.deepcopy(benchmark)
    found = recipe.recipe(REFERENCE, benchmark, device, scenario, mode, asked or {}, CATALOG)
    assert benchmark == before
    return found


def test_words_follow_each_other_from_the_general_to_the_special() -> None:
    own = {"backend": "ort", "variant": "wide"}
    words = made(scenario="Server", asked=own, variants=FAMILY).command
    assert words == (
        *("{python}", "{folder}/main.py"),
        *("--backend=ort", "--wide", "--device=cpu", "--coalesce"),
    )
    assert made().command == ("{python}", "{folder}/main.py", "--backend=ort", "--device=cpu")
    assert made().modes == {"performance": ["--fast"], "accuracy": ["--accuracy"]}


def test_variables_are_laid_over_each_other_and_null_takes_one_away() -> None:
    plain = made().variables
    assert plain["WHO"] == "device"
    assert "GONE" not in plain
    assert plain["ONLY"] == "section"
    assert plain["PYTHONHASHSEED"] == "7"  # the section's word over the implementation's
    assert plain["HF_HUB_OFFLINE"] == "1"
    assert made(scenario="Server").variables["WHO"] == "scenario"
    assert made("cuda").variables["WHO"] == "backend"
    assert made(asked={"backend": "tf"}).variables["GONE"] == "x"


def test_values_are_laid_over_each_other_and_the_requests_win() -> None:
    assert dict(made().values) == {"threads": 8, "batch_size": 4, "shape": "device"}
    assert made(scenario="Server").values["shape"] == "scenario"
    assert made("cuda").values["shape"] == "backend"
    family = {"variants": FAMILY, "asked": {"backend": "ort", "variant": "wide"}}
    assert made("cuda", **family).values["shape"] == "variant"
    asked = {"batch_size": 32, "threads": None, "instances": None}
    assert dict(made(asked=asked).values) == {"threads": 8, "batch_size": 32, "shape": "device"}


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"instances": 2}, "the reference harness of thing has no option instances"),
        ({"affinity": True}, "has no option affinity"),
    ],
)
def test_an_option_that_the_harness_lacks_is_refused(option: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchfleetError, match=words) as told:
        made(asked=option)
    assert "threads" in str(told.value)
    assert "shape" not in str(told.value)  # a placeholder is no option of the request


def test_the_first_backend_that_runs_on_the_device_is_chosen() -> None:
    assert made().backend == "ort"
    assert made("cuda").backend == "ort"
    reverse = dict(reversed(SECTION["backends"].items()))
    assert made(backends=reverse).backend == "tf"
    assert made("cuda", backends=reverse).backend == "torch"
    assert made(asked={"backend": "tf"}).backend == "tf"
    assert made().driver is None
    assert (made("cuda").driver, made("cuda").driver_minimum) == ("nvidia", "525.60.13")


def test_backends_that_do_not_exist_or_run_elsewhere_are_refused() -> None:
    with pytest.raises(BenchfleetError, match=r"backend=otr is not one of thing's\..*'ort'"):
        made(asked={"backend": "otr"})
    with pytest.raises(BenchfleetError, match=r"torch does not run on device=cpu.*: ort, tf\."):
        made(asked={"backend": "torch"})
    with pytest.raises(BenchfleetError, match=r"of any kind does not run on device=rocm.*none"):
        made("rocm")


def test_environments_are_locks_of_a_role() -> None:
    assert made().environments == {
        "python": "harness_reference/net-ort-cpu.txt",
        "accuracy_python": "harness_reference/net-accuracy-cpu.txt",
    }
    assert made("cuda").environments["python"] == "framework/onnxruntime-cuda.txt"
    own = {"command": ["{python}", "score.py"]}
    assert set(made(accuracy=own).environments) == {"python"}
    assert set(made(accuracy=None).environments) == {"python"}


def test_what_this_version_does_not_run_says_why() -> None:
    torch = made("cuda", asked={"backend": "torch"})
    assert torch.why_not == "it needs eight of them"
    assert torch.environments.keys() == {"accuracy_python"}
    accuracy = {"command": ["x"], "environment": None, "why_not": "it asks a server"}
    assert made(accuracy=accuracy).why_not is None
    assert made(mode="accuracy", accuracy=accuracy).why_not == "it asks a server"
    assert made().why_not is None


def test_artifacts_go_from_placeholder_to_name() -> None:
    assert made().artifacts == {"model": "net-onnx", "dataset": "images", "vocab": "words"}
    torch = made("cuda", asked={"backend": "torch"})
    assert (torch.artifacts["model"], torch.artifacts["dataset"]) == (None, "images-png")
    assert torch.scenarios == ("Offline",)
    tf = made(asked={"variant": "wide"}, variants=FAMILY)
    assert (tf.backend, tf.artifacts["model"]) == ("tf", "net-wide")
    narrow = made(asked={"variant": "narrow"}, variants=FAMILY)
    assert narrow.artifacts["dataset"] is None


def test_variants() -> None:
    first = made(variants=FAMILY)
    assert (first.variant, first.backend) == ("wide", "tf")
    assert first.scores == ({"metric": "acc", "reference": 70.0, "target": 69.0},)
    narrow = made(asked={"variant": "narrow"}, variants=FAMILY)
    assert (narrow.variant, narrow.scores) == ("narrow", ())
    assert made().variant is None
    assert made().scores is None
    benchmark = {"name": "thing", "reference": SECTION | {"variants": FAMILY}}
    assert recipe.variants(REFERENCE, benchmark) == ["wide", "narrow", "flat"]
    assert recipe.variants(ONNX, benchmark) == []


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"variant": "wid"}, r"variant=wid is not one of thing's\..*'wide'"),
        ({"variant": "flat"}, r"thing flat: upstream never published it\."),
        ({"variant": "narrow", "backend": "tf"}, r"thing narrow: backend tf does not run.*: ort\."),
    ],
)
def test_members_that_cannot_be_run_are_refused(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchfleetError, match=words):
        made(asked=asked, variants=FAMILY)


def test_a_variant_where_there_is_no_family() -> None:
    with pytest.raises(BenchfleetError, match="variant=wide is not one of thing's"):
        made(asked={"variant": "wide"})


@pytest.mark.parametrize("option", ["backend", "variant"])
def test_our_own_harness_has_neither_backends_nor_variants(option: str) -> None:
    digits = CATALOG.get("benchmarks", "digits")
    args = (ONNX, digits, "cpu", "Offline", "performance", {option: "x"}, CATALOG)
    with pytest.raises(BenchfleetError, match=f"implementation onnx has no option {option}"):
        recipe.recipe(*args)


def test_links_stand_under_their_last_name_beside_the_aliases() -> None:
    assert made().links == {"settings.json": "{folder}/a/settings.json", "data": "{dataset}"}
    assert made(links=[], aliases={}).links == {}


def test_the_accuracy_script() -> None:
    offline, server = made().accuracy, made(scenario="Server").accuracy
    assert offline is not None
    assert server is not None
    assert offline["command"] == ["{accuracy_python}", "{folder}/score.py"]
    assert (offline["values"], offline["links"]) == ({}, {"vocab.txt": "{vocab}"})
    assert offline["variables"] == {"PYTHONPATH": "{shims}"}
    assert server["command"][-1] == "--short"
    assert server["values"] == {"most": 5}
    assert made(accuracy=None).accuracy is None


def test_the_source_is_the_rounds_commit_unless_the_section_names_one() -> None:
    found = made().source
    assert found == {
        "repository": None,
        "commit": None,
        "folder": "vision/thing",
        "paths": ["vision/thing"],
        "submodules": [],
        "patches": [],
    }
    own = {"repository": "https://example.org/other", "commit": "c0" * 20, "paths": ["a", "b"]}
    other = made(**own, submodules=["b/sub"]).source
    assert other == {**found, **own, "submodules": ["b/sub"]}
    round_ = CATALOG.get("rounds", "v6.1")["inference_commit"]
    asked = {"benchmark": "resnet50", "implementation": "reference", "scenario": "Offline"}
    (cell, *_rest) = planner.plan(parse(asked), {"n": {}}, CATALOG)
    assert cell["recipe"]["source"]["commit"] == round_
    section = CATALOG.get("benchmarks", "rnnt")["reference"]
    (cell, *_rest) = planner.plan(parse({**asked, "benchmark": "rnnt"}), {"n": {}}, CATALOG)
    assert cell["recipe"]["source"]["commit"] == section["commit"] != round_


def test_a_patch_counts_by_its_content(tmp_path: Path) -> None:
    (tmp_path / "patches").mkdir()
    patch = tmp_path / "patches" / "one.patch"
    section = SECTION | {"patches": [{"file": "one.patch", "because": "it breaks"}]}
    benchmark = {"name": "thing", "dataset": None, "reference": section}
    args = (REFERENCE, benchmark, "cpu", "Offline", "performance", {}, Catalog(tmp_path))
    seen = []
    for text in (b"-a\n+b\n", b"-a\n+c\n"):
        patch.write_bytes(text)
        source = recipe.recipe(*args).source
        assert source is not None
        assert source["patches"] == [
            {
                "file": "one.patch",
                "because": "it breaks",
                "sha256": hashlib.sha256(text).hexdigest(),
            }
        ]
        seen.append(source)
    assert seen[0] != seen[1]
    patch.unlink()
    with pytest.raises(BenchfleetError, match=r"one\.patch is missing"):
        recipe.recipe(*args)


# --- the same through the plan ---------------------------------------------------------------


def cells(**asked: Any) -> list[dict[str, Any]]:
    whole = {"implementation": "reference", "scenario": "Offline", "mode": "performance"} | asked
    return planner.plan(parse(whole), {"n": {}}, CATALOG)


def family() -> str:
    """A benchmark of the catalog with variants."""
    names = CATALOG.names("benchmarks")
    return next(
        n for n in names if CATALOG.get("benchmarks", n).get("reference", {}).get("variants")
    )


def test_variant_all_is_every_member_with_the_rounds_rules_for_the_first_only() -> None:
    name = family()
    members = list(CATALOG.get("benchmarks", name)["reference"]["variants"])
    found = cells(benchmark=name, variant="all")
    assert [c["variant"] or c["id"].split("/")[1].partition(".")[2] for c in found] == members
    assert [c["id"].split("/")[1] for c in found] == [f"{name}.{m}" for m in members]
    assert not any(c["submittable"] for c in found[1:])
    (usual,) = cells(benchmark=name)
    assert usual["variant"] == members[0]
    with pytest.raises(BenchfleetError, match="'all' stands alone"):
        cells(benchmark=name, variant="all,x")


def test_a_cell_that_has_no_recipe_is_refused_and_not_dropped() -> None:
    (cell,) = cells(benchmark="resnet50", backend="onxruntime")
    assert "backend=onxruntime is not one of resnet50's" in cell["refuse"]
    assert "'onnxruntime'" in cell["refuse"]
    assert cell["recipe"] is None
    (cell,) = cells(benchmark="resnet50", affinity=True)
    assert "has no option affinity" in cell["refuse"]
    (cell,) = cells(benchmark="bert", backend="tf")
    assert "bert on tf, device cpu: it needs TensorFlow" in cell["refuse"]


def test_samples_are_the_requests_or_the_datasets() -> None:
    assert cells(benchmark="resnet50")[0]["recipe"]["values"]["samples"] == 50000
    (cell,) = cells(benchmark="llama2-70b", samples=7)
    assert cell["recipe"]["values"]["samples"] == 7
    (cell,) = cells(benchmark="resnet50", samples=7)
    assert "resnet50 counts the dataset itself: it has no option samples" in cell["refuse"]


def test_own_sources_are_never_closed() -> None:
    asked = {"benchmark": "resnet50", "dataset_path": "/d", "source_override": "/src/inference"}
    (cell,) = cells(**asked)
    assert cell["refuse"] is None
    assert not cell["submittable"]
    assert cell["why_not_submittable"] == "source_override: not the round's own source"
    assert cell["needs"]["tree"]["override"] == "/src/inference"
    (cell,) = cells(**asked, division="closed")
    assert "source_override: division closed takes the round's own source only" in cell["refuse"]
    (cell,) = cells(benchmark="resnet50", loadgen_source="/src/loadgen", division="network")
    assert cell["refuse"].startswith("loadgen_source: division network")
    (cell,) = cells(benchmark="resnet50", loadgen_source="/src/loadgen", duration="official")
    assert not cell["submittable"]
    assert "loadgen_version" not in cell["rules"]
    (cell,) = cells(benchmark="digits", implementation="onnx", source_override="/src/x")
    assert "implementation onnx is not built from a tree" in cell["refuse"]
