# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files cross a real sshd on loopback, through a real Ansible ssh connection."""

from __future__ import annotations

import fcntl
import getpass
import hashlib
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible.playbook.play_context import PlayContext
from ansible.plugins.loader import connection_loader
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import transfer
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.evidence import (
    EvidenceError,
    Limits,
)
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.transfer import (
    Job,
    TransferError,
    TransferInterrupted,
)

RUN = "20260102T030405Z-0123abcd"
ADDRESS = "127.0.0.2"
ODD_NAMES = [
    "a b",
    "it's",
    'say "hi"',
    "a*b",
    "a[1]?",
    "-rf",
    "#no",
    "~root",
    "$HOME",
    "{a,b}",
    "größe",
]


@dataclass
class Sshd:
    """A private sshd of the current user."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]

    def connection(self, **options: object) -> Any:
        """An Ansible ssh connection as an action plugin would get it, compression and all."""
        context = PlayContext()
        context.remote_addr = ADDRESS
        made = connection_loader.get("ssh", context, None)
        known = f"-o UserKnownHostsFile={self.folder}/known_hosts"
        given: dict[str, object] = {
            "host": ADDRESS,
            "port": self.port,
            "remote_user": getpass.getuser(),
            "private_key_file": str(self.folder / "user"),
            "ssh_args": "-C -o ControlMaster=auto -o ControlPersist=60s",
            "ssh_common_args": f"{known} -o IdentitiesOnly=yes -F none",
        }
        made.set_options(direct=given | options)
        return made


def start_sshd(folder: Path, subsystem: str) -> Sshd:
    """Start one; raises OSError or CalledProcessError where that cannot be done."""
    daemon = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if daemon is None:
        raise FileNotFoundError("sshd")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    for key in ("host", "user"):
        keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / key)]
        subprocess.run(keygen, check=True)
    with socket.create_server((ADDRESS, 0)) as probe:
        port = probe.getsockname()[1]
    public = (folder / "host.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[{ADDRESS}]:{port} {' '.join(public)}\n")
    (folder / "config").write_text(
        f"ListenAddress {ADDRESS}\nPort {port}\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\n"
        f"PermitRootLogin yes\nMaxStartups 50\n{subsystem}\n"
    )
    log = (folder / "log").open("wb")
    process = subprocess.Popen([daemon, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise OSError((folder / "log").read_text())
        try:
            socket.create_connection((ADDRESS, port), 1).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
        else:
            return Sshd(folder, port, process)
    raise TimeoutError("sshd does not listen")


def sshd_or_skip(factory: pytest.TempPathFactory, subsystem: str) -> Iterator[Sshd]:
    """A running sshd; tests are skipped where none can be started, except in CI."""
    try:
        server = start_sshd(factory.mktemp("sshd"), subsystem)
    except (OSError, subprocess.CalledProcessError) as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"no sshd can be started here: {error}")
    yield server
    server.process.terminate()
    server.process.wait()


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    yield from sshd_or_skip(tmp_path_factory, "Subsystem sftp internal-sftp")


@pytest.fixture(scope="module")
def bare_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    yield from sshd_or_skip(tmp_path_factory, "")


@dataclass
class Case:
    """A run on the SUT and the places it goes to."""

    remote: Path
    incoming: Path
    final: Path

    @property
    def part(self) -> Path:
        return self.incoming / RUN

    def seal(self, **lies: dict[str, object]) -> None:
        """Write the manifest; `lies` overrides entries (`__` stands for the dot)."""
        files: dict[str, dict[str, object]] = {}
        for path in sorted(self.remote.rglob("*")):
            if path.is_file() and path.name != "manifest.json":
                content = path.read_bytes()
                digest = hashlib.sha256(content).hexdigest()
                name = str(path.relative_to(self.remote))
                files[name] = {"sha256": digest, "size": len(content)}
        for name, lie in lies.items():
            files.setdefault(name.replace("__", "."), {}).update(lie)
        document = {"format": 1, "run_id": RUN, "files": files}
        (self.remote / "manifest.json").write_text(json.dumps(document))

    def fetch(self, connection: Any, **more: Any) -> transfer.Collected:
        return transfer.fetch_run(connection, str(self.remote), self.incoming, self.final, **more)


@pytest.fixture
def case(tmp_path: Path) -> Case:
    made = Case(tmp_path / "s u't" / RUN, tmp_path / 'in "com" [ing]', tmp_path / "runs" / RUN)
    (made.remote / "trial_0").mkdir(parents=True)
    (made.remote / "run.json").write_bytes(b"{}")
    (made.remote / "empty").write_bytes(b"")
    (made.remote / "trial_0" / "trace.json").write_bytes(os.urandom(3_000_000))
    made.seal()
    return made


Connect = Callable[[], Any]


def local_connection() -> Any:
    made = connection_loader.get("local", PlayContext(), None)
    made.set_options()
    return made


@pytest.fixture(params=["ssh", "local", "plugin"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Each of the three ways of moving files."""
    if request.param == "local":
        return local_connection
    server: Sshd = request.getfixturevalue("sshd")

    def plain() -> Any:
        made = server.connection(ssh_transfer_method="sftp")
        made.transport = "some_other"
        return made

    return server.connection if request.param == "ssh" else plain


