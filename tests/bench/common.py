# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What speed comparisons share: a copy of the checkout, timed commands, pairs, loopback hosts."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MOST_LISTEN = 16  # addresses that one sshd listens on at most (MAX_LISTEN_SOCKS of OpenSSH)
_RECAP = re.compile(
    r"^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE
)


class BenchError(Exception):
    """The comparison cannot go on: what was measured is not what was meant."""


@dataclass(frozen=True)
class Cost:
    """One command: wall seconds, CPU seconds of it and all that it waited for, and its output."""

    wall: float
    cpu: float
    output: str

    def hosts(self) -> dict[str, dict[str, int]]:
        """The counters of each host in the play recap."""
        words = ("ok", "changed", "unreachable", "failed")
        return {
            m[1]: dict(zip(words, map(int, m.groups()[1:]), strict=True))
            for m in _RECAP.finditer(self.output)
        }


@dataclass(frozen=True)
class Pairs:
    """Costs of two commands measured in turn: `ours[i]` right beside `other[i]`."""

    ours: list[Cost]
    other: list[Cost]

    def ratio(self, what: str) -> tuple[float, float, float]:
        """Median, smallest and largest ratio ours/other within pairs, of 'wall' or 'cpu'."""
        each = [
            getattr(a, what) / getattr(b, what) for a, b in zip(self.ours, self.other, strict=True)
        ]
        return statistics.median(each), min(each), max(each)


def timed(argv: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Cost:
    """Run a command; BenchError with the end of its output when it fails."""
    before = os.times()
    started = time.monotonic()
    done = subprocess.run(
        argv, cwd=cwd, env=dict(env), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    wall = time.monotonic() - started
    after = os.times()
    if done.returncode:
        raise BenchError(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout[-3000:]}")
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    return Cost(wall, cpu, done.stdout)


def pairs(count: int, ours: Callable[[], Cost], other: Callable[[], Cost], label: str) -> Pairs:
    """Measure two commands in turn, the order within a pair alternating."""
    found = Pairs([], [])
    for number in range(count):
        if number % 2:
            found.ours.append(ours())
            found.other.append(other())
        else:
            found.other.append(other())
            found.ours.append(ours())
        a, b = found.ours[-1], found.other[-1]
        print(
            f"{label}, pair {number + 1}: {a.wall:.2f} s ({a.cpu:.2f} CPU) beside "
            f"{b.wall:.2f} s ({b.cpu:.2f} CPU), ratio {a.wall / b.wall:.2f}",
            flush=True,
        )
    return found


def copy_checkout(target: Path) -> None:
    """Copy the files that git knows, as they stand now, so that edits made meanwhile do no harm."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], check=True, stdout=subprocess.PIPE, text=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        source, copy = ROOT / name, target / name
        if source.is_symlink() or source.is_file():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)


def snapshot(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, size and modification time (ns) of every file below a folder."""
    found = {}
    for path in folder.rglob("*"):
        status = path.stat(follow_symlinks=False)
        if not path.is_dir():
            found[str(path.relative_to(folder))] = (
                status.st_ino,
                status.st_size,
                status.st_mtime_ns,
            )
    return found


@dataclass(frozen=True)
class LoopbackHosts:
    """Addresses that answer ssh on `port` with the key and known hosts in `folder`."""

    folder: Path
    port: int
    addresses: list[str]

    def ssh_args(self) -> str:
        """Options of ssh that keep the user's own configuration and keys out."""
        return (
            f"-F none -o UserKnownHostsFile={self.folder}/known_hosts -o IdentitiesOnly=yes "
            "-o ControlMaster=auto -o ControlPersist=60s"
        )


@contextlib.contextmanager
def loopback_hosts(folder: Path, count: int) -> Iterator[LoopbackHosts]:
    """Run sshd on 127.0.2.1 and on, at most 250 addresses; ends with the block.

    Sessions get an empty home, since start-up files of the user's shell (pyenv, conda) would cost
    each ssh command of either side more than what is measured.
    """
    daemon = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if daemon is None or count > 250:
        raise BenchError("sshd is not installed" if daemon is None else f"{count} hosts: too many")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for key in ("host", "user"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(keygen, check=True)
    (folder / "home").mkdir()
    addresses = [f"127.0.2.{number}" for number in range(1, count + 1)]
    with socket.create_server((addresses[0], 0)) as probe:
        port = int(probe.getsockname()[1])
    public = " ".join((folder / "host.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text("".join(f"[{a}]:{port} {public}\n" for a in addresses))
    daemons = []
    try:
        for start in range(0, count, MOST_LISTEN):
            config = folder / f"config{start}"
            _write_config(config, folder, port, addresses[start : start + MOST_LISTEN])
            with (folder / "log").open("ab") as log:
                daemons.append(subprocess.Popen([daemon, "-D", "-e", "-f", config], stderr=log))
        for address in addresses:
            _await_port(address, port, folder / "log")
        yield LoopbackHosts(folder, port, addresses)
    finally:
        for process in daemons:
            process.terminate()
            process.wait()


def _write_config(config: Path, folder: Path, port: int, addresses: Sequence[str]) -> None:
    listen = "".join(f"ListenAddress {a}\n" for a in addresses)
    config.write_text(
        f"{listen}Port {port}\nHostKey {folder}/host\nPidFile none\nUsePAM no\nStrictModes no\n"
        f"AuthorizedKeysFile {folder}/user.pub\nPasswordAuthentication no\nPermitRootLogin yes\n"
        "MaxStartups 300\nMaxSessions 50\nSubsystem sftp internal-sftp\n"
        f"SetEnv HOME={folder}/home\n"
    )


def _await_port(address: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection((address, port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return
    raise BenchError(f"sshd does not listen on {address}:\n{log.read_text()}")
