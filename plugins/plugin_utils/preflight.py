# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Facts of a host against what its cells need: checks, each with what to do. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

CLOCK_S = 0.1  # power-dev refuses 0.4 s while it runs; a tenth is what a time service keeps
SHELL_S = 0.05
# python_env refuses to build an environment with less than this free.
ENV_BYTES = 1 << 30
STATES = ("ok", "warn", "fail")

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Check:
    """One check: state is 'ok', 'warn' or 'fail'; `digests` are the work items that it concerns."""

    name: str
    state: str
    found: str
    wanted: str
    remedy: str = ""
    digests: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Need:
    """What one work item needs. `to_come` holds the digests of its artifacts (None: one whose
    digest nobody knows yet), `known` the bytes of those that lie on this controller."""

    digest: str
    benchmark: str
    resources: Json
    gates: Sequence[Json]
    ports: tuple[int, ...]
    vendor: str | None
    driver_minimum: str
    devices: tuple[str, ...]
    runtime: str | None
    envs: Sequence[Json]
    artifacts: tuple[str | None, ...]
    cpus: int
    power: bool


@dataclass(frozen=True)
class Lab:
    """What the lab allows: `min_free` and `quota` (0: none) in bytes, `may_install` packages of
    the operating system, `consents` by name, `known` bytes of artifacts on this controller."""

    min_free: int
    quota: int
    may_install: bool
    consents: frozenset[str]
    known: Mapping[str, int]


def need(item: Json, payloads: Json) -> Need:
    """Return what a work item with action 'run' needs."""
    cell = item["cell"]
    payload = payloads[cell["payload"]]
    options = cell.get("options") or {}
    places = item["places"].values()
    return Need(
        digest=item["digest"],
        benchmark=cell["benchmark"],
        resources=cell.get("resources") or {},
        gates=cell.get("gates") or (),
        ports=tuple(cell.get("ports") or ()),
        vendor=payload["driver"],
        driver_minimum=payload.get("driver_minimum") or "",
        devices=tuple(cell["devices"]),
        runtime=cell.get("runtime"),
        envs=tuple(payload["envs"].values()),
        artifacts=tuple(p["sha256"] for p in places if p["sha256"] or not p["path"]),
        cpus=(options.get("threads") or 1) * (options.get("instances") or 1),
        power=bool(cell.get("power")),
    )


def checks(facts: Json, needs: Sequence[Need], lab: Lab) -> list[Check]:
    """Return all checks of a host, those that say the same of several items as one.

    `facts` are the module's, with `clock`: {offset_s, uncertainty_s, shell_s} (None: not measured).
    """
    everyone = tuple(n.digest for n in needs)
    found = [*_file_system(facts["disk"], everyone), *_space(facts, needs, lab)]
    for one in needs:
        found += _of_item(facts, one, lab)
    found += _packages(facts, needs, lab)
    found += _clock(facts, needs)
    found += _job(facts, everyone)
    merged: dict[Check, list[str]] = {}
    for check in found:
        key = Check(check.name, check.state, check.found, check.wanted, check.remedy)
        merged.setdefault(key, []).extend(check.digests)
    return [
        Check(k.name, k.state, k.found, k.wanted, k.remedy, tuple(dict.fromkeys(d)))
        for k, d in merged.items()
    ]


def refusals(found: Iterable[Check]) -> dict[str, str]:
    """Return digest -> why the item is refused, for the items that a failed check concerns."""
    reasons: dict[str, list[str]] = {}
    for check in found:
        if check.state == "fail":
            do = check.remedy[:1].upper() + check.remedy[1:]
            text = f"{check.name}: {check.found}; wanted {check.wanted}. {do}."
            for digest in check.digests:
                reasons.setdefault(digest, []).append(text)
    return {digest: " ".join(texts) for digest, texts in reasons.items()}


def version_at_least(found: str, minimum: str) -> bool:
    """Compare dotted versions by their numbers."""
    numbers = [[int(n) for n in re.findall(r"\d+", text)] for text in (found, minimum)]
    return numbers[0] >= numbers[1]


