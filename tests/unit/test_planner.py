# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The plan: every combination that was asked for is a cell; one that cannot run says why."""

from __future__ import annotations

import copy
import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import planner
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import OURS, Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.cell import OVERHEAD_S
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.digest import canonical, run_digest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse

CATALOG = Catalog()
HOST: dict[str, dict[str, Any]] = {"node": {}}


def plan(
    hosts: dict[str, dict[str, Any]] | None = None, *, calibrate: bool = False, **variables: Any
) -> list[dict[str, Any]]:
    return planner.plan(parse(variables), hosts or HOST, CATALOG, calibrate)


def one(**variables: Any) -> dict[str, Any]:
    (cell,) = plan(**({"scenario": "Offline", "mode": "performance"} | variables))
    return cell


def test_every_combination_is_one_cell() -> None:
    hosts = {
        "gpu": {"benchfleet_suts": [{"name": "one", "devices": [0]}, {"name": "eight"}]},
        "cpu": {},
    }
    benchmarks, scenarios = ("digits", "resnet50"), ("Interactive", "Offline", "Server")
    modes = ("performance", "accuracy")
    asked = {"benchmark": benchmarks, "scenario": scenarios, "mode": modes}
    cells = plan(hosts, **asked)
    wanted = itertools.product(("one", "eight", "cpu"), benchmarks, ("onnx",), scenarios, modes)
    assert [c["id"] for c in cells] == ["/".join(parts) for parts in wanted]
    assert len({c["id"] for c in cells}) == len(cells)
    interactive = [c for c in cells if c["scenario"] == "Interactive"]
    assert all(c["refuse"] for c in interactive)
    assert "digits has no Interactive scenario" in interactive[0]["refuse"]
    assert {c["host"] for c in cells if c["sut"] in ("one", "eight")} == {"gpu"}
    assert {tuple(c["devices"]) for c in cells if c["sut"] == "one"} == {("0",)}


def test_models_of_the_users_multiply_cells_and_have_no_target_to_reach() -> None:
    cells = plan(benchmark="digits", model_path="/m/a.onnx,/m/b.onnx", scenario="Offline")
    assert [c["benchmark"] for c in cells] == ["digits.a"] * 2 + ["digits.b"] * 2
    assert cells[0]["rules"]["accuracy"] == [{"metric": "acc", "target": 0.0}]
    (own,) = CATALOG.get("benchmarks", "digits")["accuracy"]
    assert one()["rules"]["accuracy"] == [{"metric": "acc", "target": own["target"]}]
    assert own["target"] > 0


def test_a_host_must_have_what_is_stated_for_the_reference_model_and_dataset() -> None:
    asked = {"benchmark": "dlrm-v2", "implementation": "reference"}
    stated = CATALOG.get("benchmarks", "dlrm-v2")["resources"]
    assert one(**asked)["resources"] == stated
    assert one(**asked, dataset_path="/d")["resources"] == stated | {"disk_gb": None}
    assert one(**asked, model_path="/m/small")["resources"] is None
    debug = one(**asked, variant="debug")["resources"]
    assert debug["memory_gb"] is None
    assert debug["accelerators"] == 0 < stated["accelerators"]


def test_defaults_are_the_embedded_benchmark_in_all_scenarios_and_modes() -> None:
    scenarios = ("SingleStream", "MultiStream", "Offline", "Server")
    wanted = [(s, m) for s in scenarios for m in ("performance", "accuracy")]
    cells = plan()
    assert [(c["scenario"], c["mode"]) for c in cells] == wanted
    assert not any(c["refuse"] or c["skip"] or c["submittable"] for c in cells)


@pytest.mark.parametrize(
    ("round_", "system", "scenarios"),
    [
        ("v6.0", "edge", ["SingleStream", "MultiStream", "Offline"]),
        ("v6.0", "datacenter,edge", ["SingleStream", "MultiStream", "Offline", "Server"]),
    ],
)
def test_all_scenarios_are_those_that_the_round_requires(
    round_: str, system: str, scenarios: list[str]
) -> None:
    hosts = {"node": {"benchfleet_system_type": system}}
    cells = plan(hosts, benchmark="all", round=round_, mode="performance")
    resnet = [c["scenario"] for c in cells if c["benchmark"] == "resnet50"]
    assert resnet == scenarios
    required = CATALOG.get("rounds", round_)["benchmarks"]["resnet"]["required"][system]
    assert set(resnet) == set(required)


