#!/usr/bin/env python3
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a re-run costs that has nothing to do, beside a play with one ansible.builtin.ping.

    python tests/bench/noop.py [--pairs 5] [--rows cell,matrix,reference,fleet,fleet-cold,scale]

Needs an interpreter with ansible-core, sshd for the fleets (its own, on 127.0.2.1 and on), and
NumPy and git for the reference: a cell of upstream's kind of harness, from the tests' stand-in for
upstream's repository, with a patched source tree and a catalog of the lab's own.
One SUT is measured for real, in a folder of the comparison's own. The other SUTs' results are
copies of those runs under other names, which makes them data for this comparison and nothing else:
they never leave the temporary folder. Both sides of a pair use the same inventory, ansible.cfg
(pipelining, 50 forks) and connections; each measured re-run must report changed=0 for every host
and leave every file of the results folder as it was. Exit 1 when a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import (
    BenchError,
    Cost,
    LoopbackHosts,
    Pairs,
    copy_checkout,
    loopback_hosts,
    pairs,
    snapshot,
    timed,
)

MATRIX_SUTS = 5  # times 3 scenarios and 2 modes: 30 cells
SCENARIOS = "SingleStream,MultiStream,Offline"
FLEET, LARGE_FLEET = 50, 200
ONE = {"scenario": "Offline", "mode": "performance"}
MATRIX = {"scenario": SCENARIOS, "mode": "performance,accuracy"}
PING = "- hosts: all\n  gather_facts: false\n  tasks:\n    - ansible.builtin.ping:\n"
GOALS = {
    "cell": 1.2,
    "matrix": 1.5,
    "reference": 1.2,
    "fleet": 0.5,
    "fleet-cold": 0.5,
    "scale": 1.0,
}