def gb(amount: float) -> str:
    """Return bytes for people: 0.4 MB, 1.5 GB, by powers of 1000."""
    return f"{amount / 1e9:.1f} GB" if amount >= 1e8 else f"{amount / 1e6:.1f} MB"


def _file_system(disk: Json, everyone: tuple[str, ...]) -> Iterator[Check]:
    wrong = [
        ("read_only", "is mounted read-only", "mount it writable, or set benchfleet_home"),
        ("noexec", "is mounted noexec", "mount it with exec, or set benchfleet_home"),
    ]
    for key, what, remedy in wrong:
        if disk[key]:
            yield _home_fault(disk, what, remedy, everyone)
            return
    if not disk["writable"]:
        remedy = "make it belong to the user that Ansible logs in as, or set benchfleet_home"
        yield _home_fault(disk, "cannot be written", remedy, everyone)
        return
    yield Check("home", "ok", disk["path"], "writable, exec", "", everyone)


def _home_fault(disk: Json, what: str, remedy: str, everyone: tuple[str, ...]) -> Check:
    return Check("home", "fail", f"{disk['path']} {what}", "writable, exec", remedy, everyone)


def _space(facts: Json, needs: Sequence[Need], lab: Lab) -> Iterator[Check]:
    """Check disk and quota: environments and one run for all, then benchmark by benchmark, in
    order, while they fit."""
    groups: dict[str, list[Need]] = {}
    for one in needs:
        groups.setdefault(one.benchmark, []).append(one)
    to_come = {name: _to_come(facts, own, lab) for name, own in groups.items()}
    base = lab.min_free + ENV_BYTES * len(facts["waiting_envs"])
    free = facts["disk"]["free"]
    remedy = f"free space at {facts['disk']['path']}, or set benchfleet_home to a larger disk"
    yield from _fit("disk", free, "free", base, to_come, groups, remedy)
    if lab.quota:
        rest = lab.quota - facts["used"]
        remedy = "remove old runs (prune.yml) or raise benchfleet_quota_gb"
        yield from _fit("quota", rest, "of the quota left", base, to_come, groups, remedy)


def _fit(
    name: str,
    free: int,
    what: str,
    base: int,
    to_come: Mapping[str, float],
    groups: Mapping[str, Sequence[Need]],
    remedy: str,
) -> Iterator[Check]:
    room = free - base
    for benchmark, bytes_ in to_come.items():
        digests = tuple(n.digest for n in groups[benchmark])
        if bytes_ > room or room < 0:
            wanted = f"{gb(bytes_ + base)} for {benchmark}"
            yield Check(name, "fail", f"{gb(max(free, 0))} {what}", wanted, remedy, digests)
        else:
            room -= int(bytes_)
            free -= int(bytes_)
            wanted = f"{gb(sum(to_come.values()) + base)} in all"
            yield Check(name, "ok", f"enough {what}", wanted, "", digests)


def _to_come(facts: Json, needs: Sequence[Need], lab: Lab) -> float:
    """Return the bytes that a benchmark still brings to the host: what is known of its files, or
    what the catalog says of it less what lies there already."""
    held: Mapping[str, int] = facts["artifacts"]
    wanted = {a for n in needs for a in n.artifacts}
    missing = wanted - set(held)
    if not missing:
        return 0.0
    known = sum(lab.known.get(a, 0) for a in missing if a)
    stated = max(float(n.resources.get("disk_gb") or 0) for n in needs) * 1e9
    there = sum(size for artifact, size in held.items() if artifact in wanted)
    return max(float(known), stated - there)


