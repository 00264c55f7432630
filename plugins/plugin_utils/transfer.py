# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Move files between a SUT and the controller over the connection that Ansible already has.

`fetch_run` brings one finished run home: manifest first, then the files, resumed where an earlier
attempt stopped, verified, and only then renamed to its final place. `push` takes artifacts to a
SUT. An ssh connection is used through sftp, without compression and without a shared master;
`local` is copied in the kernel; every other connection plugin moves file by file, its own way.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import posixpath
import re
import resource
import secrets
import shlex
import shutil
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.loader import connection_loader

from . import evidence
from .evidence import (
    MANIFEST,
    CollectError,
    EvidenceError,
    Limits,
    Manifest,
    Seen,
)

# Written into the options of our own copy of an ssh connection, in front of the user's.
OWN_SSH_ARGS = (
    "-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "Compression=no",
    "-o", "UpdateHostKeys=no",
)  # fmt: skip
KEEPALIVE = ("-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4")
SFTP_LINE = 2000  # bytes; OpenSSH's sftp reads a command into a buffer of 2048
SLACK = 1 << 33  # bytes that one batch of lying files may write beyond the manifest
FLOOR = 1 << 20  # smallest limit on a file's size, in bytes: ssh writes small files of its own
COPY = 1 << 26  # bytes per kernel copy call: how often `alive` is asked
WAIT_S = 0.5  # between two attempts to take a lock
FOLLOW_S = 0.02  # between two looks at a growing file

LARGER = "larger than the manifest says"
NEED_SFTP = (
    "sftp does not work on this host; results and artifacts are moved by sftp only (not by scp or "
    "through a pipe)"
)
DO_SFTP = (
    "Enable it in the sshd_config of the host (`Subsystem sftp internal-sftp`), restart sshd, and "
    "see that the user's shell prints nothing at login."
)
_FLAGS = re.compile(r"-[46AaCgKkMNnqTtVvXxYy]+")
_OURS = frozenset({"compression", "controlmaster", "controlpath", "controlpersist"})
_SSH_ARG_OPTIONS = ("ssh_args", "ssh_common_args", "sftp_extra_args")


class TransferError(CollectError):
    """Moving files is not possible as things are: sftp is off, a disk is full, a path is odd."""


class TransferInterrupted(TransferError):
    """The connection broke, or nobody waits any more; what arrived is kept and will be resumed."""


@dataclass(frozen=True)
class Collected:
    """What `fetch_run` did.

    `bytes` were moved in this call (0 when `already`), `files` is the number of evidence files,
    `resumed` counts files that an earlier attempt had left complete or in part.
    """

    path: Path
    bytes: int
    files: int
    resumed: int
    seconds: float
    already: bool = False


@dataclass(frozen=True)
class Job:
    """One file to fetch: path below the run, size in bytes, whether a part of it is here."""

    path: str
    size: int
    resume: bool


class Link(Protocol):
    """One way of moving files; paths are relative to the remote and the local folder."""

    resumes: bool

    def get(self, remote: str, folder: Path, jobs: Sequence[Job]) -> str | None:
        """Fetch `jobs`; the host's explanation when one is refused, None when all arrived.

        Raises TransferInterrupted when the connection fails.
        """

    def put(self, pairs: Sequence[tuple[Path, str]]) -> str | None:
        """Send files to absolute remote paths; returns and raises as `get`."""


def check_sftp(connection: Any) -> None:
    """See that files can be moved: one sftp session for ssh, nothing for other connections.

    Raises TransferError when the sftp subsystem is missing, TransferInterrupted when the host
    cannot be reached.
    """
    link = open_link(connection)
    if isinstance(link, SftpLink):
        refusal = link.run(["pwd"])
        if refusal:
            raise TransferError(f"{NEED_SFTP} ({refusal})", "sftp", DO_SFTP)


