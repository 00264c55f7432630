"""Controllers for tests: the playbook called as a person calls it, and what is left afterwards."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from lab import Lab
from tree import root

MARK = "BENCHFLEET_TEST_CONTROLLER"
QUICK = {"scenario": "Offline", "mode": "accuracy"}
LIMIT_S = 240  # for a call; minutes only on a busy machine
FIRST_PASS_S = 600
_RECAP = re.compile(r"^(\S+)\s+: (ok=.*)$", re.M)


@dataclass(frozen=True)
class Done:
    """A call of the playbook that has ended: its exit code and everything it printed."""

    code: int
    text: str

    @property
    def recap(self) -> dict[str, dict[str, int]]:
        """Ansible's closing counts by host: ok, changed, unreachable, failed …"""
        return {
            host: {k: int(v) for k, v in (pair.split("=") for pair in counts.split())}
            for host, counts in _RECAP.findall(self.text)
        }

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks that were reached, without the role's name."""
        return [n.rpartition(" : ")[2] for n in re.findall(r"^TASK \[(.*)\]", self.text, re.M)]


@dataclass
class Call:
    """A call of the playbook under way."""

    process: subprocess.Popen[bytes]
    log: Path
    mark: str

    def text(self) -> str:
        """What it printed so far."""
        return self.log.read_text(errors="replace")

    def wait(self, timeout: float = LIMIT_S) -> Done:
        """Wait for its end; a call that does not end is killed and fails the test."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill(signal.SIGKILL)
            raise AssertionError(f"no end within {timeout} s:\n{self.text()}") from None
        return Done(code, self.text())

    def kill(self, number: int, *, group: bool = True) -> Done:
        """Signal the playbook's process group, as a terminal does, or its process alone."""
        (os.killpg if group else os.kill)(self.process.pid, number)
        return Done(self.process.wait(30), self.text())

    def orphans(self) -> list[str]:
        """Processes of this call that still run; ssh's shared connections end by themselves."""
        wanted = f"{MARK}={self.mark}".encode()
        found = []
        for folder in Path("/proc").iterdir():
            try:
                if folder.name.isdigit() and wanted in (folder / "environ").read_bytes():
                    argv = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found.append(argv.strip())
            except OSError:
                continue
        return [argv for argv in found if argv and not argv.startswith("ssh: ")]


class Controller:
    """A person at a terminal: an environment, a working folder, its results."""

    def __init__(self, env: Mapping[str, str], folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._env = dict(env) | {"PWD": str(folder), "ANSIBLE_CONFIG": str(root() / "ansible.cfg")}
        self.folder = folder
        self.results = folder / "results"

    def start(self, inventory: Path, *words: str, **request: Any) -> Call:
        """Start the playbook; `words` are options of ansible-playbook."""
        mark = uuid.uuid4().hex
        log = self.folder / f"{mark}.log"
        # Under nohup this process ignores SIGHUP, and what it starts would too.
        argv = ["env", "--default-signal=HUP,INT", "ansible-playbook"]
        argv += [str(root() / "run_benchmark.yml"), "-i", str(inventory)]
        asked = {"benchmark": "digits", **QUICK, **request}
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*argv, *words, "-e", json.dumps(asked)],
                cwd=self.folder,
                env={**self._env, MARK: mark},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Call(process, log, mark)

    def run(self, inventory: Path, *words: str, timeout: float = LIMIT_S, **request: Any) -> Done:
        """Run the playbook to its end."""
        return self.start(inventory, *words, **request).wait(timeout)

    def outcomes(self) -> list[dict[str, Any]]:
        """Return the outcomes of the latest request."""
        files = sorted((self.results / "outcomes").glob("*.json"), key=os.path.getmtime)
        cells: list[dict[str, Any]] = json.loads(files[-1].read_text())["cells"]
        return cells

    def by_sut(self) -> dict[str, str]:
        """Return SUT -> outcome; for requests of one cell for each SUT."""
        cells = self.outcomes()
        assert len({cell["sut"] for cell in cells}) == len(cells), cells
        return {cell["sut"]: cell["outcome"] for cell in cells}

    def runs(self) -> list[Run]:
        """Return the stored runs, oldest first."""
        manifests = (self.results / "runs").glob("*/*/*/*/*/*/manifest.json")
        return sorted((Run(path.parent) for path in manifests), key=lambda run: run.path.name)


@dataclass(frozen=True)
class Run:
    """A stored run."""

    path: Path

    def read(self, name: str) -> Any:
        """Return one of its JSON files."""
        return json.loads((self.path / name).read_text())

    def span(self) -> tuple[float, float]:
        """When its harness started and ended, in seconds since the epoch on its host's clock."""
        result = self.read("result.json")
        began, ended = (datetime.fromisoformat(result[k]) for k in ("started", "finished"))
        return began.timestamp(), ended.timestamp()

    def complete(self) -> bool:
        """Whether each file of the manifest is there with its digest."""
        files = self.read("manifest.json")["files"]
        return bool(files) and all(
            hashlib.sha256((self.path / name).read_bytes()).hexdigest() == facts["sha256"]
            for name, facts in files.items()
        )


