# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of the machine that change what it measures: found, set, and put back.

A setting (`cpu_governor`) has one or more targets (one file for each CPU policy, one GPU). A target
is a path below the root of the file system, or `gpu:<uuid>:<property>`.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Callable, Iterable, Mapping, Sequence

from .host_store import HostError

KEEP = "keep"  # the value of a setting that is left alone
# A command's (exit code, stdout, stderr); exit code None: there is no such command.
Run = Callable[[Sequence[str]], "tuple[int | None, str, str]"]

# setting -> where it lives; the first pattern that matches anything counts
FILES = {
    "cpu_governor": (
        "sys/devices/system/cpu/cpufreq/policy*/scaling_governor",
        "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor",
    ),
    "cpu_energy_preference": (
        "sys/devices/system/cpu/cpufreq/policy*/energy_performance_preference",
    ),
    "transparent_hugepages": ("sys/kernel/mm/transparent_hugepage/enabled",),
    "transparent_hugepages_defrag": ("sys/kernel/mm/transparent_hugepage/defrag",),
    "numa_balancing": ("proc/sys/kernel/numa_balancing",),
    "nmi_watchdog": ("proc/sys/kernel/nmi_watchdog",),
    "aslr": ("proc/sys/kernel/randomize_va_space",),
}
# file -> its neighbour that lists the values it takes
OFFERED = {
    "scaling_governor": "scaling_available_governors",
    "energy_performance_preference": "energy_performance_available_preferences",
}
IDLE_STATES = "cpu_idle_states_off"
QUERY = ("uuid", "persistence_mode", "power.limit", "clocks.max.graphics", "clocks.max.memory")
# setting -> column of QUERY that shows whether the device has it, and nvidia-smi's option
COLUMN = {
    "nvidia_persistence_mode": 1,
    "nvidia_power_limit": 2,
    "nvidia_graphics_clocks": 3,
    "nvidia_memory_clocks": 4,
}
OPTION = {
    "nvidia_persistence_mode": "-pm",
    "nvidia_power_limit": "-pl",
    "nvidia_graphics_clocks": "-lgc",
    "nvidia_memory_clocks": "-lmc",
}
UNLOCK = {"nvidia_graphics_clocks": "-rgc", "nvidia_memory_clocks": "-rmc"}
SETTINGS = (*FILES, IDLE_STATES, *COLUMN)
UNLOCKED = "unlocked"


@dataclass(frozen=True)
class Item:
    """One target of a setting: its value now, the wanted one, and why it cannot be had ('': can).

    `now` is None where there is nothing to read.
    """

    setting: str
    target: str
    now: str | None
    wanted: str
    why: str = ""

    @property
    def differs(self) -> bool:
        """Whether there is something to set."""
        return not self.why and self.now != self.wanted


class Files:
    """Settings that are files of the kernel, below `root`."""

    def __init__(self, root: str = "/") -> None:
        self.root = Path(root)

    def look(self, wanted: Mapping[str, str], idle_states: Sequence[int]) -> list[Item]:
        """Return what is found of each wanted setting; a setting that the host lacks gives one
        item that says so."""
        found: list[Item] = []
        for setting, value in wanted.items():
            patterns = FILES[setting]
            matches = (self._matches(pattern) for pattern in patterns)
            targets: list[str] = next((m for m in matches if m), [])
            found += [self._item(setting, target, value) for target in targets] or [
                Item(setting, "", None, value, f"no /{patterns[0]}")
            ]
        for state in idle_states:
            pattern = f"sys/devices/system/cpu/cpu[0-9]*/cpuidle/state{state}/disable"
            targets = self._matches(pattern)
            found += [self._item(IDLE_STATES, target, "1") for target in targets] or [
                Item(IDLE_STATES, "", None, "1", f"no /{pattern}")
            ]
        return found

    def read(self, target: str) -> str | None:
        """Return a value; of a list of choices (`always [madvise] never`) the chosen one."""
        try:
            text = (self.root / target).read_text(encoding="utf-8").strip()
        except OSError:
            return None
        chosen = re.search(r"\[(\S+)\]", text)
        return chosen.group(1) if chosen else text

    def write(self, target: str, value: str) -> None:
        """Set a value. Raises OSError, in the kernel's own words."""
        with open(self.root / target, "w", encoding="utf-8") as stream:
            stream.write(value + "\n")

    def _matches(self, pattern: str) -> list[str]:
        found = [str(p.relative_to(self.root)) for p in self.root.glob(pattern)]
        return sorted(found, key=lambda p: [int(n) for n in re.findall(r"\d+", p)])

    def _item(self, setting: str, target: str, wanted: str) -> Item:
        item = Item(setting, target, self.read(target), wanted)
        offered = self._offered(target)
        if item.now is None:
            return replace(item, why=f"/{target} cannot be read")
        if offered and wanted not in offered:
            return replace(item, why=f"/{target} takes only {', '.join(offered)}")
        if item.differs and os.geteuid() == 0 and not os.access(self.root / target, os.W_OK):
            return replace(item, why=f"/{target} is read-only here, as in a container")
        return item

    def _offered(self, target: str) -> list[str]:
        path = self.root / target
        neighbour = OFFERED.get(path.name)
        try:
            if neighbour:
                return (path.parent / neighbour).read_text(encoding="utf-8").split()
            text = path.read_text(encoding="utf-8")
        except OSError:
            return []
        return text.replace("[", "").replace("]", "").split() if "[" in text else []