def fetch_run(
    connection: Any,
    remote_dir: str,
    results_incoming: Path,
    final: Path,
    limits: Limits | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> Collected:
    """Bring the finished run in `remote_dir` home and publish it as `final`.

    `results_incoming` belongs to one SUT and lies on the file system of `final`; it holds the part
    that has arrived and a lock per run. `alive` is asked between steps. Raises EvidenceError when
    the run contradicts its manifest (what arrived is kept as `<run_id>.refused`), TransferError
    when it cannot be moved, TransferInterrupted when calling again goes on where this one stopped.
    """
    started = time.monotonic()
    remote_dir = remote_dir.rstrip("/")
    run_id = posixpath.basename(remote_dir)
    if not evidence.valid_run_id(run_id):
        raise TransferError("not a run directory", remote_dir, "Its name must be a run id.")
    results_incoming.mkdir(parents=True, exist_ok=True)
    with _run_lock(results_incoming / f"{run_id}.lock", alive):
        if os.path.lexists(final):
            return Collected(final, 0, 0, 0, time.monotonic() - started, already=True)
        fetch = _Fetch(open_link(connection), remote_dir, results_incoming / run_id, alive)
        try:
            manifest = fetch.manifest(limits or Limits(), run_id)
            fetch.everything(manifest)
        except EvidenceError:
            _set_aside(results_incoming / run_id)
            raise
        fetch.step()
        evidence.publish(results_incoming / run_id, final)
    seconds = time.monotonic() - started
    return Collected(final, fetch.moved, len(manifest.files), fetch.resumed, seconds)


def push(connection: Any, files: Sequence[tuple[Path, str]]) -> list[str]:
    """Send local files to `<remote path>.part-<random>` and return those names, in order.

    The caller's module verifies each on the host and renames it. Raises TransferError when the host
    refuses one (parts of this call are removed where possible), TransferInterrupted when the
    connection breaks (parts stay; the module that owns the folder sweeps old ones).
    """
    pairs = [(path, f"{remote}.part-{secrets.token_hex(6)}") for path, remote in files]
    for path, _part in pairs:
        if not path.is_file():
            raise TransferError("not a file", str(path), "Fill the controller's store again.")
    if pairs:
        refusal = open_link(connection).put(pairs)
        if refusal:
            raise TransferError(
                f"the host refused a file ({refusal})",
                posixpath.dirname(pairs[0][1]),
                "Look at its free space and at the owner of that folder.",
            )
    return [part for _path, part in pairs]


def open_link(connection: Any) -> Link:
    """The way to move files for an Ansible connection, by its transport."""
    transport = getattr(connection, "transport", "")
    if transport == "local":
        return LocalLink()
    if transport == "ssh" and hasattr(connection, "_build_command"):
        return SftpLink(connection)
    return PluginLink(connection)


def uncompressed(args: str) -> str:
    """`args` for ssh without its compression and connection-sharing settings."""
    kept: list[str] = []
    tokens = iter(shlex.split(args))
    for token in tokens:
        if token == "-o":
            setting = next(tokens, None)
            if setting is not None and not _is_ours(setting):
                kept += [token, setting]
        elif token.startswith("-o"):
            if not _is_ours(token[2:]):
                kept.append(token)
        elif _FLAGS.fullmatch(token):
            flags = token.replace("C", "")
            kept += [flags] if flags != "-" else []
        else:
            kept.append(token)
    return shlex.join(kept)


def quoted(path: str) -> str:
    """`path` as one word of an sftp batch; patterns in it stand for themselves.

    Raises TransferError for a control character, which a batch line cannot carry.
    """
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in path):
        raise TransferError("a control character in the path", ascii(path), "Rename the folder.")
    return '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