def assert_collected(case: Case) -> None:
    for path in case.remote.rglob("*"):
        twin = case.final / path.relative_to(case.remote)
        assert twin.is_dir() if path.is_dir() else twin.read_bytes() == path.read_bytes()
    assert list(case.incoming.iterdir()) == []


def test_run_is_collected_once(case: Case, connect: Connect) -> None:
    done = case.fetch(connect())
    assert (done.path, done.bytes, done.files, done.resumed) == (case.final, 3_000_002, 3, 0)
    assert_collected(case)
    again = case.fetch(connect())
    assert (again.bytes, again.already) == (0, True)


def test_odd_names_stand_for_themselves(case: Case, connect: Connect) -> None:
    for number, name in enumerate(ODD_NAMES):
        (case.remote / "-x" / name).mkdir(parents=True)
        (case.remote / "-x" / name / name).write_text(str(number))
    (case.remote / "aXb").write_text("matches a pattern above")
    case.seal()
    case.fetch(connect())
    assert_collected(case)


def test_many_small_files_and_modes(case: Case, sshd: Sshd) -> None:
    for number in range(1200):
        (case.remote / f"{number:04}").write_text(str(number))
    (case.remote / "0000").chmod(0o4401)
    case.seal()
    case.fetch(sshd.connection())
    assert_collected(case)
    assert (case.final / "0000").stat().st_mode & 0o7777 == 0o644


def test_partial_file_is_resumed(case: Case, sshd: Sshd) -> None:
    content = (case.remote / "trial_0/trace.json").read_bytes()
    (case.part / "trial_0").mkdir(parents=True)
    (case.part / "trial_0/trace.json").write_bytes(content[:2_000_000])
    (case.part / "run.json").write_bytes(b"{}")
    done = case.fetch(sshd.connection())
    assert (done.bytes, done.resumed) == (1_000_000, 2)
    assert_collected(case)


@pytest.mark.parametrize("length", [2_000_000, 3_000_000, 3_000_001])
def test_wrong_part_is_fetched_from_zero(case: Case, connect: Connect, length: int) -> None:
    (case.part / "trial_0").mkdir(parents=True)
    (case.part / "trial_0/trace.json").write_bytes(bytes(length))
    case.fetch(connect())
    assert_collected(case)