class Gpus:
    """Settings of NVIDIA devices, through nvidia-smi.

    It tells no locked clocks: what a state file does not say to be locked counts as unlocked.
    """

    def __init__(self, run: Run, locked: Mapping[str, str]) -> None:
        """`locked` are the targets of clocks that we have locked on this host, and their values."""
        self._run = run
        self._locked = dict(locked)
        self._rows = self._query()

    def look(self, wanted: Mapping[str, str]) -> list[Item]:
        """Return what is found of each wanted setting, device by device."""
        found = []
        for setting, value in wanted.items():
            if not self._rows:
                found.append(Item(setting, "", None, value, "no NVIDIA device answers nvidia-smi"))
            for uuid in self._rows:
                target = f"gpu:{uuid}:{setting}"
                now = self.read(target)
                why = "" if now is not None else f"{uuid} does not have it"
                found.append(Item(setting, target, now, _normal(setting, value), why))
        return found

    def read(self, target: str) -> str | None:
        """Return a value as nvidia-smi tells it, and of clocks what we have locked."""
        _gpu, uuid, setting = target.split(":")
        row = self._rows.get(uuid)
        if row is None or row[COLUMN[setting]].startswith("["):  # [N/A], [Not Supported]
            return None
        if setting in UNLOCK:
            return self._locked.get(target, UNLOCKED)
        return _normal(setting, row[COLUMN[setting]])

    def write(self, target: str, value: str) -> None:
        """Set a value. Raises OSError with nvidia-smi's words."""
        _gpu, uuid, setting = target.split(":")
        if value == UNLOCKED:
            option = [UNLOCK[setting]]
        elif setting == "nvidia_persistence_mode":
            option = [OPTION[setting], "1" if value == "Enabled" else "0"]
        else:
            option = [OPTION[setting], value]
        code, out, err = self._run(["nvidia-smi", "-i", uuid, *option])
        if code != 0:
            words = (err.strip() or out.strip() or "no output").splitlines()[0]
            raise OSError(0, f"nvidia-smi {' '.join(option)}: {words}")
        if setting in UNLOCK:
            self._locked[target] = value
        else:
            self._rows = self._query()

    def _query(self) -> dict[str, list[str]]:
        """Return the row of each device by its uuid; none where nvidia-smi does not answer."""
        code, out, _err = self._run(
            ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
        )
        if code != 0:
            return {}
        rows = [[cell.strip() for cell in line.split(",")] for line in out.splitlines()]
        return {row[0]: row for row in rows if len(row) == len(QUERY)}


def _normal(setting: str, value: str) -> str:
    """One way to write a value: `700.00` W is `700`."""
    if setting != "nvidia_power_limit" or not re.fullmatch(r"[\d.]+", value):
        return value
    return f"{float(value):g}"


class Machine:
    """Both kinds of settings behind one read and one write."""

    def __init__(self, files: Files, gpus: Gpus) -> None:
        self._files, self._gpus = files, gpus

    def look(self, wanted: Mapping[str, str], idle_states: Sequence[int]) -> list[Item]:
        """Return what is found of each setting that is not left alone, in the order to set it."""
        asked = {name: value for name, value in wanted.items() if value != KEEP}
        files = {name: value for name, value in asked.items() if name in FILES}
        gpus = {name: value for name, value in asked.items() if name in COLUMN}
        return self._files.look(files, idle_states) + self._gpus.look(gpus)

    def read(self, target: str) -> str | None:
        """Return a value, None where there is nothing to read."""
        return (self._gpus if target.startswith("gpu:") else self._files).read(target)

    def write(self, target: str, value: str) -> None:
        """Set a value. Raises OSError."""
        (self._gpus if target.startswith("gpu:") else self._files).write(target, value)


