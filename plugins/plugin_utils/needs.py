# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a cell needs beside its harness: models, datasets and files, and where each comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .catalog import Catalog
from .digest import canonical

_CHECKED_BY_ITSELF = ("mlcommons", "hf", "git")  # origins that publish digests of their files


@dataclass(frozen=True)
class Lab:
    """What the lab has: `paths` of its own copies by artifact name, `consents` given by name, and
    `inference_repo`, its clone of mlcommons/inference (path or URL)."""

    paths: Mapping[str, str]
    consents: frozenset[str] = frozenset()
    inference_repo: str = "https://github.com/mlcommons/inference"


def need(
    benchmark: Mapping[str, Any], name: str | None, given: str, lab: Lab, catalog: Catalog
) -> dict[str, Any] | None:
    """Return an artifact as {"name", "origin", "where", "sha256"}, None where `name` is None.

    `given` is a path of the request's (it comes before the lab's own and the catalog's origins).
    `origin` is 'catalog' (a data file of ours), 'path' (on the SUT, else on the controller),
    'store' (brought by `artifact`, a spec of the artifact store), or 'derived' (made on the host
    as `derive` says). A path or derived one has the `layout` that it is verified by; one that
    cannot be had has `refuse`.
    """
    if name is None and not given:
        return None
    artifact: Mapping[str, Any] = benchmark["artifacts"].get(name, {})
    found: dict[str, Any] = {"name": name or "own", "origin": "path", "where": "", "sha256": None}
    path = given or lab.paths.get(str(name), "")
    if path:
        return found | {"where": path, "layout": [] if given else artifact.get("layout", [])}
    refuse = refusal(str(name), artifact, lab)
    if "derive" in artifact and not artifact["origins"]:
        about = {k: artifact[k] for k in ("type", "derive")} | {
            "layout": artifact.get("layout", [])
        }
        where = canonical([name, {k: v for k, v in artifact["derive"].items() if k != "needs_gb"}])
        return found | {"origin": "derived", "where": where, **about, "refuse": refuse}
    sha256 = artifact.get("sha256")
    file = next((o["file"] for o in artifact["origins"] if "file" in o), None)
    if file:
        return found | {"origin": "catalog", "where": str(catalog.data(file)), "sha256": sha256}
    spec = {
        "name": name,
        "type": artifact["type"],
        "origins": artifact["origins"],
        "sha256": sha256,
        "bytes": artifact["bytes"],
        "tags": [benchmark["name"], artifact["type"]],
    }
    where = canonical(artifact["origins"])
    found |= {"origin": "store", "where": where, "sha256": sha256, "artifact": spec}
    return found | {"refuse": refuse}


def source(recipe: Mapping[str, Any], override: str, lab: Lab) -> dict[str, Any]:
    """Return the source tree of a harness as a need: mlcommons/inference at a commit, the folders
    that the harness uses, patches applied to a private copy.

    Where it is fetched from does not count for what it is. With `override` (a path or URL@ref of
    the lab's own) the plan puts the digest of that tree in.
    """
    what = recipe["source"]
    repository = what["repository"] or lab.inference_repo
    origin = {"git": repository, "commit": what["commit"], "paths": what["paths"]}
    if what["submodules"]:
        origin["submodules"] = {path: {} for path in what["submodules"]}
    spec = {
        "name": repository.rstrip("/").rpartition("/")[2].removesuffix(".git"),
        "type": "source",
        "origins": [origin],
        "sha256": None,
        "bytes": None,
        "tags": ["source", what["commit"][:12]],
    }
    content = [what[k] for k in ("commit", "paths", "submodules", "patches")]
    return {
        "name": spec["name"],
        "origin": "store",
        "where": canonical(content),
        "sha256": None,
        "artifact": spec,
        "patches": [p["file"] for p in what["patches"]],
        "override": override or None,
    }


def gates(benchmark: Mapping[str, Any], needs: list[dict[str, Any]], lab: Lab) -> list[Any]:
    """Return the gates that stand before `needs`, each with whether it is `satisfied`."""
    found = []
    for entry in needs:
        gate = benchmark["artifacts"].get(entry["name"], {}).get("gate")
        if gate:
            open_ = entry["origin"] == "path" or not _closed(gate, lab)
            found.append({"artifact": entry["name"], **gate, "satisfied": open_})
    return found


def _closed(gate: Mapping[str, Any], lab: Lab) -> bool:
    return gate["how"] == "own-copy" or gate["name"] not in lab.consents


def refusal(name: str, artifact: Mapping[str, Any], lab: Lab) -> str | None:
    """Return why an artifact cannot be downloaded, in words that say what to do."""
    gate, own = artifact["gate"], f"benchfleet_artifact_paths: {{{name}: <path on the SUT>}}"
    if gate and gate["how"] == "own-copy":
        return f"{name} must be the lab's own copy ({own}). {gate['terms']}: {gate['where']}"
    if gate and gate["name"] not in lab.consents:
        return (
            f"{name} is downloaded only after consent: read {gate['where']} ({gate['terms']}), then"
            f" ansible-playbook consent.yml -e consent={gate['name']} -e consent_by=<your name>;"
            f" or give the lab's own copy ({own})"
        )
    if not artifact["origins"]:
        return _by_hand(name, artifact.get("derive"), own)
    checked = artifact.get("sha256") or any(
        {"sha256", "md5", *_CHECKED_BY_ITSELF} & set(o) for o in artifact["origins"]
    )
    if checked:
        return None
    first = artifact["origins"][0].get("url", "its origin")
    return f"no checksum of {name} is published; download {first} yourself and give it ({own})"


def _by_hand(name: str, derive: Mapping[str, Any] | None, own: str) -> str | None:
    """Return that an artifact has to come from the lab, None when the host can make it."""
    if derive is None:
        return f"{name} is published nowhere; give the lab's own copy ({own})"
    if derive["environment"]:
        return None
    program = next((w for w in derive["command"] if w.startswith("{folder}/")), "a program")
    return (
        f"{name} is made by upstream's {program.removeprefix('{folder}/')}, whose packages are not"
        f" locked here: make it by hand and give it ({own})"
    )
