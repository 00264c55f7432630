# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The request: what a person typed as short extra-vars, checked and typed before anything else
happens."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from .errors import BenchfleetError, nearest

SCENARIOS = ("SingleStream", "MultiStream", "Offline", "Server", "Interactive")
MODES = ("performance", "accuracy")
FOREIGN_PREFIXES = ("ansible_", "awx_", "tower_", "benchfleet_")


@dataclass(frozen=True)
class Request:
    """One request. Lists hold at least one entry; `("all",)` means what the round requires."""

    benchmark: tuple[str, ...] = ("digits",)
    scenario: tuple[str, ...] = ("all",)
    mode: tuple[str, ...] = ("all",)
    implementation: tuple[str, ...] = ("auto",)
    backend: str = ""
    variant: tuple[str, ...] = ()
    sut: tuple[str, ...] = ("all",)
    round: str = "v6.1"
    division: str = "open"
    duration: str = "test"
    rerun: bool = False
    recalibrate: bool = False
    debug: bool = False
    preflight_only: bool = False
    run_prefix: str = ""
    device: str = ""
    on_busy: str = "wait"
    quiet_host: str = "warn"
    time_limit: float | None = None
    model_path: tuple[Any, ...] = ()
    model_name: tuple[str, ...] = ()
    model_sha256: tuple[str, ...] = ()
    dataset_path: str = ""
    source_override: str = ""
    loadgen_source: str = ""
    input_shapes: Mapping[str, Any] = field(default_factory=dict)
    samples: int | None = None
    target_qps: float | None = None
    target_latency: float | None = None
    latency_limit: float | None = None
    threads: int | None = None
    instances: int | None = None
    batch_size: int | None = None
    affinity: bool | None = None


NAMES = tuple(f.name for f in fields(Request))
_CHOICES = {
    "division": ("closed", "open", "network"),
    "duration": ("test", "official"),
    "on_busy": ("wait", "fail"),
    "quiet_host": ("warn", "require", "off"),
}
_LISTS = (
    "benchmark",
    "scenario",
    "mode",
    "implementation",
    "variant",
    "sut",
    "model_path",
    "model_name",
    "model_sha256",
)
_WITH_ALL = ("benchmark", "scenario", "mode", "implementation", "variant", "sut")
_BOOLS = ("rerun", "recalibrate", "debug", "preflight_only", "affinity")
_INTS = ("samples", "threads", "instances", "batch_size")
_FLOATS = ("time_limit", "target_qps", "target_latency", "latency_limit")


def parse(variables: Mapping[str, Any]) -> Request:
    """Build the Request from variables of its own names; others are ignored, empty ones are
    defaults.

    Raises BenchfleetError naming the variable, what it holds and what it may hold.
    """
    given = {n: variables[n] for n in NAMES if variables.get(n) not in (None, "", [], {})}
    return Request(**{name: _value(name, value) for name, value in given.items()})


def check_names(
    extra_vars: Mapping[str, Any],
    settings: set[str],
    allowed: set[str],
    names: Sequence[str] = NAMES,
) -> None:
    """Refuse extra-vars that nobody reads, since a misspelt option would otherwise be dropped in
    silence.

    `settings` are the known `benchfleet_…` names; `allowed` are names of the lab's own
    (`benchfleet_other_vars`); `names` are the options of the playbook. Raises BenchfleetError with
    the nearest spelling.
    """
    for name in extra_vars:
        if name in names or name in settings or name in allowed:
            continue
        if name.startswith("benchfleet_"):
            raise BenchfleetError(f"setting '{name}' does not exist.{nearest(name, settings)}")
        if not name.startswith(FOREIGN_PREFIXES):
            raise BenchfleetError(
                f"option '{name}' does not exist.{nearest(name, names)}"
                " (A variable of your own: name it in benchfleet_other_vars.)"
            )


def _value(name: str, value: Any) -> Any:
    if name in _LISTS:
        return _list(name, value)
    if name in _BOOLS:
        return _bool(name, value)
    if name in _INTS:
        return _number(name, value, int)
    if name in _FLOATS:
        return _number(name, value, float)
    if name == "run_prefix":
        return _words(name, value)
    if name == "input_shapes":
        return _shapes(value)
    text = str(value).strip()
    if name in _CHOICES and text not in _CHOICES[name]:
        raise BenchfleetError(f"{name}={text} is not valid.{nearest(text, _CHOICES[name])}")
    return text


def _list(name: str, value: Any) -> tuple[Any, ...]:
    items = (
        value.split(",")
        if isinstance(value, str)
        else value
        if isinstance(value, (list, tuple))
        else [value]
    )
    cleaned = tuple(dict.fromkeys(str(i).strip() for i in items if str(i).strip()))
    if not cleaned:
        raise BenchfleetError(f"{name} is an empty list: {value!r}.")
    if name in _WITH_ALL and "all" in cleaned and len(cleaned) > 1:
        raise BenchfleetError(f"{name}={','.join(cleaned)}: 'all' stands alone.")
    return cleaned


def _words(name: str, value: Any) -> str:
    try:
        shlex.split(str(value))
    except ValueError as e:
        raise BenchfleetError(f"{name}={value} is not a command: {e}.") from None
    return str(value).strip()


def _bool(name: str, value: Any) -> bool:
    text = str(value).strip().lower()
    if text in ("true", "yes", "on", "1"):
        return True
    if text in ("false", "no", "off", "0"):
        return False
    raise BenchfleetError(f"{name}={value} is not valid. Valid: true, false.")


def _number(name: str, value: Any, kind: Callable[[Any], Any]) -> Any:
    try:
        number = kind(str(value))
    except ValueError:
        raise BenchfleetError(
            f"{name}={value} is not a {'whole ' if kind is int else ''}number."
        ) from None
    if not 0 < number < 1e15:
        raise BenchfleetError(f"{name}={value} must be above zero and below 1e15.")
    return number


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _shapes(value: Any) -> Mapping[str, Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            value = None
    good = isinstance(value, Mapping) and all(
        isinstance(s, (list, tuple)) and s and all(_is_size(d) for d in s) for s in value.values()
    )
    if not good:
        raise BenchfleetError(
            "input_shapes must name a shape for each input,"
            ' for example -e \'{"input_shapes": {"ids": [1, 128]}}\'.'
        )
    return dict(value)
