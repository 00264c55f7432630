# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe: its script in real shells, and the reading of what hosts print, hostile ones too."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import probe_script
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.probe_script import (
    BEGIN,
    END,
    STATE,
    Probe,
    command,
    parse,
)

RUN, JOB, DIGEST = "20260101T000000Z-0badcafe", "20260101T000000Z-12345678", "0badcafe" * 8
SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]
with_each_shell = pytest.mark.parametrize("shell", SHELLS)


def printed(state: Any = "", facts: str = "", **changes: str) -> str:
    values = {"home": "/home/u/.benchfleet", "host_id": "n-1234", "boot_id": "b"} | changes
    lines = "".join(f"{k}={v}\n" for k, v in values.items())
    text = state if isinstance(state, str) else json.dumps(state)
    return f"\n{BEGIN}\n{lines}{facts}{STATE}\n{text}\n{END}\n"


def run(shell: str, home: str, *paths: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the probe's script in one shell, as a login shell's command line would."""
    argv = shlex.split(command(home, paths))
    assert argv[0] == "/bin/sh"
    return subprocess.run(
        [str(shutil.which(shell)), *argv[1:]],
        env={"PATH": os.environ["PATH"], "HOME": "/nohome"} | env,
        capture_output=True,
        text=True,
        check=False,
    )


@with_each_shell
def test_real_shells_answer_with_this_machines_facts(shell: str, tmp_path: Path) -> None:
    probe = parse(run(shell, str(tmp_path)).stdout)
    assert probe.home == str(tmp_path)
    assert probe.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert probe.fingerprint["kernel"] == os.uname().release
    assert probe.fingerprint["machine"] == os.uname().machine
    release = Path("/etc/os-release").read_text()
    assert f"ID={probe.fingerprint['os_id']}\n" in release.replace('"', "")
    kib = int(Path("/proc/meminfo").read_text().split()[1])
    assert int(probe.fingerprint["memory_gib"]) == round(kib / 2**20)
    assert probe.host_dir.startswith(f"{tmp_path}/hosts/{os.uname().nodename}-")
    assert probe.state == {"jobs": {}, "runs": {}}
    assert list(tmp_path.iterdir()) == []


@with_each_shell
def test_all_shells_say_the_same(shell: str, tmp_path: Path) -> None:
    assert parse(run(shell, str(tmp_path)).stdout) == parse(run("sh", str(tmp_path)).stdout)


@with_each_shell
@pytest.mark.parametrize(("home", "seen"), [("~", ""), ("~/.bench fleet", "/.bench fleet")])
def test_tilde_is_the_remote_users_home(shell: str, home: str, seen: str, tmp_path: Path) -> None:
    assert parse(run(shell, home, HOME=str(tmp_path)).stdout).home == f"{tmp_path}{seen}"


@with_each_shell
def test_the_state_file_of_this_host_is_read(shell: str, tmp_path: Path) -> None:
    folder = Path(parse(run(shell, str(tmp_path)).stdout).host_dir)
    folder.mkdir(parents=True)
    state = {"jobs": {JOB: {"pid": 1, "digests": [DIGEST]}}, "runs": {DIGEST: RUN}}
    (folder / "state.json").write_text(json.dumps(state))
    assert parse(run(shell, str(tmp_path)).stdout).state == state


@with_each_shell
def test_files_of_the_users_are_described(shell: str, tmp_path: Path) -> None:
    odd = tmp_path / "a:b = 'c' $(id).onnx"
    odd.write_bytes(b"12345")
    os.utime(odd, (1000, 1000))
    link, missing = tmp_path / "link", tmp_path / "missing"
    link.symlink_to(odd)
    probe = parse(run(shell, str(tmp_path), str(odd), str(link), str(missing)).stdout)
    assert probe.paths == {str(odd): "5:1000", str(link): "5:1000"}


@with_each_shell
@pytest.mark.parametrize("home", ["/home/a\nb", "relative", "~other/x", "/home/\x1b[31mred", ""])
def test_an_unusable_home_is_refused_by_name(shell: str, home: str) -> None:
    with pytest.raises(BenchfleetError, match="unusable home"):
        parse(run(shell, home).stdout)


@with_each_shell
def test_a_machine_without_any_of_the_files_still_answers(
    shell: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = probe_script._SCRIPT
    for folder in ("/proc/driver", "/proc/cpu", "/proc/self", "/proc/meminfo", "/sys/", "/etc/"):
        assert f" {folder}" in script
        script = script.replace(f" {folder}", f" /nowhere{folder}")
    monkeypatch.setattr(probe_script, "_SCRIPT", script)
    probe = parse(run(shell, str(tmp_path)).stdout)
    assert probe.host_dir.endswith("-none")
    assert set(probe.fingerprint) == {"kernel", "kernel_build", "machine"}


def test_banners_around_the_answer_do_not_matter() -> None:
    plain = parse(printed(facts="kernel=6.1\n"))
    banner = f"Welcome!\nkernel=evil\nhome=/evil\n{BEGIN} is what we print\n"
    assert parse(banner + printed(facts="kernel=6.1\n") + "\nlogout\nkernel=7\n") == plain
    assert parse(printed(facts="kernel=6.1\n").replace("\n", "\r\n")) == plain
    assert plain == Probe(
        "/home/u/.benchfleet",
        "/home/u/.benchfleet/hosts/n-1234",
        "b",
        {"kernel": "6.1"},
        {"jobs": {}, "runs": {}},
        {},
    )


def test_only_what_changes_results_is_in_the_fingerprint() -> None:
    assert parse(printed(facts='uptime=5\nos_id="debian"\n')).fingerprint == {"os_id": "debian"}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "This account is not available.\n",
        printed()[:-30],
        printed().replace(BEGIN, ""),
        "x" * (probe_script.LIMIT + 1) + printed(),
        "\x1b]0;title\x07" + "\x00" * 50,
    ],
    ids=["nothing", "nologin", "cut", "no begin", "huge", "control characters"],
)
def test_what_is_no_answer_is_shown_in_short_and_clean(text: str) -> None:
    with pytest.raises(BenchfleetError) as caught:
        parse(text)
    assert "did not answer the probe" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "host_id", ["", "..", "../x", "a/b", ".hidden", "a b", "-rf", "a\x1b", "a\x85b"]
)
def test_a_host_name_that_is_no_folder_name_is_refused(host_id: str) -> None:
    with pytest.raises(BenchfleetError, match="unusable"):
        parse(printed(host_id=host_id))


@pytest.mark.parametrize(
    "state",
    ["{", "[]", "5", "null", '{"jobs": [], "runs": 5}', "[" * 100_000, "\x00", '{"jobs": null}'],
    ids=lambda s: s[:20],
)
def test_a_broken_state_file_counts_as_none(state: str) -> None:
    assert not any(parse(printed(state)).state.values())


def test_of_a_hostile_state_file_only_well_formed_entries_remain() -> None:
    good = {"pid": 5, "pid_start": 9, "digests": [DIGEST], "state": "running"}
    state = {
        "jobs": {
            JOB: good,
            "../../x": good,
            "list": [],
            "digests": {"digests": "abc"},
            "pid": {"pid": "5; reboot"},
        },
        "runs": {DIGEST: RUN, "a": "../../../etc", "b": f"../{RUN}", "c": 5, "d": None, "e": "x\n"},
    }
    assert parse(printed(state)).state == {"jobs": {JOB: good}, "runs": {DIGEST: RUN}}
