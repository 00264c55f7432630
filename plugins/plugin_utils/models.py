# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which model a cell runs: the benchmark's reference, or one of the user's."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .catalog import Catalog
from .errors import BenchfleetError
from .request import Request

_HF = re.compile(r"^hf:(?P<repo>[\w.-]+/[\w.-]+)/(?P<file>[^@]+)@(?P<revision>.+)$")
_NAME = re.compile(r"[^A-Za-z0-9_.+-]+")


@dataclass(frozen=True)
class Model:
    """A model and where it comes from.

    `origin` is 'catalog' (a data file of ours), 'path' (on the SUT, else on the controller), 'url'
    or 'hf'.
    """

    name: str
    origin: str
    where: str
    sha256: str | None = None
    reference: bool = False
    refuse: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the model as plain data for a cell (without the verdict)."""
        return {k: v for k, v in asdict(self).items() if k != "refuse"}


def models(request: Request, benchmark: Mapping[str, Any], catalog: Catalog) -> list[Model]:
    """Return the models to run: the user's (one or a list), else the benchmark's reference.

    Raises BenchfleetError for lists of unequal length, a download without a digest, or no model at
    all.
    """
    if not request.model_path:
        return [_reference(benchmark, catalog)]
    count = len(request.model_path)
    for name in ("model_name", "model_sha256"):
        given = len(getattr(request, name))
        if given not in (0, count):
            raise BenchfleetError(
                f"{name} has {given} entries, model_path has {count}: give one for each model."
            )
    names = request.model_name or tuple(_stem(str(p)) for p in request.model_path)
    names = tuple(_NAME.sub("-", n).strip("-.") or "model" for n in names)
    if len(set(names)) < count:
        raise BenchfleetError(
            f"two models have the same name ({', '.join(names)}): set model_name for each."
        )
    digests = request.model_sha256 or (None,) * count
    return [_own(str(p), n, d) for p, n, d in zip(request.model_path, names, digests, strict=True)]


def artifact_spec(model: Mapping[str, Any], tags: list[str]) -> dict[str, Any]:
    """Return a cell's model of origin 'url' or 'hf' as the artifact store takes it."""
    origin: dict[str, Any] = {"url": model["where"]}
    found = _HF.match(model["where"])
    if found:
        origin = {"hf": found["repo"], "revision": found["revision"], "files": [found["file"]]}
    return {
        "name": model["name"],
        "type": "model",
        "origins": [origin],
        "sha256": model["sha256"],
        "tags": tags,
    }


def _stem(path: str) -> str:
    """Return the file's name without its ending: the name of a model that was given none."""
    file = path.split("@", 1)[0] if path.startswith("hf:") else path
    return file.rstrip("/").rsplit("/", 1)[-1].rsplit(".", 1)[0] or "model"


def _own(path: str, name: str, sha256: str | None) -> Model:
    if sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise BenchfleetError(
            f"model_sha256 of {name} is not a sha256 (64 hexadecimal digits): {sha256}."
        )
    if path.startswith("hf:"):
        found = _HF.match(path)
        if not found:
            raise BenchfleetError(f"{path} is not hf:<owner>/<repo>/<file>@<revision>.")
        if not sha256 and not re.fullmatch(r"[0-9a-f]{40}", found["revision"]):
            raise BenchfleetError(
                f"{path}: revision '{found['revision']}' can move;"
                " give the commit (40 digits), or model_sha256."
            )
        return Model(name, "hf", path, sha256)
    if path.startswith("https://"):
        if not sha256:
            raise BenchfleetError(
                f"{path} is downloaded only with its digest:"
                " -e model_sha256=<64 hexadecimal digits>."
            )
        return Model(name, "url", path, sha256)
    if "://" in path:
        raise BenchfleetError(
            f"{path}: only https:// and hf: are downloaded; anything else must be a path."
        )
    if not path.startswith("/"):
        raise BenchfleetError(
            f"model_path={path} must be absolute (it is looked for on the SUT, then here)."
        )
    return Model(name, "path", path, sha256)


def _reference(benchmark: Mapping[str, Any], catalog: Catalog) -> Model:
    model = benchmark["model"]
    if model is None:
        raise BenchfleetError(
            f"benchmark={benchmark['name']} needs a model of yours: -e model_path=/models/x.onnx."
        )
    artifact = model["artifact"] or {}
    if artifact.get("file"):
        return Model(
            model["name"], "catalog", str(catalog.data(artifact["file"])), artifact["sha256"], True
        )
    if artifact.get("url") and artifact["sha256"]:
        return Model(model["name"], "url", artifact["url"], artifact["sha256"], True)
    return Model(
        model["name"],
        "url",
        artifact.get("url", ""),
        None,
        True,
        f"no sha256 of {model['name']} is published;"
        " give yours with -e model_path=<path, or URL with model_sha256>"
        f" (upstream: {artifact.get('url', 'none')})",
    )