@dataclass(frozen=True)
class Saved:
    """What we found before we set it: target -> {setting, before, set}; `boot` is the boot id.

    After a reboot the kernel has its own values again, and there is nothing to put back.
    """

    boot: str
    targets: dict[str, dict[str, str]]

    @classmethod
    def load(cls, path: str, boot: str) -> Saved:
        """Read the state file; one that is missing or of an earlier boot says nothing.

        Raises HostError when it is damaged: then nobody knows what to put back.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            kept = cls(str(content["boot"]), dict(content["targets"]))
        except FileNotFoundError:
            return cls(boot, {})
        except (ValueError, KeyError, TypeError):
            raise HostError(
                f"{path} is damaged, so what was found before is lost. Remove it and reboot, which"
                " brings the kernel's own settings back."
            ) from None
        return kept if kept.boot == boot else cls(boot, {})

    def write(self, path: str) -> None:
        """Write the state file, readable for everybody, or remove it when there is nothing in it.

        Raises OSError.
        """
        if not self.targets:
            Path(path).unlink(missing_ok=True)
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1) + "\n"
        part = Path(f"{path}.partial")
        part.write_text(text, encoding="utf-8")
        part.chmod(0o644)
        part.replace(path)

    @property
    def locked_clocks(self) -> dict[str, str]:
        """The clocks that we have locked, target -> value."""
        return {
            target: kept["set"]
            for target, kept in self.targets.items()
            if kept["setting"] in UNLOCK
        }


def apply(machine: Machine, items: Iterable[Item], saved: Saved, path: str) -> list[Item]:
    """Set what differs, and return those items as they are then; `why` says what was refused.

    What was found is on disk before the first value is set, so that a crash loses nothing.
    """
    todo = [item for item in items if item.differs]
    for item in todo:
        known = saved.targets.setdefault(
            item.target, {"setting": item.setting, "before": str(item.now)}
        )
        known["set"] = item.wanted
    if todo:
        saved.write(path)
    done = [_set(machine, item) for item in todo]
    for item in done:
        if item.why and machine.read(item.target) == saved.targets[item.target]["before"]:
            del saved.targets[item.target]
    if any(item.why for item in done):
        saved.write(path)
    return done


def restore(machine: Machine, saved: Saved, path: str) -> list[Item]:
    """Put back what was found, last set first, and return an item for each target.

    What could not be put back stays in the state file. A target that is gone (a CPU or a device
    that was taken away) is forgotten.
    """
    done = []
    for target, kept in reversed(list(saved.targets.items())):
        item = Item(kept["setting"], target, machine.read(target), kept["before"])
        done.append(_set(machine, item) if item.now not in (None, item.wanted) else item)
        if not done[-1].why:
            del saved.targets[target]
    saved.write(path)
    return done


def to_restore(machine: Machine, saved: Saved) -> list[Item]:
    """Return what `restore` would do."""
    return [
        Item(kept["setting"], target, machine.read(target), kept["before"])
        for target, kept in saved.targets.items()
    ]


def _set(machine: Machine, item: Item) -> Item:
    try:
        machine.write(item.target, item.wanted)
    except OSError as error:
        return replace(item, why=str(error.strerror or error))
    now = machine.read(item.target)
    why = "" if now == item.wanted else f"it was set to {item.wanted} and is {now}"
    return replace(item, now=now, why=why)


def report(items: Iterable[Item]) -> dict[str, Any]:
    """Return setting -> {value, available, why}: one line for each, however many targets it has.

    `value` is the one value of all targets, or each value with the number of targets that have it.
    """
    grouped: dict[str, list[Item]] = {}
    for item in items:
        grouped.setdefault(item.setting, []).append(item)
    return {setting: _summary(each) for setting, each in grouped.items()}


def _summary(items: Sequence[Item]) -> dict[str, Any]:
    values: dict[str, int] = {}
    for item in items:
        if item.now is not None:
            values[item.now] = values.get(item.now, 0) + 1
    reasons = [item.why for item in items if item.why]
    shown = (
        next(iter(values), "")
        if len(values) < 2
        else ", ".join(f"{value} ({count} of {len(items)})" for value, count in values.items())
    )
    return {
        "value": shown,
        "wanted": items[0].wanted,
        "available": not reasons,
        "why": reasons[0] if reasons else "",
    }


def differing(found: Mapping[str, Any]) -> list[str]:
    """Return one line for each setting that is not as wanted, or not available."""
    return [
        f"{name} not available: {one['why']}"
        if one["why"]
        else f"{name} is {one['value']}, wanted {one['wanted']}"
        for name, one in found.items()
        if one["why"] or one["value"] != one["wanted"]
    ]


def unmet(found: Mapping[str, Any], required: Iterable[str]) -> list[str]:
    """Return what is wrong with each required setting that does not have the wanted value."""
    asked = [f"{name} is required but left alone (keep)" for name in required if name not in found]
    return asked + differing({name: found[name] for name in required if name in found})