@contextmanager
def file_size_ceiling(size: int) -> Iterator[None]:
    """Let no process started here, nor this one, write a file beyond `size` bytes meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    bounds = [bound for bound in (soft, hard) if bound != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_FSIZE, (min([size, *bounds]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class SftpLink:
    """OpenSSH's sftp over a private, uncompressed copy of an Ansible ssh connection."""

    resumes = True

    def __init__(self, connection: Any) -> None:
        options = dict(connection.get_options())
        given = " ".join(str(options.get(name) or "") for name in _SSH_ARG_OPTIONS)
        for name in _SSH_ARG_OPTIONS:
            options[name] = uncompressed(str(options.get(name) or ""))
        own = [*OWN_SSH_ARGS, *(() if "serveralive" in given.lower() else KEEPALIVE)]
        options["ssh_args"] = f"{shlex.join(own)} {options['ssh_args']}"
        options["sftp_batch_mode"] = False  # the batch comes from a file, see run()
        play_context = connection._play_context
        loader: Any = connection_loader
        self._connection: Any = loader.get("ssh", play_context, None)
        self._connection.set_options(direct=options)
        self._host = options.get("host") or play_context.remote_addr
        self._connection.host = self._host
        self._password = options.get("password") or play_context.password

    def get(self, remote: str, folder: Path, jobs: Sequence[Job]) -> str | None:
        """Fetch `jobs` in one sftp session; see Link."""
        lines = [f"lcd {quoted(str(folder.absolute()))}", f"cd {quoted(remote)}"]
        for job in jobs:
            name = quoted("./" + job.path)
            lines.append(f"{'reget' if job.resume else 'get'} {name} {name}")
        return self.run(lines)

    def put(self, pairs: Sequence[tuple[Path, str]]) -> str | None:
        """Send `pairs` in one sftp session; see Link."""
        lines = []
        for path, remote in pairs:
            path = path.absolute()
            lines += [
                f"lcd {quoted(str(path.parent))}",
                f"cd {quoted(posixpath.dirname(remote))}",
                f"put {quoted('./' + path.name)} {quoted('./' + posixpath.basename(remote))}",
            ]
        refusal = self.run(lines)
        if refusal:
            self.run([f"-rm {quoted(remote)}" for _path, remote in pairs])
        return refusal

    def run(self, lines: Sequence[str]) -> str | None:
        """Run one batch, ended by its first failure; that failure's text, or None.

        The batch is a file and not standard input: the connection plugin writes its input before
        it reads output, which would block both sides on a long list.
        """
        for line in lines:
            if len(line.encode()) > SFTP_LINE:
                raise TransferError("the path is too long for sftp", line, "Use shorter folders.")
        with tempfile.NamedTemporaryFile("w", prefix="benchfleet-", suffix=".sftp") as batch:
            batch.write("\n".join(lines) + "\n")
            batch.flush()
            extra = ["-o", "BatchMode=no"] if self._password else []
            link = self._connection
            try:
                command = link._build_command(
                    link.get_option("sftp_executable"),
                    "sftp",
                    *extra, "-b", batch.name, f"[{self._host}]",
                )  # fmt: skip
                code, _output, errors = link._bare_run(command, None, sudoable=False, checkrc=False)
            except AnsibleConnectionFailure as error:
                raise self._interrupted(str(error)) from error
            except AnsibleError as error:
                raise TransferError(
                    f"sftp cannot be started ({error})",
                    str(self._host),
                    "Mend the connection's settings and run the command again.",
                ) from error
        return self._outcome(code, errors.decode(errors="replace"))

    def _outcome(self, code: int, errors: str) -> str | None:
        """What an ended session means, by its exit code and what it said."""
        said = [line.strip() for line in errors.splitlines() if line.strip()]
        said = [
            line for line in said if not line.startswith(("Warning: Permanently", "Connected to"))
        ]
        text = "; ".join(said[-3:])
        if code == 0:
            return None
        if "No space left on device" in errors or "Disc quota exceeded" in errors:
            raise TransferError(text, str(self._host), "Free some space and run the command again.")
        if code in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ) or "File too large" in errors:
            return LARGER
        if "subsystem request failed" in errors or "Received message too long" in errors:
            raise TransferError(NEED_SFTP, str(self._host), DO_SFTP)
        if code == 1 and "Connection closed" not in errors and "Connection reset" not in errors:
            return text or "sftp gave no reason"
        raise self._interrupted(text or f"sftp ended with {code}")

    def _interrupted(self, text: str) -> TransferInterrupted:
        return TransferInterrupted(
            f"the connection broke ({text})",
            str(self._host),
            "Run the same command again; it goes on where this one stopped.",
        )


class LocalLink:
    """Files of this very machine, copied inside the kernel where it can."""

    resumes = False

    def get(self, remote: str, folder: Path, jobs: Sequence[Job]) -> str | None:
        """Copy `jobs`; a symbolic link anywhere below `remote` is refused."""
        for job in jobs:
            try:
                _copy_below(remote, job.path, folder / job.path, job.size)
            except OSError as error:
                return _reason(error, job.path)
        return None

    def put(self, pairs: Sequence[tuple[Path, str]]) -> str | None:
        """Copy each file to its place; see Link."""
        for path, remote in pairs:
            try:
                path = path.resolve()
                _copy_below(str(path.parent), path.name, Path(remote), path.stat().st_size)
            except OSError as error:
                Path(remote).unlink(missing_ok=True)
                return _reason(error, remote)
        return None


