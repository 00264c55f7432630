# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the catalog: rounds, benchmarks and implementations as data, ours overlaid by the lab's
own."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from .errors import BenchfleetError, nearest
from .schema import Problem, problems

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
OURS = Path(__file__).resolve().parents[2] / "catalog"


class Catalog:
    """The catalog's three kinds of file, each found by its name.

    `overlay` is a user's own folder of the same layout (`benchfleet_catalog_path`); a file there
    takes the place of ours of the same name.
    """

    def __init__(self, overlay: str | Path | None = None) -> None:
        self.folders = [OURS]
        if overlay:
            folder = Path(overlay).expanduser().absolute()
            if not folder.is_dir():
                raise BenchfleetError(f"benchfleet_catalog_path: {folder} is not a folder.")
            self.folders.insert(0, folder)
        self._cache: dict[Path, dict[str, Any]] = {}

    def names(self, kind: str) -> list[str]:
        """Return the names of all files of `kind` ('rounds', 'benchmarks', 'implementations')."""
        return sorted({p.stem for f in self.folders for p in (f / kind).glob("*.yml")})

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """Return one validated file's content.

        Raises BenchfleetError naming the nearest spelling (unknown name), or file, line and reason.
        """
        for folder in self.folders:
            path = folder / kind / f"{name}.yml"
            if path.is_file() and path.parent.name == kind and "/" not in name:
                if path not in self._cache:
                    self._cache[path] = load(path, kind.removesuffix("s"))
                return self._cache[path]
        word = kind.removesuffix("s")
        raise BenchfleetError(
            f"{word} '{name}' is not in the catalog.{nearest(name, self.names(kind))}"
        )

    def data(self, relative: str) -> Path:
        """Return the path of a data file that a catalog file names (overlay first).

        Raises BenchfleetError when no folder has it.
        """
        for folder in self.folders:
            if (folder / relative).is_file():
                return folder / relative
        raise BenchfleetError(
            f"catalog data file {relative} is missing;"
            f" looked in {', '.join(map(str, self.folders))}."
        )


@functools.cache
def _schema(kind: str) -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(
        (OURS / "schema" / f"{kind}.json").read_text(encoding="utf-8")
    )
    return schema


def load(path: Path, kind: str) -> dict[str, Any]:
    """Parse and validate one catalog file of `kind` ('round', 'benchmark', 'implementation').

    Raises BenchfleetError with file, line and reason for bad YAML, a schema violation, or a file
    whose `name` is not its own file name.
    """
    text, value = "", None
    try:
        text = path.read_text(encoding="utf-8")
        value = yaml.load(text, Loader=_Loader)
    except OSError as e:
        raise BenchfleetError(f"{path}: cannot be read: {e.strerror}.") from None
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise BenchfleetError(
            f"{path}{line}: not valid YAML: {getattr(e, 'problem', e)}."
        ) from None
    except ValueError as e:  # bytes that are no UTF-8, a date that does not exist
        raise BenchfleetError(f"{path}: not valid YAML: {e}.") from None
    found = problems(value, _schema(kind))
    if not found and value["name"] != path.stem:
        found = [(("name",), f"must be the file's own name '{path.stem}', is '{value['name']}'")]
    if not found and kind == "benchmark":
        found = list(_dangling(value))
    if found:
        where, reason = found[0]
        more = f" ({len(found) - 1} more problems)" if len(found) > 1 else ""
        spot = ".".join(map(str, where)) or "the file"
        raise BenchfleetError(f"{path}:{_line(text, where)}: {spot} {reason}.{more}")
    checked: dict[str, Any] = value
    return checked


def _dangling(benchmark: Mapping[str, Any]) -> Iterator[Problem]:
    """Find names of artifacts that the benchmark does not have, as (path, reason)."""
    have = benchmark["artifacts"]
    for path, name in _named_artifacts(benchmark):
        if name is not None and name not in have:
            hint = nearest(name, have)
            yield path, f"names an artifact '{name}' that is not among artifacts.{hint}"


def _named_artifacts(benchmark: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    for part in ("model", "dataset"):
        if benchmark[part]:
            yield (part, "artifact"), benchmark[part]["artifact"]
    for name, artifact in benchmark["artifacts"].items():
        for word, source in artifact.get("derive", {}).get("from", {}).items():
            yield ("artifacts", name, "derive", "from", word), source
    reference = benchmark.get("reference", {})
    for word, name in reference.get("uses", {}).items():
        yield ("reference", "uses", word), name
    for kind in ("backends", "variants"):
        for entry, how in reference.get(kind, {}).items():
            for part in ("model", "dataset"):
                yield ("reference", kind, entry, part), how.get(part)


def _line(text: str, where: tuple[str | int, ...]) -> int:
    """Return the 1-based line of the deepest node on the path `where` that exists."""
    node = yaml.compose(text, Loader=yaml.SafeLoader)
    line = node.start_mark.line + 1 if node else 1
    for key in where:
        if isinstance(node, yaml.MappingNode):
            hit = next(((k, v) for k, v in node.value if k.value == str(key)), None)
            if hit is None:
                break
            line, node = hit[0].start_mark.line + 1, hit[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(key, int) and key < len(node.value):
            node = node.value[key]
            line = node.start_mark.line + 1
        else:
            break
    return line
