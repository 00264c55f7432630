"""A fleet from its first pass to a second one that has nothing to do."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from fleet import Controller, Fleet, Slow, altered, overlap, snapshot

pytestmark = [pytest.mark.lab, pytest.mark.network]

WORK_TASKS = {
    *("Preflight", "Install packages", "Provision", "Provision again"),
    *("Start", "Watch", "Gather"),
}
# Everything below a home with its size and time; no access times, which reading changes.
TREE = "find ~ -path ~/.ssh -prune -o -printf '%p %s %T@ %m\\n' | sort"


def test_first_pass_makes_every_host_ready(fleet: Fleet) -> None:
    assert fleet.first.code == 0, fleet.first.text
    assert fleet.controller.by_sut() == dict.fromkeys(("sut1", "sut2", "sut3", "sut4"), "valid")
    assert all(run.complete() for run in fleet.controller.runs())
    for host, counts in fleet.first.recap.items():
        assert counts["failed"] == counts["unreachable"] == 0, (host, counts)
        assert counts["changed"] > 0


def test_no_root_is_needed_where_the_packages_are(fleet: Fleet) -> None:
    assert fleet.bare_controller.by_sut()["sut2"] == "valid", fleet.bare.text
    assert fleet.bare.recap["sut2"]["failed"] == 0
    assert fleet.lab.ssh("sut2", "ls -d ~/.benchfleet/envs/*/bin", user="plain").returncode == 0


def test_a_missing_package_is_named(fleet: Fleet) -> None:
    assert fleet.bare.code == 2
    assert fleet.bare.recap["sut4"]["failed"] == 1
    (cell,) = [c for c in fleet.bare_controller.outcomes() if c["sut"] == "sut4"]
    assert cell["outcome"] == "refused"
    assert "python3-venv" in cell["reasons"][0]["what"], cell
    assert "python3-venv" in fleet.bare.text.partition("REFUSED: sut4")[2], fleet.bare.text


def test_second_pass_changes_nothing(fleet: Fleet) -> None:
    lab, controller = fleet.lab, fleet.controller
    stored = snapshot(controller.results)
    homes = {name: lab.ssh(name, TREE).stdout for name in lab.hosts}
    again = controller.run(lab.inventory())
    assert again.code == 0, again.text
    assert not WORK_TASKS.intersection(again.tasks), again.tasks
    for host, counts in again.recap.items():
        assert counts["changed"] == counts["failed"] == 0, (host, counts)
    assert snapshot(controller.results) == stored
    assert {name: lab.ssh(name, TREE).stdout for name in lab.hosts} == homes


def test_check_on_a_bare_host_prints_the_plan_only(fleet: Fleet, controller: Controller) -> None:
    lab = fleet.lab
    before = lab.ssh("sut1", TREE, user="plain").stdout
    assert ".benchfleet" not in before
    done = controller.run(lab.inventory("sut1", user="plain"), "--check", mode="all")
    assert done.code == 0, done.text
    for word in ("performance", "accuracy", "calibration, run", "2 cells on 1 SUT"):
        assert word in done.text, done.text
    assert lab.ssh("sut1", TREE, user="plain").stdout == before
    assert not controller.results.exists()


def test_suts_of_one_host_are_run_apart(fleet: Fleet, controller: Controller) -> None:
    slow = Slow(2)
    suts = '[{"name": "whole"}, {"name": "left", "profile": "MaxQ"}, {"name": "right"}]'
    inventory = altered(
        fleet.lab.inventory("sut1"), ("sut1 ansible", f"sut1 benchfleet_suts='{suts}' ansible")
    )
    done = controller.run(inventory, **slow.request)
    assert done.code == 0, done.text
    assert controller.by_sut() == dict.fromkeys(("whole", "left", "right"), "valid")
    for one, other in itertools.combinations(controller.runs(), 2):
        assert overlap(one, other) <= 0


def test_hosts_measure_together_with_one_fork(fleet: Fleet, controller: Controller) -> None:
    slow = Slow(14)
    names = ("sut1", "sut2", "sut3")
    done = controller.run(fleet.lab.inventory(*names), "--forks", "1", **slow.request)
    assert done.code == 0, done.text
    assert controller.by_sut() == dict.fromkeys(names, "valid")
    for one, other in itertools.combinations(controller.runs(), 2):
        assert overlap(one, other) > 0


def test_a_removed_result_is_fetched_again(fleet: Fleet, tmp_path: Path) -> None:
    elsewhere = Controller(fleet.env, tmp_path / "elsewhere")
    done = elsewhere.run(fleet.lab.inventory("sut1"))
    assert done.code == 0, done.text
    assert [run.path.name for run in elsewhere.runs()] == [
        run.path.name
        for run in fleet.controller.runs()
        if run.read("run.json")["cell"]["sut"] == "sut1"
    ]
