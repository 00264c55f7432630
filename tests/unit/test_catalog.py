# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The catalog: files found by name, checked against their schema, overlaid by the lab's own."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import OURS, Catalog, load
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.schema import problems

KINDS = {"rounds": "round", "benchmarks": "benchmark", "implementations": "implementation"}
FILES = sorted(p for kind in KINDS for p in (OURS / kind).glob("*.yml"))
DIGITS = OURS / "benchmarks" / "digits.yml"


def schema_of(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads((OURS / "schema" / f"{kind}.json").read_text())
    return schema


def library(value: Any, schema: dict[str, Any]) -> set[tuple[Any, ...]]:
    """The paths at which the jsonschema library finds a fault."""
    found = jsonschema.Draft202012Validator(schema).iter_errors(value)
    return {tuple(error.absolute_path) for error in found}


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_our_files_load_and_the_library_agrees(path: Path) -> None:
    kind = KINDS[path.parent.name]
    value = load(path, kind)
    assert library(value, schema_of(kind)) == set()
    assert problems(value, schema_of(kind)) == []


CHANGES: list[tuple[str, tuple[Any, ...], Any]] = [
    ("digits", ("name",), "Digits!"),
    ("digits", ("name",), 5),
    ("digits", ("title",), ""),
    ("digits", ("kind",), "mlperff"),
    ("digits", ("kind",), None),
    ("digits", ("scenarios",), []),
    ("digits", ("scenarios",), ["Offline", "Offline"]),
    ("digits", ("scenarios",), ["offline"]),
    ("digits", ("scenarios",), "Offline"),
    ("digits", ("artifacts", "digits", "origins", 0), {"url": "http://example.org/x"}),
    ("digits", ("artifacts", "digits", "origins", 0), {"url": "https://example.org/x", "md5": "1"}),
    ("digits", ("artifacts", "digits", "origins", 0), {"hf": "a/b", "revision": "main"}),
    ("digits", ("artifacts", "digits", "sha256"), "12"),
    ("digits", ("artifacts", "digits", "gate"), {"name": "x"}),
    ("bert", ("reference", "backends"), {}),
    ("bert", ("reference", "variables", "1A"), "x"),
    ("bert", ("reference", "command"), []),
    ("digits", ("model", "signature", "inputs"), {}),
    ("digits", ("model", "signature", "inputs", 0, "shape"), [1, "x"]),
    ("digits", ("model", "signature", "inputs", 0, "shape"), [1.0]),
    ("digits", ("dataset", "samples"), 0),
    ("digits", ("dataset", "samples"), 1.5),
    ("digits", ("dataset", "samples"), True),
    ("digits", ("dataset", "samples"), 500.0),
    ("digits", ("accuracy", 0, "target"), "98"),
    ("digits", ("accuracy", 0, "extra"), 1),
    ("digits", ("latency_limit_ms",), {"Offline": 5}),
    ("digits", ("latency_limit_ms",), {"Server": 0}),
    ("digits", ("latency_limit_ms",), {"Server": -0.5}),
    ("digits", ("test",), {}),
    ("digits", ("expected_s",), {"accuracy": -1}),
    ("digits", ("unknown",), 1),
    ("onnx", ("devices",), {}),
    ("onnx", ("devices", "cpu", "wheels"), [1]),
    ("onnx", ("environment", "X"), 5),
    ("onnx", ("environment", "X"), None),
    ("onnx", ("options", "threads", "type"), "integer"),
    ("onnx", ("benchmarks",), ["digits", "digits"]),
    ("onnx", ("role",), "harness-onnx"),
    ("v6.1", ("seeds", "qsl_rng_seed"), "1"),
    ("v6.1", ("min_duration_ms",), -1),
    ("v6.1", ("benchmarks",), []),
]


@pytest.mark.parametrize(("name", "where", "value"), CHANGES, ids=str)
def test_changed_files_are_judged_as_the_library_judges_them(
    name: str, where: tuple[Any, ...], value: Any
) -> None:
    path = next(p for p in FILES if p.stem == name)
    schema = schema_of(KINDS[path.parent.name])
    changed = copy.deepcopy(yaml.safe_load(path.read_text()))
    node = changed
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value
    ours = {found for found, _reason in problems(changed, schema)}
    # We report an unknown or ill-named key at the key, the library at the object that holds it.
    theirs = library(changed, schema)
    assert bool(ours) == bool(theirs)
    assert theirs <= ours | {found[:-1] for found in ours}


@pytest.mark.parametrize(
    "path", [DIGITS, OURS / "implementations" / "onnx.yml"], ids=lambda p: p.stem
)
def test_each_missing_key_is_named(path: Path) -> None:
    schema = schema_of(KINDS[path.parent.name])
    whole = yaml.safe_load(path.read_text())
    for name in schema["required"]:
        found = problems({k: v for k, v in whole.items() if k != name}, schema)
        assert found == [((), f"lacks '{name}'")]


SMALL: list[tuple[dict[str, Any], list[Any]]] = [
    ({"const": 3}, [3, 4, "3"]),
    ({"maximum": 2}, [2, 2.1, "9"]),
    ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, ["x", 4, 1]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, [1, 4, 3.5, "x"]),
    ({"patternProperties": {"^a": {"type": "integer"}}}, [{"ab": 1}, {"ab": "x"}, {"b": "x"}]),
    ({"properties": {"a": False}}, [{"a": 1}, {"b": 1}, {}]),
    ({"minItems": 1, "items": {"type": "null"}}, [[], [None], [1]]),
    ({"type": ["integer", "boolean"]}, [True, 1, 1.5, None]),
    ({"type": "number"}, [True, 1, 1.5, "1"]),
]