@pytest.mark.parametrize("round_", CATALOG.names("rounds"))
@pytest.mark.parametrize("system", ["edge", "datacenter"])
def test_all_benchmarks_are_those_of_the_round_for_this_system(round_: str, system: str) -> None:
    hosts = {"node": {"benchfleet_system_type": system}}
    cells = plan(hosts, benchmark="all", round=round_, mode="performance")
    rules = CATALOG.get("rounds", round_)["benchmarks"]
    required = {name for name, b in rules.items() if b["required"].get(system)}
    files = {c["catalog_benchmark"] for c in cells}
    known = [set(CATALOG.get("benchmarks", f)["checker_names"]) & required for f in files]
    assert set().union(*known) == required
    assert all(known), "a benchmark was planned that the round does not ask for"


def test_one_of_two_scenarios_is_enough() -> None:
    from_round = {"required": {"edge": ["Offline"]}, "one_of": {"edge": ["Server", "Interactive"]}}
    benchmark = {"scenarios": ["Offline", "Server", "Interactive"]}
    (sut,) = planner.declared("node", {})
    assert planner._scenarios(parse({}), sut, benchmark, from_round) == ["Offline", "Server"]


def test_all_implementations_are_those_that_run_the_benchmark(tmp_path: Path) -> None:
    (tmp_path / "implementations").mkdir()
    text = (OURS / "implementations" / "onnx.yml").read_text()
    text = text.replace("name: onnx", "name: other", 1)
    text = text.replace("[digits, resnet50, custom]", "[digits]")
    (tmp_path / "implementations" / "other.yml").write_text(text)
    catalog = Catalog(tmp_path)

    def names(benchmark: str) -> set[str]:
        asked = parse({"implementation": "all", "benchmark": benchmark})
        return {c["implementation"] for c in planner.plan(asked, HOST, catalog)}

    assert names("digits") == {"onnx", "other"}
    assert names("resnet50") == {"onnx", "reference"}


def test_auto_is_our_harness_where_it_runs_the_benchmark_and_upstreams_elsewhere() -> None:
    chosen = {b: plan(benchmark=b)[0]["implementation"] for b in ("digits", "resnet50", "bert")}
    assert chosen == {"digits": "onnx", "resnet50": "onnx", "bert": "reference"}