def test_part_that_is_a_link_is_replaced(case: Case, connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("untouched")
    case.part.mkdir(parents=True)
    (case.part / "run.json").symlink_to(tmp_path / "victim")
    case.fetch(connect())
    assert_collected(case)
    assert (tmp_path / "victim").read_text() == "untouched"


def assert_refused(case: Case, connection: Any, match: str) -> None:
    with pytest.raises(EvidenceError, match=match):
        case.fetch(connection)
    assert not case.final.exists()
    assert [path.name for path in case.incoming.iterdir()] == [f"{RUN}.refused"]


def test_altered_file_names_both_digests(case: Case, connect: Connect) -> None:
    (case.remote / "run.json").write_bytes(b"[]")
    digests = [hashlib.sha256(content).hexdigest() for content in (b"[]", b"{}")]
    assert_refused(case, connect(), "run.json.*{}.*{}".format(*digests))
    assert_refused(case, connect(), "run.json")


@pytest.mark.parametrize(
    ("lie", "match"),
    [
        ({"sha256": "0" * 64}, "run.json"),
        ({"size": 3}, "run.json"),
        ({"size": 1}, "run.json.*larger"),
        ({"size": -1}, "size -1"),
        ({"size": 60_000_000_000}, "size 60000000000"),
    ],
)
def test_lying_manifest(case: Case, connect: Connect, lie: dict[str, object], match: str) -> None:
    case.seal(run__json=lie)
    assert_refused(case, connect(), match)


@pytest.mark.parametrize("name", ["../x", "/etc/hostname", "a/../../x", "a\nb"])
def test_paths_outside_are_refused(case: Case, connect: Connect, name: str) -> None:
    case.seal(**{name: {"sha256": "0" * 64, "size": 1}})
    assert_refused(case, connect(), "path")


def test_missing_file_is_named(case: Case, connect: Connect) -> None:
    (case.remote / "run.json").unlink()
    assert_refused(case, connect(), r"run\.json")


def test_special_file_is_refused(case: Case, connect: Connect) -> None:
    (case.remote / "run.json").unlink()
    os.mkfifo(case.remote / "run.json")
    if isinstance(transfer.open_link(connect()), transfer.PluginLink):
        pytest.skip("what a foreign connection does with a pipe is its own affair")
    assert_refused(case, connect(), r"run\.json")


def test_link_in_a_run_never_arrives_as_a_link(case: Case, sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("{}")
    (case.remote / "run.json").unlink()
    (case.remote / "run.json").symlink_to(tmp_path / "secret")
    assert_refused(case, local_connection(), "symbolic link")
    case.fetch(sshd.connection())
    assert not (case.final / "run.json").is_symlink()


def test_linked_folder_is_refused_locally(case: Case, tmp_path: Path) -> None:
    (case.remote / "trial_0").rename(tmp_path / "elsewhere")
    (case.remote / "trial_0").symlink_to(tmp_path / "elsewhere")
    assert_refused(case, local_connection(), "trial_0")


def test_bomb_is_cut_off_at_the_announced_size(case: Case, connect: Connect) -> None:
    with (case.remote / "trial_0/trace.json").open("r+b") as file:
        file.truncate(2_000_000_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert_refused(case, connect(), "trace.json")
    assert resource.getrlimit(resource.RLIMIT_FSIZE) == before
    refused = case.incoming / f"{RUN}.refused" / "trial_0/trace.json"
    assert not refused.exists() or refused.stat().st_size <= 3_000_001


def test_bomb_behind_a_wrapper_is_no_interruption(case: Case, sshd: Sshd, tmp_path: Path) -> None:
    with (case.remote / "trial_0/trace.json").open("r+b") as file:
        file.truncate(2_000_000_000)
    wrapper = tmp_path / "wrapped-sftp"
    wrapper.write_text('#!/bin/sh\nsftp "$@" || exit 255\n')
    wrapper.chmod(0o755)
    assert_refused(case, sshd.connection(sftp_executable=str(wrapper)), "trace.json: larger")


def test_huge_manifest_is_cut_off(case: Case, connect: Connect) -> None:
    with (case.remote / "manifest.json").open("r+b") as file:
        file.truncate(2_000_000_000)
    assert_refused(case, connect(), "manifest.json")
    refused = case.incoming / f"{RUN}.refused" / "manifest.json"
    assert not refused.exists() or refused.stat().st_size <= 4_000_001


def test_unfinished_run_has_no_manifest(case: Case, connect: Connect) -> None:
    (case.remote / "manifest.json").unlink()
    with pytest.raises(TransferError, match="not finished"):
        case.fetch(connect())


def test_manifest_of_another_run_is_refused(case: Case, connect: Connect) -> None:
    document = json.loads((case.remote / "manifest.json").read_text())
    document["run_id"] = "20260102T030405Z-ffffffff"
    (case.remote / "manifest.json").write_text(json.dumps(document))
    assert_refused(case, connect(), "another run")


def test_no_space_is_told_with_figures(
    case: Case, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs

    def full(path: Any) -> os.statvfs_result:
        figures = list(real(path))
        figures[3] = figures[4] = 2_500_000 // figures[1]
        return os.statvfs_result(figures)

    monkeypatch.setattr(os, "statvfs", full)
    with pytest.raises(TransferError, match=r"3\.0 MB .* 2\.5 MB are free"):
        case.fetch(connect())
    monkeypatch.undo()
    case.fetch(connect())
    assert_collected(case)


def children() -> list[int]:
    """Process ids of this process's sftp clients."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = entry.read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue
        if name == "sftp" and int(rest.split()[1]) == os.getpid():
            found.append(int(entry.parent.name))
    return found


def kill_when_growing(path: Path, size: int) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if path.exists() and path.stat().st_size >= size:
            for pid in children():
                os.kill(pid, signal.SIGKILL)
            return
        time.sleep(0.001)


def test_interrupted_transfer_goes_on(case: Case, sshd: Sshd) -> None:
    content = os.urandom(1 << 20) * 150
    (case.remote / "trial_0/trace.json").write_bytes(content)
    case.seal()
    here = case.part / "trial_0/trace.json"
    killer = threading.Thread(target=kill_when_growing, args=(here, 1 << 20))
    killer.start()
    with pytest.raises(TransferInterrupted, match="again"):
        case.fetch(sshd.connection())
    killer.join()
    part = here.stat().st_size
    assert 0 < part < len(content)
    done = case.fetch(sshd.connection())
    assert done.bytes == len(content) - part
    assert done.resumed == 3
    assert_collected(case)


def test_unreachable_host_is_an_interruption(case: Case, sshd: Sshd) -> None:
    with socket.create_server((ADDRESS, 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(TransferInterrupted, match="refused"):
        case.fetch(sshd.connection(port=port))
    with pytest.raises(TransferInterrupted, match="refused"):
        transfer.check_sftp(sshd.connection(port=port))


@pytest.mark.parametrize("method", ["smart", "scp", "piped"])
def test_nothing_but_sftp_is_used(case: Case, bare_sshd: Sshd, method: str) -> None:
    connection = bare_sshd.connection(ssh_transfer_method=method)
    for attempt in (case.fetch, transfer.check_sftp):
        with pytest.raises(TransferError, match="Subsystem sftp") as caught:
            attempt(connection)
        assert not isinstance(caught.value, TransferInterrupted)


def test_check_sftp_is_content(connect: Connect) -> None:
    transfer.check_sftp(connect())


def test_own_connection_is_uncompressed_and_the_users_is_untouched(sshd: Sshd) -> None:
    connection = sshd.connection()
    link = transfer.SftpLink(connection)
    command = link._connection._build_command("sftp", "sftp", "host")
    assert b"-C" not in command
    settings = [command[i + 1].decode() for i, word in enumerate(command) if word == b"-o"]
    assert [s for s in settings if s.startswith(("Control", "Compression"))] == [
        "ControlMaster=no", "ControlPath=none", "Compression=no",
    ]  # fmt: skip
    assert connection.get_option("ssh_args") == "-C -o ControlMaster=auto -o ControlPersist=60s"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("-C", ""),
        ("-4C -v", "-4 -v"),
        ("-oCompression=yes -o 'compression yes' -o COMPRESSION=yes", ""),
        ("-o ControlMaster=auto -oControlPersist=60s -o ControlPath=/x", ""),
        ("-o ProxyCommand='ssh -C jump -W %h:%p'", "-o 'ProxyCommand=ssh -C jump -W %h:%p'"),
        ("-i /keys/C -F none", "-i /keys/C -F none"),
        ("-J CC", "-J CC"),
    ],
)
def test_compression_and_sharing_are_stripped(given: str, kept: str) -> None:
    assert transfer.uncompressed(given) == kept


@pytest.mark.parametrize("path", ["a\nb", "a\rb", "a\0b", "a\x7fb"])
def test_control_characters_never_reach_a_batch(path: str) -> None:
    with pytest.raises(TransferError):
        transfer.quoted(path)


def test_lies_of_a_batch_are_bounded() -> None:
    sizes = [0] * 1500 + [1 << 20] * 10 + [1 << 30, 1 << 30, 1 << 35]
    made = list(
        transfer.batches([Job(str(n), size, False) for n, size in enumerate(sizes)], 1 << 30)
    )
    assert [job.path for batch in made for job in batch] == [str(n) for n in range(len(sizes))]
    for batch in made:
        largest = max(1 << 20, max(job.size for job in batch))
        excess = largest * len(batch) - sum(job.size for job in batch)
        assert len(batch) == 1 or excess <= 1 << 30
    assert len(made) < 7


def test_second_collector_waits_and_finds_the_run(case: Case, sshd: Sshd) -> None:
    case.incoming.mkdir()
    lock = os.open(case.incoming / f"{RUN}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    found: list[transfer.Collected] = []
    waiting = threading.Thread(target=lambda: found.append(case.fetch(sshd.connection())))
    waiting.start()
    time.sleep(0.2)
    assert found == []
    case.final.mkdir(parents=True)
    (case.incoming / f"{RUN}.lock").unlink()
    os.close(lock)
    waiting.join(10)
    assert found[0].already


def test_orphan_stops_waiting(case: Case, sshd: Sshd) -> None:
    case.incoming.mkdir()
    with (case.incoming / f"{RUN}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TransferInterrupted, match="nobody"):
            case.fetch(sshd.connection(), alive=lambda: False)


@pytest.mark.parametrize("steps", range(5))
def test_orphan_stops_between_steps(case: Case, connect: Connect, steps: int) -> None:
    left = iter([True] * steps)
    try:
        case.fetch(connect(), alive=lambda: next(left, False))
    except TransferInterrupted:
        assert not case.final.exists()
    case.fetch(connect())
    assert_collected(case)


def test_limits_are_handed_down(case: Case, connect: Connect) -> None:
    with pytest.raises(EvidenceError, match="limit of 2"):
        case.fetch(connect(), limits=Limits(files=2))


def test_push_puts_parts(connect: Connect, tmp_path: Path) -> None:
    store = tmp_path / "st o're"
    store.mkdir()
    pairs = []
    names = [*ODD_NAMES, "back\\slash"]
    if isinstance(transfer.open_link(connect()), transfer.PluginLink):
        names.pop()  # Ansible's own quoting for sftp loses it
    for name in names:
        (store / name).write_text(name)
        pairs.append((store / name, str(tmp_path / "sut" / name)))
    (store / "linked").symlink_to(store / "a b")
    pairs.append((store / "linked", str(tmp_path / "sut" / "linked")))
    (tmp_path / "sut").mkdir()
    parts = transfer.push(connect(), pairs)
    assert len(set(parts)) == len(pairs)
    for part, (local, remote) in zip(parts, pairs, strict=True):
        assert part.startswith(f"{remote}.part-")
        assert Path(part).read_text() == local.read_text()
        assert not Path(remote).exists()


def test_push_tells_what_is_refused(connect: Connect, tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    with pytest.raises(TransferError, match="refused"):
        transfer.push(connect(), [(tmp_path / "model", str(tmp_path / "no/where/model"))])
    with pytest.raises(TransferError, match="store"):
        transfer.push(connect(), [(tmp_path / "absent", str(tmp_path / "x"))])


def test_connection_errors_of_other_plugins_are_told(case: Case) -> None:
    class Broken:
        transport = "some_other"

        def fetch_file(self, source: str, target: str) -> None:
            raise AnsibleError(f"no such container for {source} and {target}")

    with pytest.raises(TransferError, match="no such container"):
        case.fetch(Broken())
