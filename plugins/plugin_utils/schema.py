# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validate catalog data against the subset of JSON Schema that our schemas use.

ansible-core brings no validator and a plain checkout must run without an install step, so these few
keywords are checked here; a test holds the outcome against the jsonschema library.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
KEYWORDS = frozenset(
    (
        *("$schema", "$id", "$ref", "$defs", "$comment", "title", "description"),
        *("type", "enum", "const", "anyOf", "oneOf"),
        *("properties", "required", "additionalProperties", "propertyNames"),
        *("patternProperties", "minProperties", "items", "minItems", "uniqueItems"),
        *("pattern", "minLength", "minimum", "exclusiveMinimum", "maximum"),
    )
)
Problem = tuple[tuple[str | int, ...], str]


def problems(value: Any, schema: dict[str, Any]) -> list[Problem]:
    """List what in `value` breaks `schema` as (path, reason).

    Raises ValueError when the schema itself uses a keyword that is not in KEYWORDS.
    """
    return list(_walk(value, schema, schema, ()))


def _walk(
    value: Any, schema: Any, root: dict[str, Any], path: tuple[str | int, ...]
) -> Iterator[Problem]:
    if schema is True:
        return
    if schema is False:
        yield path, "is not allowed here"
        return
    unknown = set(schema) - KEYWORDS
    if unknown:
        raise ValueError(f"the schema uses keywords that are not supported: {sorted(unknown)}")
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        yield from _walk(value, target, root, path)
    if "type" in schema and not _is_type(value, schema["type"]):
        wanted = schema["type"] if isinstance(schema["type"], str) else " or ".join(schema["type"])
        yield path, f"must be {wanted}, is {type(value).__name__} {value!r:.60}"
        return
    yield from _scalar(value, schema, path)
    if isinstance(value, dict):
        yield from _object(value, schema, root, path)
    if isinstance(value, list):
        yield from _array(value, schema, root, path)
    for word in ("anyOf", "oneOf"):
        if word in schema:
            hits = [not list(_walk(value, s, root, path)) for s in schema[word]].count(True)
            if hits == 0 or (word == "oneOf" and hits > 1):
                yield path, f"fits {hits} of the {len(schema[word])} forms allowed: {value!r:.60}"


def _is_type(value: Any, names: str | list[str]) -> bool:
    for name in [names] if isinstance(names, str) else names:
        if isinstance(value, bool) and name != "boolean":
            continue
        if isinstance(value, _TYPES[name]):
            return True
        if name == "integer" and isinstance(value, float) and value.is_integer():
            return True
    return False


def _scalar(value: Any, schema: dict[str, Any], path: tuple[str | int, ...]) -> Iterator[Problem]:
    if "enum" in schema and value not in schema["enum"]:
        yield path, f"must be one of {schema['enum']}, is {value!r:.60}"
    if "const" in schema and value != schema["const"]:
        yield path, f"must be {schema['const']!r}, is {value!r:.60}"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield path, f"does not match {schema['pattern']}: {value!r:.60}"
        if len(value) < schema.get("minLength", 0):
            yield path, "must not be empty"
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if value < schema.get("minimum", value):
            yield path, f"must be at least {schema['minimum']}, is {value}"
        if value > schema.get("maximum", value):
            yield path, f"must be at most {schema['maximum']}, is {value}"
        if "exclusiveMinimum" in schema and value <= schema["exclusiveMinimum"]:
            yield path, f"must be above {schema['exclusiveMinimum']}, is {value}"


def _object(
    value: dict[str, Any], schema: dict[str, Any], root: dict[str, Any], path: tuple[str | int, ...]
) -> Iterator[Problem]:
    for name in schema.get("required", ()):
        if name not in value:
            yield path, f"lacks '{name}'"
    if len(value) < schema.get("minProperties", 0):
        yield path, f"needs at least {schema['minProperties']} entries"
    known = schema.get("properties", {})
    patterns = schema.get("patternProperties", {})
    for name, item in value.items():
        here = (*path, name)
        for _unused in _walk(name, schema.get("propertyNames", True), root, here):
            yield here, f"'{name}' is not a valid name here"
        matched = [s for pattern, s in patterns.items() if re.search(pattern, str(name))]
        if name in known:
            matched.append(known[name])
        for sub in matched:
            yield from _walk(item, sub, root, here)
        if not matched:
            extra = schema.get("additionalProperties", True)
            if extra is False:
                yield here, f"'{name}' is not known here; known are: {', '.join(sorted(known))}"
            else:
                yield from _walk(item, extra, root, here)


def _array(
    value: list[Any], schema: dict[str, Any], root: dict[str, Any], path: tuple[str | int, ...]
) -> Iterator[Problem]:
    if len(value) < schema.get("minItems", 0):
        yield path, f"needs at least {schema['minItems']} items"
    if schema.get("uniqueItems") and any(item in value[:i] for i, item in enumerate(value)):
        yield path, "names an item twice"
    for i, item in enumerate(value):
        yield from _walk(item, schema.get("items", True), root, (*path, i))