@pytest.mark.parametrize(("schema", "values"), SMALL, ids=lambda v: str(v)[:40])
def test_each_keyword_decides_as_the_library_does(
    schema: dict[str, Any], values: list[Any]
) -> None:
    verdicts = [not problems(value, schema) for value in values]
    assert verdicts == [not library(value, schema) for value in values]
    assert True in verdicts
    assert False in verdicts


def test_a_keyword_that_is_not_checked_is_an_error() -> None:
    with pytest.raises(ValueError, match="maxLength"):
        problems("x", {"type": "string", "maxLength": 3})


@pytest.fixture
def overlay(tmp_path: Path) -> Path:
    (tmp_path / "benchmarks").mkdir()
    shutil.copy(DIGITS, tmp_path / "benchmarks")
    return tmp_path


def edit(overlay: Path, old: str, new: str) -> Path:
    path = overlay / "benchmarks" / "digits.yml"
    text = path.read_text()
    assert text.count(old) >= 1
    path.write_text(text.replace(old, new, 1))
    return path


@pytest.mark.parametrize(
    ("old", "new", "at", "reason"),
    [
        ("kind: embedded", "kind: other", "kind: other", "kind must be one of"),
        ("  samples: 500", "  samples: many", "samples: many", "dataset.samples must be integer"),
        ("{name: logits,", "{nmae: logits,", "nmae", "model.signature.outputs.0 lacks 'name'"),
        ("metric: top1\n", "", "name: digits", "the file lacks 'metric'"),
        ("name: digits\n", "name: other\n", "name: other", "must be the file's own name 'digits'"),
        ("kind: embedded", "kind: a: b", "kind: a: b", "not valid YAML"),
        ("kind: embedded", "kind: embedded\n\tx: 1", "\tx: 1", "not valid YAML"),
    ],
)
def test_a_broken_file_is_reported_with_line_and_reason(
    overlay: Path, old: str, new: str, at: str, reason: str
) -> None:
    path = edit(overlay, old, new)
    line = path.read_text().partition(at)[0].count("\n") + 1
    with pytest.raises(BenchfleetError) as caught:
        Catalog(overlay).get("benchmarks", "digits")
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    "raw", [b"name: \xff\xfe", b"name: 2026-13-45", b"", b"- 1", b"a: &a [*a]"]
)
def test_whatever_a_file_holds_it_is_named(overlay: Path, raw: bytes) -> None:
    path = overlay / "benchmarks" / "digits.yml"
    path.write_bytes(raw)
    with pytest.raises(BenchfleetError) as caught:
        Catalog(overlay).get("benchmarks", "digits")
    assert str(path) in str(caught.value)


def test_several_faults_are_counted(overlay: Path) -> None:
    edit(overlay, "kind: embedded", "kind: other\nextra: 1")
    with pytest.raises(BenchfleetError, match="1 more problem"):
        Catalog(overlay).get("benchmarks", "digits")


def test_an_overlay_takes_the_place_of_ours_and_adds(overlay: Path) -> None:
    edit(overlay, "Handwritten", "My handwritten")
    ours = DIGITS.read_text().replace("name: digits\n", "name: mine\n", 1)
    (overlay / "benchmarks" / "mine.yml").write_text(ours)
    catalog = Catalog(overlay)
    assert catalog.get("benchmarks", "digits")["title"].startswith("My")
    assert catalog.get("benchmarks", "resnet50")["kind"] == "mlperf"
    assert {"mine", "digits", "resnet50"} <= set(catalog.names("benchmarks"))
    assert "mine" not in Catalog().names("benchmarks")


def test_data_files_come_from_the_overlay_first(overlay: Path) -> None:
    relative = "data/digits/digits.npz"
    assert Catalog(overlay).data(relative) == OURS / relative
    (overlay / "data" / "digits").mkdir(parents=True)
    (overlay / relative).touch()
    assert Catalog(overlay).data(relative) == overlay / relative
    with pytest.raises(BenchfleetError, match=r"none\.bin is missing"):
        Catalog(overlay).data("none.bin")


def test_a_missing_overlay_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchfleetError, match="benchfleet_catalog_path"):
        Catalog(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["resnet5", "Resnet50", "../benchmarks/resnet50", "/etc/passwd"])
def test_unknown_names_give_the_valid_ones(name: str) -> None:
    with pytest.raises(BenchfleetError) as caught:
        Catalog().get("benchmarks", name)
    assert f"benchmark '{name}' is not in the catalog." in str(caught.value)
    for valid in ("custom", "digits", "resnet50"):
        assert valid in str(caught.value)