def _of_item(facts: Json, one: Need, lab: Lab) -> Iterator[Check]:
    """Check what concerns this item alone."""
    own = (one.digest,)
    if one.resources.get("memory_gb"):
        yield _memory(facts["memory"], one, own)
    yield _cpus(facts["cpus"], one, own)
    if one.vendor:
        yield from _accelerators(facts["accelerators"][one.vendor], one, own)
    if one.runtime:
        version = facts["runtimes"].get(one.runtime)
        state, remedy = ("ok", "") if version else ("fail", f"install {one.runtime} on the host")
        found = version or "not there"
        yield Check("container runtime", state, found, one.runtime, remedy, own)
    for gate in one.gates:
        yield _gate(gate, lab, own)
    taken = sorted(set(one.ports) & set(facts["taken_ports"]))
    if one.ports:
        wanted = f"{', '.join(map(str, one.ports))} free"
        # Whoever measures there now is waited for, and takes its ports along.
        state = "ok" if not taken else "warn" if facts["measuring"] else "fail"
        found = f"{', '.join(map(str, taken))} taken" if taken else "free"
        remedy = f"end what listens there (ss -ltnp 'sport = :{taken[0]}')" if taken else ""
        yield Check("ports", state, found, wanted, remedy, own)


def _memory(memory: Json, one: Need, own: tuple[str, ...]) -> Check:
    wanted = one.resources["memory_gb"] * 1e9
    sizes = [s for s in (memory["total"], memory["limit"]) if s is not None]
    size = min(sizes, default=wanted)
    limited = " (limit of the cgroup)" if size == memory["limit"] else ""
    needs = f"{gb(wanted)} for {one.benchmark}"
    if size < wanted:
        remedy = "raise the limit of memory" if limited else "take a host with more memory"
        return Check("memory", "fail", f"{gb(size)}{limited}", needs, remedy, own)
    available = memory["available"]
    if available is not None and available < wanted:
        remedy = "end what takes the memory before the run"
        return Check("memory", "warn", f"{gb(available)} available", needs, remedy, own)
    return Check("memory", "ok", f"{gb(size)}{limited}", needs, "", own)


def _cpus(cpus: Json, one: Need, own: tuple[str, ...]) -> Check:
    quota = cpus["quota"]
    usable = min(cpus["allowed"], quota or cpus["allowed"])
    found = f"{usable:g} of {cpus['online']} CPUs"
    if usable < one.cpus:
        remedy = "ask for fewer threads, or widen the CPU limit of the cgroup"
        return Check("CPUs", "warn", found, f"{one.cpus} threads", remedy, own)
    if quota and quota < cpus["allowed"]:
        remedy = "widen the CPU limit of the cgroup, which slows the run down by pauses"
        return Check("CPUs", "warn", found, "no limit", remedy, own)
    return Check("CPUs", "ok", found, f"{one.cpus} or more", "", own)


def _accelerators(answer: Json, one: Need, own: tuple[str, ...]) -> Iterator[Check]:
    count = max(one.resources.get("accelerators") or 1, len(one.devices))
    size = one.resources.get("accelerator_gb")
    wanted = f"{count}{f' with {size:g} GB' if size else ''} for {one.benchmark}"
    if answer["trouble"]:
        remedy = f"mend the {one.vendor} driver; the vendor's tool must answer"
        yield Check("accelerators", "fail", answer["trouble"], wanted, remedy, own)
        return
    minimum = one.driver_minimum
    if minimum:
        new = version_at_least(answer["driver"], minimum)
        state, remedy = ("ok", "") if new else ("fail", f"install driver {minimum} or newer")
        yield Check("driver", state, answer["driver"], f"{minimum} or newer", remedy, own)
    devices = [
        d for d in answer["devices"] if d["index"] in one.devices or not _indices(one.devices)
    ]
    enough = [d for d in devices if not size or d["bytes"] is None or d["bytes"] >= size * 1e9]
    names = dict.fromkeys(
        " ".join([d["name"], *([] if d["bytes"] is None else [gb(d["bytes"])])]) for d in devices
    )
    found = f"{len(devices)} ({', '.join(names)})" if devices else "none of those asked for"
    if len(enough) < count:
        remedy = "take a host with more, or a smaller benchmark"
        yield Check("accelerators", "fail", found, wanted, remedy, own)
    else:
        yield Check("accelerators", "ok", found, wanted, "", own)


