"""What breaks between the controller and its hosts, and the same command once more.

In every test nothing is lost, nothing is measured twice, and the last result is right.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Call, Controller, Fleet, Forwarder, Slow, dead, overlap, until
from lab import HostSpec

pytestmark = [pytest.mark.lab, pytest.mark.network]

TEARDOWN_S = 3.0
SUPERVISOR = "[/]src/job-"


def assert_one_run(fleet: Fleet, controller: Controller, slow: Slow, host: str) -> None:
    """The host and the controller hold the same single run, complete and valid."""
    assert controller.by_sut() == {host: "valid"}
    (run,) = controller.runs()
    assert run.complete()
    assert run.read("run.json")["attempt"] == 1
    assert slow.count(fleet.lab, host) == 1


def assert_gone(call: Call) -> None:
    """No process of a call is left, a moment after its end."""
    end = time.monotonic() + TEARDOWN_S
    while call.orphans() and time.monotonic() < end:
        time.sleep(0.1)
    assert call.orphans() == []


def test_a_controller_that_goes_away_loses_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """It is killed, stopped by Ctrl-C, and loses its terminal; on three hosts at once."""
    ways = {"sut1": signal.SIGKILL, "sut2": signal.SIGINT, "sut3": signal.SIGHUP}
    slows = {host: Slow(12) for host in ways}
    controllers = {host: Controller(fleet.env, tmp_path / host) for host in ways}

    def start(host: str) -> Call:
        return controllers[host].start(fleet.lab.inventory(host), **slows[host].request)

    calls = {host: start(host) for host in ways}
    for host, number in ways.items():
        slows[host].wait(fleet.lab, host, calls[host])
        done = calls[host].kill(number, group=number != signal.SIGKILL)
        assert done.code != 0, done.text
    for call in calls.values():
        assert_gone(call)
    again = {host: start(host) for host in ways}
    for host in ways:
        done = again[host].wait()
        assert done.code == 0, done.text
        assert_one_run(fleet, controllers[host], slows[host], host)


def test_a_run_that_ended_without_its_controller_is_collected(
    fleet: Fleet, controller: Controller
) -> None:
    slow, inventory = Slow(3), fleet.lab.inventory("sut1")
    call = controller.start(inventory, **slow.request)
    slow.wait(fleet.lab, "sut1", call)
    call.kill(signal.SIGKILL)
    assert any(not fleet.lab.ssh("sut1", f"pgrep -f {SUPERVISOR}").stdout for _ in until(30))
    again = controller.run(inventory, **slow.request)
    assert again.code == 0, again.text
    assert_one_run(fleet, controller, slow, "sut1")


def test_a_cut_connection_is_waited_for(fleet: Fleet, controller: Controller) -> None:
    slow = Slow(8)
    call = controller.start(fleet.lab.inventory("sut1"), **slow.request)
    slow.wait(fleet.lab, "sut1", call)
    with fleet.lab.disconnected("sut1"):
        time.sleep(15)
    done = call.wait()
    assert done.code == 0, done.text
    assert_one_run(fleet, controller, slow, "sut1")


def test_two_controllers_share_a_host(fleet: Fleet, tmp_path: Path) -> None:
    both = [Controller(fleet.env, tmp_path / name) for name in ("one", "other")]
    slows = [Slow(3), Slow(3)]
    inventory = fleet.lab.inventory("sut2")
    calls = [c.start(inventory, **s.request) for c, s in zip(both, slows, strict=True)]
    for call, controller, slow in zip(calls, both, slows, strict=True):
        done = call.wait()
        assert done.code == 0, done.text
        assert_one_run(fleet, controller, slow, "sut2")
    assert overlap(both[0].runs()[0], both[1].runs()[0]) <= 0


def test_two_controllers_with_one_request_share_its_run(fleet: Fleet, tmp_path: Path) -> None:
    both = [Controller(fleet.env, tmp_path / name) for name in ("one", "other")]
    slow, inventory = Slow(6), fleet.lab.inventory("sut3")
    calls = [controller.start(inventory, **slow.request) for controller in both]
    for call, controller in zip(calls, both, strict=True):
        done = call.wait()
        assert done.code == 0, done.text
        assert_one_run(fleet, controller, slow, "sut3")


def test_two_users_measure_one_after_the_other(fleet: Fleet, tmp_path: Path) -> None:
    bench, hasty, plain = (Controller(fleet.env, tmp_path / n) for n in ("bench", "hasty", "plain"))
    slow, lab = Slow(16), fleet.lab
    first = bench.start(lab.inventory("sut2"), **slow.request)
    slow.wait(lab, "sut2", first)
    inventory = lab.inventory("sut2", user="plain")
    refused = hasty.start(inventory, on_busy="fail", **Slow(0).request)
    second = plain.run(inventory, **Slow(0).request)
    assert second.code == 0, second.text
    assert "waits: bench measures digits onnx Offline accuracy" in second.text
    assert plain.by_sut() == {"sut2": "valid"}
    done = refused.wait()
    assert done.code == 2
    assert "the host is busy: bench measures digits onnx Offline accuracy" in done.text
    assert hasty.by_sut() == {"sut2": "failed"}
    done = first.wait()
    assert done.code == 0, done.text
    assert_one_run(fleet, bench, slow, "sut2")
    assert overlap(bench.runs()[0], plain.runs()[0]) <= 0


@pytest.mark.parametrize(
    ("gone", "limit", "code", "expected"),
    [
        (("sut2",), "", 2, {"sut1": "valid", "sut2": "unreachable", "sut3": "valid"}),
        (("sut1",), "", 2, {"sut1": "unreachable", "sut2": "valid", "sut3": "valid"}),
        (("sut1", "sut2", "sut3"), "", 2, dict.fromkeys(("sut1", "sut2", "sut3"), "unreachable")),
        (("sut1",), "sut2,sut3", 0, {"sut2": "valid", "sut3": "valid"}),
        (("sut1",), "sut1", 2, {"sut1": "unreachable"}),
    ],
    ids=["one", "the-first", "all", "limit-to-others", "limit-to-it"],
)
def test_dead_hosts_do_not_stop_the_others(
    fleet: Fleet,
    controller: Controller,
    gone: tuple[str, ...],
    limit: str,
    code: int,
    expected: dict[str, str],
) -> None:
    inventory = dead(fleet.lab, fleet.lab.inventory("sut1", "sut2", "sut3"), *gone)
    done = controller.run(inventory, *(["--limit", limit] if limit else []))
    assert done.code == code, done.text
    assert controller.by_sut() == expected
    for cell in controller.outcomes():
        if cell["outcome"] == "unreachable":
            assert "refused" in cell["reasons"][0]["what"], cell
    assert all(run.complete() for run in controller.runs())
    assert len(controller.runs()) == list(expected.values()).count("valid")


def test_a_reboot_is_recorded_and_the_run_started_anew(
    fleet: Fleet, controller: Controller
) -> None:
    slow, lab = Slow(6), fleet.lab
    call = controller.start(lab.inventory("sut2"), **slow.request)
    slow.wait(lab, "sut2", call)
    call.kill(signal.SIGKILL)
    lab.reboot("sut2")
    again = controller.run(lab.inventory("sut2"), **slow.request)
    assert again.code == 0, again.text
    assert controller.by_sut() == {"sut2": "valid"}
    assert_lost_then_valid(fleet, controller, slow, "sut2", "reboot")


def test_a_reboot_under_the_watch_is_a_lost_run(fleet: Fleet, controller: Controller) -> None:
    slow, lab = Slow(6), fleet.lab
    forwarder = Forwarder(lab, "sut1")
    inventory = forwarder.inventory()
    call = controller.start(inventory, **slow.request)
    slow.wait(lab, "sut1", call)
    lab.stop("sut1")
    forwarder.drop()
    time.sleep(2)
    lab.start("sut1")
    done = call.wait()
    assert done.code == 2, done.text
    assert "no answer; the job goes on there, trying again" in done.text
    assert controller.by_sut() == {"sut1": "lost"}
    again = controller.run(inventory, **slow.request)
    forwarder.close()
    assert again.code == 0, again.text
    assert_lost_then_valid(fleet, controller, slow, "sut1", "reboot")


def test_a_killed_supervisor_is_a_lost_run(fleet: Fleet, controller: Controller) -> None:
    slow, inventory = Slow(8), fleet.lab.inventory("sut1")
    call = controller.start(inventory, **slow.request)
    slow.wait(fleet.lab, "sut1", call)
    assert fleet.lab.ssh("sut1", f"pkill -9 -f {SUPERVISOR}").returncode == 0
    done = call.wait()
    assert done.code == 2, done.text
    assert controller.by_sut() == {"sut1": "lost"}
    assert not slow.running(fleet.lab, "sut1")
    again = controller.run(inventory, **slow.request)
    assert again.code == 0, again.text
    assert_lost_then_valid(fleet, controller, slow, "sut1", "killed")


def assert_lost_then_valid(
    fleet: Fleet, controller: Controller, slow: Slow, host: str, why: str
) -> None:
    """Two runs are stored: the lost one with its reason, then a valid second attempt."""
    lost, valid = controller.runs()
    assert lost.complete()
    assert valid.complete()
    result = lost.read("result.json")
    assert result["end"] == "lost"
    assert why in result["reason"]
    assert [run.read("run.json")["attempt"] for run in (lost, valid)] == [1, 2]
    assert valid.read("result.json")["end"] == "exited"
    assert controller.by_sut() == {host: "valid"}
    assert slow.count(fleet.lab, host) == 2


@pytest.fixture
def without_sftp(fleet: Fleet) -> Iterator[str]:
    """A host whose sshd has no sftp."""
    fleet.lab.add(HostSpec("mute", sftp="none"))
    yield "mute"
    fleet.lab.remove("mute")


def test_a_host_without_sftp_is_refused_before_it_measures(
    fleet: Fleet, controller: Controller, without_sftp: str
) -> None:
    done = controller.run(fleet.lab.inventory(without_sftp, "sut1"))
    assert done.code == 2, done.text
    assert controller.by_sut() == {without_sftp: "failed", "sut1": "valid"}
    (cell,) = [c for c in controller.outcomes() if c["sut"] == without_sftp]
    assert re.search(r"sftp does not work on this host", cell["reasons"][0]["what"]), cell
    assert fleet.lab.ssh(without_sftp, "ls ~/.benchfleet").returncode != 0