@dataclass(frozen=True)
class Bench:
    """The folders of one comparison: a copy of the checkout, results, homes, inventories."""

    folder: Path

    @property
    def checkout(self) -> Path:
        """Where the copy of the checkout lies."""
        return self.folder / "checkout"

    @property
    def results(self) -> Path:
        """The results folder of all plays of the comparison."""
        return self.folder / "results"

    def environment(self, control: str) -> dict[str, str]:
        """The environment of a play; connections are kept open under the name `control`."""
        own = {k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
        return own | {
            "ANSIBLE_CONFIG": str(self.checkout / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / control),
        }

    def play(self, playbook: Path, inventory: Path, options: dict[str, str], control: str) -> Cost:
        """Run a playbook on an inventory and return what it cost."""
        extra = [w for k, v in options.items() for w in ("-e", f"{k}={v}")]
        command = [str(Path(sys.executable).with_name("ansible-playbook")), str(playbook)]
        return timed(
            [*command, "-i", str(inventory), *extra], self.folder, self.environment(control)
        )

    def ours(self, inventory: Path, options: dict[str, str], control: str = "cp") -> Cost:
        """Run the main playbook."""
        own = {"benchfleet_results": self.results, "benchfleet_store": self.folder / "store"}
        options = {**{name: str(path) for name, path in own.items()}, **options}
        return self.play(self.checkout / "run_benchmark.yml", inventory, options, control)

    def ping(self, inventory: Path, control: str = "cp") -> Cost:
        """Run the play with one ping."""
        return self.play(self.folder / "ping.yml", inventory, {}, control)

    def noop(self, inventory: Path, options: dict[str, str], control: str = "cp") -> Cost:
        """Run the main playbook; BenchError unless it found nothing to do and changed nothing."""
        before = snapshot(self.results)
        cost = self.ours(inventory, options, control)
        hosts = cost.hosts()
        restless = [h for h, c in hosts.items() if c["changed"] or c["failed"] or c["unreachable"]]
        if restless or not hosts:
            raise BenchError(f"not a no-op on {restless or 'any host'}:\n{cost.output[-3000:]}")
        if snapshot(self.results) != before:
            raise BenchError(f"the no-op changed files of {self.results}")
        return cost


def local_inventory(bench: Bench, name: str, suts: list[str]) -> Path:
    """Write an inventory of this machine as one host with several SUTs."""
    path = bench.folder / f"{name}.json"
    host = {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "benchfleet_home": str(bench.folder / "home"),
        "benchfleet_suts": [{"name": s} for s in suts],
    }
    return _write_inventory(path, {"localhost": host})


def fleet_inventory(bench: Bench, lab: LoopbackHosts, count: int) -> Path:
    """Write an inventory of ssh hosts, each with a home of its own."""
    hosts = {
        f"node{n:03}": {
            "ansible_host": address,
            "ansible_port": lab.port,
            "ansible_python_interpreter": sys.executable,
            "ansible_ssh_private_key_file": str(lab.folder / "user"),
            "ansible_ssh_args": lab.ssh_args(),
            "benchfleet_home": str(bench.folder / "homes" / f"node{n:03}"),
        }
        for n, address in enumerate(lab.addresses[:count], 1)
    }
    return _write_inventory(bench.folder / f"fleet{count}.json", hosts)


def _write_inventory(path: Path, hosts: dict[str, Any]) -> Path:
    path.write_text(json.dumps({"all": {"children": {"suts": {"hosts": hosts}}}}, indent=1))
    return path


def store_copies(bench: Bench, inventory: Path, options: dict[str, str]) -> int:
    """Store a copy of the measured runs for each SUT of an inventory that has none.

    The digests are those that the project's own planner and digest give the named SUTs on this
    machine, the manifests are made by the supervisor's own function. Returns how many were stored.
    """
    sys.path.insert(0, str(bench.checkout / "collections"))
    from ansible_collections.benchfleet.mlperf.plugins.action import plan
    from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts import base, store
    from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import (
        catalog,
        lab_files,
        planner,
        probe_script,
        request,
        results,
        work,
    )

    hosts = json.loads(inventory.read_text())["all"]["children"]["suts"]["hosts"]
    asked = request.parse(options)
    ours, stored = catalog.Catalog(), results.Results(bench.results)
    cells = planner.plan(asked, hosts, ours)
    own = lab_files.Own(store.Store(bench.folder / "store"), planner.NOTHING_GIVEN, base.Access())
    common = plan._common(asked, cells, ours, stored, own)
    count = 0
    for host, variables in hosts.items():
        command = probe_script.command(variables["benchfleet_home"], [])
        read = subprocess.run(command, shell=True, check=True, stdout=subprocess.PIPE, text=True)
        probe = probe_script.parse(read.stdout)
        own = [c for c in cells if c["host"] == host]
        items = work.decide(own, common, probe, stored, lambda _job: False)
        runs = {
            i["digest"]: _copy_run(bench, stored, i)
            for i in items
            if i["action"] == "run" and i["cell"] in own
        }
        count += len(runs)
        _remember(Path(probe.host_dir), runs)
    return count


def _copy_run(bench: Bench, stored: Any, item: dict[str, Any]) -> str:
    """Copy the measured run of the same benchmark, scenario and mode to the SUT of a work item."""
    from ansible_collections.benchfleet.mlperf.plugins.module_utils.job import records

    cell = item["cell"]
    source = max(stored.folder(cell | {"sut": "measured"}).iterdir())
    run_id = f"{source.name.rpartition('-')[0]}-{item['digest'][:8]}"
    target = stored.folder(cell) / run_id
    shutil.copytree(source, target)
    record = json.loads((target / "run.json").read_text())
    record["cell"] |= {k: cell[k] for k in ("id", "sut", "host", "members")}
    record |= {"run_id": run_id, "digest": item["digest"]}
    (target / "run.json").write_text(json.dumps(record, indent=1, sort_keys=True) + "\n")
    made = records.manifest(target)
    (target / "manifest.json").write_text(json.dumps(made, indent=1, sort_keys=True) + "\n")
    return run_id


def _remember(host_dir: Path, runs: dict[str, str]) -> None:
    """Give a host the state file that it would have after these runs."""
    path = host_dir / "state.json"
    state: dict[str, Any] = {"format": 1, "jobs": {}, "runs": {}}
    if path.exists():
        state = json.loads(path.read_text())
    state["runs"] |= runs
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(state))


def upstream_cell(bench: Bench) -> dict[str, str]:
    """Make a stand-in for upstream's repository; return the options of a cell that runs it."""
    sys.path.insert(0, str(bench.checkout / "tests" / "integration"))
    import upstream

    made = upstream.place(bench.folder / "upstream", {})
    asked = {"benchmark": "standin", **ONE, **made.settings}
    return {name: str(value) for name, value in asked.items()}


def prepare(bench: Bench, inventory: Path, options: dict[str, str]) -> Path:
    """Make an inventory's results complete, and have them assessed and indexed by one play."""
    count = store_copies(bench, inventory, options)
    bench.ours(inventory, options)
    bench.noop(inventory, options)
    print(f"{inventory.stem}: {count} copies of measured runs stored", flush=True)
    return inventory