class PluginLink:
    """Any other connection plugin, one file after the other with its own methods."""

    resumes = False

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._name = str(getattr(connection, "transport", "connection"))

    def get(self, remote: str, folder: Path, jobs: Sequence[Job]) -> str | None:
        """Fetch each file; see Link."""
        return self._each(
            (job.path, self._connection.fetch_file, f"{remote}/{job.path}", str(folder / job.path))
            for job in jobs
        )

    def put(self, pairs: Sequence[tuple[Path, str]]) -> str | None:
        """Send each file; see Link."""
        return self._each(
            (remote, self._connection.put_file, str(path), remote) for path, remote in pairs
        )

    def _each(
        self, moves: Iterable[tuple[str, Callable[[str, str], object], str, str]]
    ) -> str | None:
        for what, move, source, target in moves:
            try:
                move(source, target)
            except AnsibleConnectionFailure as error:
                raise TransferInterrupted(
                    f"the connection broke ({error})", self._name, "Run the same command again."
                ) from error
            except AnsibleError as error:
                return f"{what}: {error}"
            except OSError as error:
                return _reason(error, what)
        return None


class _Fetch:
    """The state of one run's collection."""

    def __init__(self, link: Link, remote: str, folder: Path, alive: Callable[[], bool]) -> None:
        self.moved = 0
        self.resumed = 0
        self._link = link
        self._remote = remote
        self._folder = folder
        self._alive = alive
        self._known: dict[str, Seen] = {}

    def step(self) -> None:
        """Stop here when nobody waits for the result any more."""
        if not self._alive():
            raise TransferInterrupted(
                "nobody waits for this transfer any more",
                self._remote,
                "Run the same command again; it goes on where this one stopped.",
            )

    def manifest(self, limits: Limits, run_id: str) -> Manifest:
        """Fetch and read the manifest; an old copy of it is replaced."""
        self.step()
        self._folder.mkdir(exist_ok=True)
        here = self._folder / MANIFEST
        here.unlink(missing_ok=True)
        with file_size_ceiling(max(FLOOR, limits.manifest) + 1):
            refusal = self._link.get(
                self._remote, self._folder, [Job(MANIFEST, limits.manifest, False)]
            )
        where = f"{self._remote}/{MANIFEST}"
        large = (_regular_size(here) or 0) > limits.manifest
        if large or (refusal and refusal.endswith(LARGER)):
            raise EvidenceError(
                f"larger than the limit of {limits.manifest} bytes", where, "Look at it on the SUT."
            )
        if refusal:
            raise TransferError(
                f"cannot be read ({refusal})", where, "A run without it is not finished."
            )
        manifest = evidence.parse_manifest(here.read_bytes(), limits, where)
        if manifest.run_id != run_id:
            raise EvidenceError(
                f"written for another run, {manifest.run_id}", where, "Look at it on the SUT."
            )
        return manifest

    def everything(self, manifest: Manifest) -> None:
        """Fetch what is not here yet, a second time where the digest differs, and verify all."""
        self.step()
        jobs = self._survey(manifest)
        wrong = self._get(manifest, jobs)
        for path in wrong:
            (self._folder / path).unlink(missing_ok=True)
        self._get(manifest, [Job(path, manifest.files[path].size, False) for path in wrong])
        self.step()
        problems = evidence.verify(self._folder, manifest, self._known)
        if problems:
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise self._contradiction(problems[0].path, f"{problems[0].detail}{more}")

    def _survey(self, manifest: Manifest) -> list[Job]:
        """Compare what an earlier attempt left; unusable parts are removed."""
        jobs = []
        for path, entry in manifest.files.items():
            here = self._folder / path
            here.parent.mkdir(parents=True, exist_ok=True)
            part = _regular_size(here)
            if part is not None and part == entry.size:
                seen = evidence.digest_file(here)
                if seen.sha256 == entry.sha256:
                    self._known[path] = seen
                    self.resumed += 1
                    continue
            usable = part is not None and 0 < part < entry.size and self._link.resumes
            if usable:
                self.resumed += 1
            else:
                here.unlink(missing_ok=True)
            jobs.append(Job(path, entry.size, usable))
        return sorted(jobs, key=lambda job: (job.size, job.path))

    def _get(self, manifest: Manifest, jobs: Sequence[Job]) -> list[str]:
        """Fetch `jobs` in batches; the paths whose content is not what the manifest says."""
        wrong: list[str] = []
        spare = self._room(jobs)
        for batch in batches(jobs, min(SLACK, spare // 4)):
            self.step()
            before = {job.path: _regular_size(self._folder / job.path) or 0 for job in batch}
            # One byte more than the largest: a file cut off there shows that it was larger.
            ceiling = max(FLOOR, max(job.size for job in batch)) + 1
            follower = _Follower(self._folder, batch)
            try:
                with follower, file_size_ceiling(ceiling):
                    refusal = self._link.get(self._remote, self._folder, batch)
            except TransferInterrupted:
                self._refuse(batch, None)  # a wrapper of sftp may hide why sftp was killed
                raise
            self._known.update(follower.seen)
            self._refuse(batch, refusal)
            for job in batch:
                here = self._folder / job.path
                arrived = _regular_size(here)
                if arrived is not None:
                    here.chmod(0o644)  # the host's modes are not ours
                self.moved += max(0, (arrived or 0) - before[job.path])
                if not self._right(job.path, manifest):
                    wrong.append(job.path)
        return wrong

    def _refuse(self, batch: Sequence[Job], refusal: str | None) -> None:
        """Raise for the file that is too large, or at which the host's refusal ended the batch."""
        arrived = [_regular_size(self._folder / job.path) for job in batch]
        for job, size in zip(batch, arrived, strict=True):
            if (size or 0) > job.size:
                raise self._contradiction(job.path, f"larger than its {job.size} bytes")
        if refusal is None:
            return
        pairs = zip(batch, arrived, strict=True)
        gaps = (job for job, size in pairs if size is None or size < job.size)
        stop = next(gaps, batch[-1])
        raise self._contradiction(stop.path, f"not what the manifest says ({refusal})")

    def _contradiction(self, path: str, what: str) -> EvidenceError:
        return EvidenceError(
            what,
            f"{self._remote}/{path}",
            f"What arrived is kept as {self._folder}.refused; look at the file on the SUT.",
        )

    def _right(self, path: str, manifest: Manifest) -> bool:
        """Whether the file's digest is the manifest's; read again where it was not followed."""
        here = self._folder / path
        expected = manifest.files[path].sha256
        seen = self._known.get(path)
        if seen is None or seen != Seen.of(expected, here.lstat()):
            try:
                seen = self._known[path] = evidence.digest_file(here)
            except OSError:
                return False
        return seen.sha256 == expected

    def _room(self, jobs: Sequence[Job]) -> int:
        """Bytes that stay free after `jobs`; raises TransferError when they do not fit."""
        have = sum(_regular_size(self._folder / job.path) or 0 for job in jobs)
        need = sum(job.size for job in jobs) - have
        status = os.statvfs(self._folder)
        free = status.f_bavail * status.f_frsize
        if need > free:
            raise TransferError(
                f"{_amount(need)} are to be fetched, {_amount(free)} are free",
                str(self._folder),
                "Free some space or move benchfleet_results, and run the command again.",
            )
        return free - need


class _Follower:
    """Computes digests of files while they grow, so that verifying costs little time of its own.

    Leaving the context waits for the last digest; leaving it by an error does not. A digest that
    turns out wrong proves nothing (data may arrive out of order): such a file is read again.
    """

    def __init__(self, folder: Path, jobs: Sequence[Job]) -> None:
        self.seen: dict[str, Seen] = {}
        self._folder = folder
        self._jobs = jobs
        self._ended = threading.Event()
        self._abandoned = False
        self._thread = threading.Thread(target=self._run, name="benchfleet-digest", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._abandoned = kind is not None
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        for job in self._jobs:
            try:
                seen = self._follow(self._folder / job.path, job.size)
            except OSError:
                return  # the transfer itself reports what is wrong with this file
            if seen is None:
                return
            self.seen[job.path] = seen

    def _follow(self, path: Path, size: int) -> Seen | None:
        while not path.exists():
            if self._ended.is_set() and not path.exists():
                return None
            self._ended.wait(FOLLOW_S)
        digest = hashlib.sha256()
        view = memoryview(bytearray(evidence.CHUNK))
        done = 0
        with path.open("rb", buffering=0) as file:
            while done < size and not self._abandoned:
                ended = self._ended.is_set()
                count = file.readinto(view)
                if count:
                    digest.update(view[:count])
                    done += count
                elif ended:
                    return None
                else:
                    self._ended.wait(FOLLOW_S)
            return Seen.of(digest.hexdigest(), os.fstat(file.fileno()))


def batches(jobs: Sequence[Job], slack: int) -> Iterator[list[Job]]:
    """Split `jobs` (ascending by size) so that a batch of lies writes at most `slack` too much.

    In a batch every file can grow to the size of the largest (at least FLOOR); a file alone is
    always allowed.
    """
    batch: list[Job] = []
    total = 0
    for job in jobs:
        worst = max(FLOOR, job.size) * (len(batch) + 1) - total - job.size
        if batch and worst > slack:
            yield batch
            batch, total = [], 0
        batch.append(job)
        total += job.size
    if batch:
        yield batch


@contextmanager
def _run_lock(path: Path, alive: Callable[[], bool]) -> Iterator[None]:
    """Hold the run's lock file; wait for another holder while `alive`. Removed at the end."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _same_file(descriptor, path):
                break
        except BlockingIOError:
            if not alive():
                os.close(descriptor)
                raise TransferInterrupted(
                    "nobody waits for this transfer any more", str(path), "Run the command again."
                ) from None
            time.sleep(WAIT_S)
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _same_file(descriptor: int, path: Path) -> bool:
    """Whether the locked file is still the one of that name (its last holder removes it)."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _set_aside(folder: Path) -> None:
    """Keep refused evidence under a name that no attempt resumes; only the latest is kept."""
    target = folder.with_name(folder.name + ".refused")
    if target.exists():
        shutil.rmtree(target)
    folder.rename(target)


def _amount(size: int) -> str:
    """A number of bytes for people."""
    if size < 1_000_000:
        return f"{size} bytes"
    return f"{size / 1e9:.1f} GB" if size >= 1_000_000_000 else f"{size / 1e6:.1f} MB"


def _is_ours(setting: str) -> bool:
    return re.split(r"[=\s]", setting.strip(), maxsplit=1)[0].lower() in _OURS


def _regular_size(path: Path) -> int | None:
    try:
        status = path.lstat()
    except FileNotFoundError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def _reason(error: OSError, path: str) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise TransferError(
            str(error.strerror), path, "Free some space and run the command again."
        ) from error
    if error.errno == errno.ELOOP:
        return f"{path}: a symbolic link"
    if error.errno == errno.EFBIG:
        return f"{path}: {LARGER}"
    return f"{path}: {error.strerror or error}"


def _open_below(root: str, path: str) -> int:
    """Open `root/path` for reading without following a link below `root`."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    parent = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    parts = path.split("/")
    try:
        for part in parts[:-1]:
            deeper = os.open(part, flags | os.O_DIRECTORY, dir_fd=parent)
            os.close(parent)
            parent = deeper
        return os.open(parts[-1], flags | os.O_NONBLOCK, dir_fd=parent)
    finally:
        os.close(parent)


def _copy_below(root: str, path: str, target: Path, most: int) -> None:
    """Copy one regular file of at most `most` bytes; OSError EFBIG when it is larger."""
    source = _open_below(root, path)
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if status.st_size > most:
            raise OSError(errno.EFBIG, "larger than expected")
        with target.open("wb", buffering=0) as file:
            _copy_bytes(source, file.fileno(), status.st_size)
    finally:
        os.close(source)


def _copy_bytes(source: int, target: int, size: int) -> None:
    """Copy up to `size` bytes inside the kernel, between file systems too."""
    left = size
    while left > 0:
        try:
            count = os.copy_file_range(source, target, min(left, COPY))
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP):
                raise
            count = os.sendfile(target, source, None, min(left, COPY))
        if count == 0:
            return
        left -= count