def _indices(devices: Sequence[str]) -> bool:
    """Whether devices are named by index, as the tools list them; a MIG device has a UUID."""
    return bool(devices) and all(d.isdigit() for d in devices)


def _gate(gate: Json, lab: Lab, own: tuple[str, ...]) -> Check:
    name, how, where = gate["name"], gate["how"], gate["where"]
    wanted = f"{gate['artifact']} ({how})"
    if gate["satisfied"] or (how == "consent" and name in lab.consents):
        return Check("licence", "ok", name, wanted, "", own)
    remedies = {
        "consent": f"read the terms at {where}, then record the consent:"
        f" ansible-playbook consent.yml -e consent={name} -e consent_by=NAME",
        "token": f"accept the terms at {where} and set HF_TOKEN on the controller",
        "own-copy": f"get a copy from {where} and name its place in benchfleet_artifact_paths",
        "members": f"members of MLCommons get it from {where}; name its place in"
        " benchfleet_artifact_paths",
    }
    return Check("licence", "fail", f"{name} not accepted yet", wanted, remedies[how], own)


def _packages(facts: Json, needs: Sequence[Need], lab: Lab) -> Iterator[Check]:
    waiting = set(facts["waiting_envs"])
    digests = tuple(n.digest for n in needs if {e["name"] for e in n.envs} & set(waiting))
    names = " ".join(facts["missing_packages"])
    if not digests:
        return
    if not names:
        yield Check("packages", "ok", "all there", "all", "", digests)
    elif lab.may_install:
        yield Check("packages", "ok", f"{names} will be installed", names, "", digests)
    else:
        remedy = (
            "install them, or let the playbook do it (benchfleet_install_packages=true and sudo)"
        )
        yield Check("packages", "fail", f"packages are missing: {names}", names, remedy, digests)


def _clock(facts: Json, needs: Sequence[Need]) -> Iterator[Check]:
    clock, everyone = facts["clock"], tuple(n.digest for n in needs)
    if clock is None:
        return
    offset, uncertainty = clock["offset_s"], clock["uncertainty_s"]
    found = f"{offset * 1000:+.0f} ms ± {uncertainty * 1000:.0f} ms from this controller"
    remedy = "set up chrony on host and controller"
    if abs(offset) - uncertainty > CLOCK_S:
        # Only a power measurement puts clocks of two hosts together.
        power = tuple(n.digest for n in needs if n.power)
        state = "fail" if power else "warn"
        yield Check("clock", state, found, "within 100 ms", remedy, power or everyone)
    else:
        yield Check("clock", "ok", found, "within 100 ms", "", everyone)
    service = facts["time_service"]
    state = "ok" if service else "warn"
    yield Check(
        "time service", state, service or "none", "one", "" if service else remedy, everyone
    )
    if clock["shell_s"] is not None:
        slow = clock["shell_s"] > SHELL_S
        remedy = (
            "move what is slow in ~/.bashrc (conda, pyenv) behind a test for an interactive shell"
        )
        found = f"starts in {clock['shell_s'] * 1000:.0f} ms"
        state, remedy = ("warn", remedy) if slow else ("ok", "")
        yield Check("login shell", state, found, "50 ms", remedy, everyone)


def _job(facts: Json, everyone: tuple[str, ...]) -> Iterator[Check]:
    """Check what could end the job, or hold it up."""
    if facts["ends_at_logout"]:
        remedy = (
            "set KillUserProcesses=no in /etc/systemd/logind.conf, or name the user in"
            " KillExcludeUsers, and restart systemd-logind"
        )
        found = f"logind ends what {facts['user']} leaves behind"
        yield Check("logout", "fail", found, "a job that goes on", remedy, everyone)
    else:
        yield Check("logout", "ok", "a job goes on", "a job that goes on", "", everyone)
    other = facts["measuring"]
    if other:
        until = f" until about {other['until']}" if other.get("until") else ""
        found = f"{other.get('user')} measures {other.get('what') or 'something'}{until}"
        yield Check("measurement", "warn", found, "nobody", "the job waits for its turn", everyone)