def measure(
    bench: Bench, rows: list[str], count: int, lab: LoopbackHosts | None
) -> dict[str, Pairs]:
    """Measure the rows that were asked for."""
    found: dict[str, Pairs] = {}
    cold = iter(range(1000))

    def row(name: str, ours: Callable[[], Cost], other: Callable[[], Cost]) -> None:
        if name in rows:
            found[name] = pairs(count, ours, other, name)

    if "cell" in rows:
        here = prepare(bench, local_inventory(bench, "cell", ["one"]), ONE)
        row("cell", lambda: bench.noop(here, ONE), lambda: bench.ping(here))
    if "matrix" in rows:
        names = [f"sut{n}" for n in range(1, MATRIX_SUTS + 1)]
        many = prepare(bench, local_inventory(bench, "matrix", names), MATRIX)
        row("matrix", lambda: bench.noop(many, MATRIX), lambda: bench.ping(many))
    if "reference" in rows:
        asked = upstream_cell(bench)
        alone = local_inventory(bench, "reference", ["one"])
        bench.ours(alone, asked)
        row("reference", lambda: bench.noop(alone, asked), lambda: bench.ping(alone))
    if lab:
        fleet = prepare(bench, fleet_inventory(bench, lab, FLEET), ONE)
        row("fleet", lambda: bench.noop(fleet, ONE), lambda: bench.ping(fleet))
        row(
            "fleet-cold",
            lambda: bench.noop(fleet, ONE, f"cp{next(cold)}"),
            lambda: bench.ping(fleet, f"cp{next(cold)}"),
        )
    if lab and "scale" in rows:
        large = prepare(bench, fleet_inventory(bench, lab, LARGE_FLEET), ONE)
        row("scale", lambda: bench.noop(large, ONE), lambda: bench.noop(fleet, ONE))
    return found


def table(found: dict[str, Pairs]) -> tuple[list[str], bool]:
    """The lines of the closing table, and whether every goal is met (by wall time)."""
    words = {
        "cell": "1 cell, this machine / ping",
        "matrix": f"{MATRIX_SUTS * 6} cells, this machine / ping",
        "reference": "1 cell of upstream's harness / ping",
        "fleet": f"{FLEET} ssh hosts / ping",
        "fleet-cold": f"{FLEET} ssh hosts, new connections / ping",
        "scale": f"per host at {LARGE_FLEET} / at {FLEET}",
    }
    lines = [
        f"{'comparison':38} {'no-op s':>8} {'other s':>8} {'wall ratio':>10} {'(range)':>13} "
        f"{'no-op CPU':>9} {'other CPU':>9} {'CPU ratio':>9} {'goal':>5}"
    ]
    good = True
    for name, each in found.items():
        scale = FLEET / LARGE_FLEET if name == "scale" else 1.0
        middle, low, high = (r * scale for r in each.ratio("wall"))
        medians = [
            statistics.median(getattr(c, what) for c in side)
            for what in ("wall", "cpu")
            for side in (each.ours, each.other)
        ]
        met = middle <= GOALS[name]
        good = good and met
        lines.append(
            f"{words[name]:38} {medians[0]:8.2f} {medians[1]:8.2f} {middle:10.2f} "
            f"{f'({low:.2f}-{high:.2f})':>13} {medians[2]:9.2f} {medians[3]:9.2f} "
            f"{each.ratio('cpu')[0] * scale:9.2f} {GOALS[name]:5.1f} {'met' if met else 'MISSED'}"
        )
    return lines, good


def main() -> int:
    """Run the comparison; 0 when the goals are met."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=5, help="how many interleaved pairs of each")
    parser.add_argument("--rows", default=",".join(GOALS), help="which comparisons")
    parser.add_argument("--folder", help="parent of the temporary folder (2 GB)")
    options = parser.parse_args()
    rows = options.rows.split(",")
    if unknown := set(rows) - set(GOALS):
        parser.error(f"no such rows: {', '.join(sorted(unknown))}; there are: {', '.join(GOALS)}")
    with tempfile.TemporaryDirectory(prefix="noop-", dir=options.folder) as name:
        bench = Bench(Path(name))
        copy_checkout(bench.checkout)
        (bench.folder / "ping.yml").write_text(PING)
        bench.ours(local_inventory(bench, "measured", ["measured"]), MATRIX)
        print("measured: the runs of one SUT are in", flush=True)
        if {"fleet", "fleet-cold", "scale"} & set(rows):
            keys = bench.folder / "sshd"
            keys.mkdir()
            count = LARGE_FLEET if "scale" in rows else FLEET
            with loopback_hosts(keys, count) as lab:
                found = measure(bench, rows, options.pairs, lab)
        else:
            found = measure(bench, rows, options.pairs, None)
    lines, good = table(found)
    print("", f"{options.pairs} pairs, medians", *lines, sep="\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