def test_a_benchmark_that_no_implementation_runs_is_planned_and_refused(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    ours = (OURS / "benchmarks" / "digits.yml").read_text()
    (tmp_path / "benchmarks" / "new.yml").write_text(
        ours.replace("name: digits\n", "name: new\n", 1)
    )
    for implementation, count in (("all", 16), ("onnx", 8), ("auto", 8)):
        asked = parse({"implementation": implementation, "benchmark": "new"})
        cells = planner.plan(asked, HOST, Catalog(tmp_path))
        assert len(cells) == count
        assert all(f"{c['implementation']} does not run new" in c["refuse"] for c in cells)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"benchmark": "resnet"}, ("benchmark 'resnet'", "'resnet50'")),
        ({"scenario": "offline"}, ("scenario=offline", "'Offline'", "SingleStream")),
        ({"mode": "acuracy"}, ("mode=acuracy", "'accuracy'", "performance")),
        ({"implementation": "onxn"}, ("implementation 'onxn'", "'onnx'")),
        ({"round": "v6.2"}, ("round 'v6.2'", "v5.0, v5.1, v6.0, v6.1")),
        ({"sut": "nod"}, ("sut=nod", "'node'")),
        ({"device": "cudo"}, ("device=cudo", "'cuda'", "openvino")),
    ],
)
def test_unknown_words_name_the_nearest_and_the_valid(
    variables: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(BenchfleetError) as caught:
        plan(**variables)
    for word in words:
        assert word in str(caught.value)


def test_several_hosts_are_planned_and_refused() -> None:
    pair = {"benchfleet_suts": [{"name": "pair", "members": ["a", "b"]}]}
    cells = plan({"a": pair, "b": pair})
    assert len(cells) == 8
    assert {c["host"] for c in cells} == {"a"}
    assert all("spans 2 hosts" in c["refuse"] for c in cells)


def test_a_sut_whose_first_member_is_not_in_the_play_is_refused() -> None:
    with pytest.raises(BenchfleetError, match="'elsewhere' is not a host of this play"):
        plan({"a": {"benchfleet_suts": [{"name": "x", "members": ["elsewhere"]}]}})


def test_one_name_for_two_suts_is_refused() -> None:
    twice = {"benchfleet_suts": [{"name": "x"}]}
    with pytest.raises(BenchfleetError, match="'x' is declared twice, by a and b"):
        plan({"a": twice, "b": twice})


def test_only_the_suts_that_were_asked_for() -> None:
    assert {c["sut"] for c in plan({"a": {}, "b": {}}, sut="b")} == {"b"}


def test_what_a_division_cannot_hold_is_refused() -> None:
    assert "division closed cannot hold it" in one(division="closed")["refuse"]
    datacenter = {"node": {"benchfleet_system_type": "datacenter"}}
    asked = {
        "benchmark": "resnet50",
        "dataset_path": "/d",
        "model_path": "/m.onnx",
        "round": "v6.0",
    }
    refused = [c["refuse"] for c in plan(datacenter, division="closed", **asked)]
    assert refused
    assert all("no resnet for datacenter systems" in str(r) for r in refused)
    assert {c["refuse"] for c in plan(datacenter, division="open", **asked)} == {None}


def test_compliance_tests_of_a_closed_division_are_named_not_dropped() -> None:
    asked = {"benchmark": "resnet50", "dataset_path": "/d", "model_path": "/m.onnx"}
    cells = plan(division="closed", scenario="Offline", **asked)
    assert [c["mode"] for c in cells] == ["performance", "accuracy", "TEST01", "TEST04"]
    assert [bool(c["skip"]) for c in cells] == [False, False, True, True]
    assert len(plan(division="open", scenario="Offline", **asked)) == 2


@pytest.mark.parametrize("round_", CATALOG.names("rounds"))
def test_every_benchmark_of_a_round_has_a_file_and_one_without_is_known(round_: str) -> None:
    rules = copy.deepcopy(CATALOG.get("rounds", round_))
    assert planner.not_in_catalog(rules, ["edge", "datacenter"], CATALOG) == []
    rules["benchmarks"]["new-model"] = {"required": {"edge": ["Offline"]}}
    assert planner.not_in_catalog(rules, ["edge"], CATALOG) == ["new-model"]
    assert planner.not_in_catalog(rules, ["datacenter"], CATALOG) == []


def test_generated_inputs_skip_accuracy_and_need_no_dataset() -> None:
    cells = plan(benchmark="custom", model_path="/m.onnx", scenario="Offline")
    assert [(c["mode"], bool(c["skip"]), c["refuse"]) for c in cells] == [
        ("performance", False, None),
        ("accuracy", True, None),
    ]


def test_a_dataset_of_the_labs_own_is_asked_for() -> None:
    asked = {"benchmark": "resnet50", "model_path": "/m.onnx", "round": "v6.0"}
    assert "dataset_path=" in one(**asked)["refuse"]
    given = one(**asked, dataset_path="/d")
    assert given["refuse"] is None
    assert (given["dataset"]["origin"], given["dataset"]["where"]) == ("path", "/d")


def test_test_length_cannot_be_submitted_and_official_length_has_no_keys() -> None:
    asked = {
        "benchmark": "resnet50",
        "model_path": "/m.onnx",
        "dataset_path": "/d",
        "round": "v6.0",
    }
    test, official = one(**asked), one(**asked, duration="official")
    assert test["why_not_submittable"] == "a test-length run"
    assert test["keys"] == {"min_duration": 10000, "min_query_count": 1}
    assert (official["submittable"], official["keys"]) == (True, {})
    assert official["expected_s"] == 600 + OVERHEAD_S
    assert one(duration="official")["keys"]["min_duration"] == 600000


def test_time_limit_is_the_users_or_derived() -> None:
    assert one(time_limit=5)["time_limit_s"] == 5
    assert one(duration="official")["time_limit_s"] == 600 * 4 + 300


def test_targets_and_limits_reach_their_scenarios_only() -> None:
    asked = {"target_qps": 9, "target_latency": 4, "latency_limit": 7, "mode": "performance"}
    cells = {c["scenario"]: c for c in plan(**asked)}
    assert cells["SingleStream"]["target"] == {"target_latency_ms": 4.0}
    assert cells["Offline"]["target"] == {"target_qps": 9.0}
    assert cells["Server"]["keys"]["target_latency"] == 7.0
    assert "target_latency" not in cells["Offline"]["keys"]
    assert cells["Offline"]["options"]["latency_limit_ms"] is None


def test_calibrations_take_the_place_of_performance_cells() -> None:
    cells = plan(calibrate=True, target_qps=5)
    assert [c["id"].rpartition("/")[2] for c in cells] == ["calibration"] * 4
    assert all(c["target"] is None and c["mode"] == "calibration" for c in cells)


def test_rules_of_a_stored_cell_are_those_it_was_planned_with() -> None:
    for one_ in (*plan(), *plan(benchmark="resnet50", round="v6.0")):
        assert planner.rules_of(one_, CATALOG) == one_["rules"]


DIGESTS = {"model": "m", "dataset": "d", "code": "c", "lock": "l"}


def digest(cell: dict[str, Any], **digests: str) -> str:
    return run_digest(cell, DIGESTS | digests, {"kernel": "6.1"})


def test_digest_does_not_depend_on_order() -> None:
    cell = one()
    turned = dict(reversed(list(cell.items())))
    turned["keys"] = dict(reversed(list(cell["keys"].items())))
    assert digest(turned) == digest(cell)
    assert canonical({"a": 1, "b": 2}) == canonical({"b": 2, "a": 1}) != canonical({"a": 1})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sut", "other"),
        ("members", ["x"]),
        ("devices", ["0"]),
        ("profile", "MaxQ"),
        ("device", "cuda"),
        ("benchmark", "digits.copy"),
        ("catalog_benchmark", "custom"),
        ("implementation", "other"),
        ("scenario", "Server"),
        ("mode", "accuracy"),
        ("round", "v6.0"),
        ("duration", "official"),
        ("options", {"threads": 2}),
        ("keys", {"min_duration": 1}),
        ("loadgen_model", "x"),
        ("loadgen_version", "5.0.0"),
        ("run_prefix", "numactl"),
        ("target", {"target_qps": 3.0}),
        ("label_offset", -1),
        ("metric", "top5"),
        ("signature", None),
    ],
)
def test_digest_covers_what_determines_a_run(name: str, value: Any) -> None:
    cell = one()
    assert cell[name] != value
    assert digest(cell | {name: value}) != digest(cell)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("division", "closed"),
        ("time_limit_s", 1),
        ("expected_s", 1),
        ("system_type", "x"),
        ("rules", {}),
    ],
)
def test_digest_leaves_out_what_only_judges_or_limits(name: str, value: Any) -> None:
    cell = one()
    assert cell[name] != value
    assert digest(cell | {name: value}) == digest(cell)