def overlap(one: Run, other: Run) -> float:
    """Return for how many seconds two runs were under way together; below zero: apart."""
    (a, b), (c, d) = one.span(), other.span()
    return min(b, d) - max(a, c)


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Return digest and modification time (ns) of each file below a folder."""
    return {
        str(path.relative_to(folder)): (
            hashlib.sha256(path.read_bytes()).hexdigest(),
            path.stat().st_mtime_ns,
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def altered(inventory: Path, *changes: tuple[str, str]) -> Path:
    """Change the text of an inventory: each first text, which must be there, by the second."""
    text = inventory.read_text()
    for old, new in changes:
        assert old in text, (old, text)
        text = text.replace(old, new)
    inventory.write_text(text)
    return inventory


def dead(lab: Lab, inventory: Path, *names: str) -> Path:
    """Point some hosts of an inventory at a port that nobody listens on."""
    for name in names:
        host = lab.hosts[name]
        port = f"ansible_host={host.address} ansible_port="
        altered(inventory, (f"{port}{host.spec.port}", f"{port}9"))
    return inventory


class Slow:
    """A request whose harness takes a while, and which no other test has made.

    The wait is a launcher's (run_prefix), so that the measurement itself stays short.
    """

    def __init__(self, seconds: float) -> None:
        self.name = f"slow-{uuid.uuid4().hex[:12]}"
        self.request = {"run_prefix": f"sh -c 'sleep {seconds}; exec \"$@\"' {self.name}"}

    def running(self, lab: Lab, host: str, user: str = "bench") -> bool:
        """Whether its harness runs on a host."""
        pattern = f"[{self.name[0]}]{self.name[1:]}"
        return lab.ssh(host, f"pgrep -u {user} -f {pattern}", user=user).returncode == 0

    def wait(self, lab: Lab, host: str, call: Call, user: str = "bench") -> None:
        """Wait until its harness runs."""
        for _look in until(60):
            if self.running(lab, host, user):
                return
            assert call.process.poll() is None, call.text()
        raise AssertionError(f"the harness did not start:\n{call.text()}")

    def count(self, lab: Lab, host: str, user: str = "bench") -> int:
        """How many run directories it has on a host."""
        where = "~/.benchfleet/hosts/*/runs/*/run.json"
        listing = lab.ssh(host, f"grep -l {self.name} {where}", user=user).stdout
        return sum(line.endswith("/run.json") for line in listing.splitlines())


def until(seconds: float) -> Iterator[int]:
    """Count the looks, one about every 0.2 s, until the time is over."""
    end = time.monotonic() + seconds
    look = 0
    while time.monotonic() < end:
        yield (look := look + 1)
        time.sleep(0.2)


class Forwarder:
    """A fixed address for a host that may come back with another one after a reboot.

    `drop` ends every connection, as a rebooted host does with packets of its former life.
    """

    def __init__(self, lab: Lab, name: str) -> None:
        self._lab, self._name = lab, name
        self._first = lab.hosts[name].address
        self._pairs: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    def inventory(self) -> Path:
        """Return an inventory of the host that goes through here; its host key is checked."""
        host = self._lab.hosts[self._name]
        port = self._listener.getsockname()[1]
        before = f"ansible_host={host.address} ansible_port={host.spec.port}"
        after = f"ansible_host=127.0.0.1 ansible_port={port}"
        common = "ansible_ssh_common_args='"
        alias = f"{common}-o HostKeyAlias={self._first} "
        return altered(self._lab.inventory(self._name), (before, after), (common, alias))

    def drop(self) -> None:
        """End every connection."""
        while self._pairs:
            with contextlib.suppress(OSError):
                self._pairs.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End every connection and take no more."""
        self._listener.close()
        self.drop()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            host = self._lab.hosts[self._name]
            try:
                far = socket.create_connection((host.address, host.spec.port), timeout=5)
            except OSError:
                near.close()
                continue
            far.settimeout(None)
            self._pairs += [near, far]
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=_pump, args=(source, target), daemon=True).start()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_RDWR)


@dataclass(frozen=True)
class Fleet:
    """The lab after its first pass: every host is ready for `bench`, sut2 for `plain` too.

    `bare` is the call as `plain` on sut2 and on sut4, which lacks python3-venv; `first` is the
    call as `bench` on all hosts.
    """

    lab: Lab
    env: dict[str, str]
    bare_controller: Controller
    bare: Done
    controller: Controller
    first: Done


def provision(lab: Lab, env: dict[str, str], folder: Path) -> Fleet:
    """Run the first pass on the lab."""
    without_root = Controller(env, folder / "without_root")
    bare = without_root.run(lab.inventory("sut2", "sut4", user="plain"), timeout=FIRST_PASS_S)
    controller = Controller(env, folder / "first")
    first = controller.run(lab.inventory(), timeout=FIRST_PASS_S)
    return Fleet(lab, env, without_root, bare, controller, first)
