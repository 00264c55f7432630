# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which models a request means, and which are never downloaded."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.catalog import Catalog
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.models import Model, models
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.needs import Lab
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.request import parse

SHA, COMMIT = "ab" * 32, "c0" * 20
CATALOG = Catalog()


def asked(benchmark: str = "custom", **variables: Any) -> list[Model]:
    file = CATALOG.get("benchmarks", benchmark)
    name = (file["model"] or {}).get("artifact")
    return models(parse(variables), file, name, Lab({}), CATALOG)


def test_without_a_model_the_reference_runs() -> None:
    (model,) = asked("digits")
    assert (model.origin, model.reference, model.refuse) == ("catalog", True, None)


def test_custom_needs_a_model() -> None:
    with pytest.raises(BenchfleetError, match="model_path="):
        asked()


def test_a_reference_is_brought_by_what_upstream_publishes_of_it() -> None:
    (model,) = asked("resnet50")
    assert (model.origin, model.refuse, model.reference) == ("store", None, True)
    assert model.artifact
    assert model.artifact["origins"][0]["md5"] == "f6a4da60cd5f084d97efc2c1ddb10beb"
    assert "refuse" not in model.as_dict()


def test_a_reference_without_any_published_digest_is_planned_and_refused() -> None:
    (model,) = asked("rnnt")
    assert "no checksum of rnnt-pytorch is published" in str(model.refuse)
    assert "benchfleet_artifact_paths: {rnnt-pytorch:" in str(model.refuse)


def test_a_list_gives_each_model_its_name_and_digest() -> None:
    url = "https://example.org/b.onnx"
    found = asked(model_path=["/m/a.onnx", url], model_name="x,y", model_sha256=["cd" * 32, SHA])
    assert [(m.name, m.origin, m.where, m.sha256) for m in found] == [
        ("x", "path", "/m/a.onnx", "cd" * 32),
        ("y", "url", url, SHA),
    ]
    assert not any(m.reference for m in found)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/m/net.v2.onnx", "net.v2"),
        ("/m@home/net.onnx", "net"),
        ("/m/plain", "plain"),
        ("/m/ä b.onnx", "b"),
        ("/m/...", "model"),
        (f"hf:org/repo/sub/net.onnx@{COMMIT}", "net"),
    ],
)
def test_names_are_made_of_paths(path: str, name: str) -> None:
    assert asked(model_path=[path])[0].name == name


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"model_path": "/a.onnx,/b.onnx", "model_name": "x"}, "model_name has 1 entries"),
        ({"model_path": "/a.onnx", "model_sha256": [SHA, "cd" * 32]}, "model_sha256 has 2"),
        ({"model_path": "/a/m.onnx,/b/m.onnx"}, "same name"),
        ({"model_path": "/a,/b", "model_name": "x y,x-y"}, "same name"),
        ({"model_path": "/a.onnx", "model_sha256": "abc"}, "64 hexadecimal digits"),
        ({"model_path": "https://example.org/m.onnx"}, "only with its digest"),
        ({"model_path": "http://example.org/m.onnx", "model_sha256": SHA}, "only https"),
        ({"model_path": "file:///m.onnx"}, "only https"),
        ({"model_path": "hf:org/repo/m.onnx@main"}, "'main' can move"),
        ({"model_path": "hf:org/repo/m.onnx"}, "is not hf:"),
        ({"model_path": "hf:org/m.onnx@main"}, "is not hf:"),
        ({"model_path": "models/m.onnx"}, "must be absolute"),
    ],
)
def test_refuses(variables: dict[str, Any], words: str) -> None:
    with pytest.raises(BenchfleetError, match=words):
        asked(**variables)


def test_a_moving_revision_is_fixed_by_a_digest_and_a_commit_needs_none() -> None:
    assert asked(model_path="hf:o/r/m.onnx@main", model_sha256=SHA)[0].sha256 == SHA
    assert asked(model_path=f"hf:o/r/m.onnx@{COMMIT}")[0].origin == "hf"