def test_digest_covers_content_and_host() -> None:
    cell = one()
    seen = {digest(cell)} | {digest(cell, **{name: "x"}) for name in DIGESTS}
    seen.add(run_digest(cell, DIGESTS, {"kernel": "6.2"}))
    assert len(seen) == 2 + len(DIGESTS)


def test_the_catalog_is_not_changed_by_planning(tmp_path: Path) -> None:
    shutil.copytree(OURS / "benchmarks", tmp_path / "benchmarks")
    catalog = Catalog(tmp_path)
    before = canonical(catalog.get("benchmarks", "digits"))
    for cell in planner.plan(parse({}), HOST, catalog):
        cell["rules"]["accuracy"].clear()
        cell["options"].clear()
    assert canonical(catalog.get("benchmarks", "digits")) == before


@pytest.mark.parametrize(("devices", "gpus"), [([], 8), (["0", "3"], 2)])
def test_upstream_is_told_of_as_many_gpus_as_the_sut_names(devices: list[str], gpus: int) -> None:
    hosts = {"node": {"benchfleet_suts": [{"name": "node", "devices": devices}]}}
    asked = {"implementation": "reference", "device": "cuda", "division": "open"}
    asked |= {"scenario": "Offline", "mode": "performance", "round": "v6.0"}
    (cell,) = plan(hosts, benchmark="llama3.1-405b", **asked)
    values = cell["recipe"]["values"]
    assert (values["gpus"], values["dtype"]) == (gpus, "float16")
    assert CATALOG.get("benchmarks", "llama3.1-405b")["reference"]["values"]["gpus"] == 8
    (other,) = plan(hosts, benchmark="bert", **asked)
    assert "gpus" not in other["recipe"]["values"]
