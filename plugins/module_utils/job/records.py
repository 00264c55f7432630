# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The records a job leaves: atomic files, the disk-full reserve, run directories, manifests."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shlex
import stat
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Dict, Iterator, Mapping, Sequence

Json = Dict[str, Any]
FULL = (errno.ENOSPC, errno.EDQUOT)
RESERVE_BYTES = 256 * 1024  # room for the records of a job whose disk has filled up
STATUS_BYTES = 64  # eight native-endian unsigned 64-bit counters, shared with the harness
RUN_DIR_TOKEN = "@run_dir@"  # in argv, prefix and env: the folder the harness runs in
STATUS_TOKEN = "@status@"  # likewise: the file of BENCHFLEET_STATUS


def utc(seconds: float) -> str:
    """Seconds since the epoch as ``2026-01-31T12:00:00.000Z``."""
    moment = datetime.fromtimestamp(seconds, timezone.utc)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def atomic_write(path: Path, text: str) -> None:
    """Replace ``path`` by ``text`` so that a reader or a crash sees the old or the new, no mix."""
    spare = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(str(spare), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        spare.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            spare.unlink()
        raise
    sync_folder(path.parent)


def write_json(path: Path, data: Any) -> None:
    """Write one JSON document atomically."""
    atomic_write(path, json.dumps(data, indent=1, sort_keys=True) + "\n")


def read_json(path: Path) -> Json | None:
    """Read a JSON object; None where there is no file or it is no JSON object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return data if isinstance(data, dict) else None


def sync_folder(folder: Path) -> None:
    """Make renames in a folder durable; file systems that cannot are left as they are."""
    descriptor = os.open(str(folder), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


class Reserve:
    """Disk space set aside at the start of a job, given up to write its last records."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.disk_full = False  # a write has failed for lack of space

    def create(self) -> None:
        """Set the space aside; a disk that is full already is noted, not raised."""
        try:
            with self._path.open("wb") as stream:
                stream.write(b"\0" * RESERVE_BYTES)
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            if error.errno not in FULL:
                raise
            self.free()
            self.disk_full = True

    def free(self) -> None:
        """Give the space back; more than once is fine."""
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    def write(self, path: Path, data: Any) -> bool:
        """Write a JSON record (or a text), from the reserve if need be. False: not even then."""
        text = data if isinstance(data, str) else json.dumps(data, indent=1, sort_keys=True) + "\n"
        for _attempt in range(2):
            try:
                atomic_write(path, text)
                return True
            except OSError as error:
                if error.errno not in FULL:
                    raise
                self.disk_full = True
                self.free()
        return False


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the file system of ``folder``."""
    figures = os.statvfs(str(folder))
    return figures.f_bavail * figures.f_frsize


def last_line(path: Path, most: int = 300) -> str:
    """The last line with something on it of a text file; empty when there is none."""
    try:
        with path.open("rb") as stream:
            stream.seek(0, 2)
            stream.seek(max(0, stream.tell() - 8192))
            lines = stream.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    return next((line.strip()[:most] for line in reversed(lines) if line.strip()), "")


def new_run_dir(runs: Path, digest: str, now: float) -> Path:
    """A free path ``<runs>/<UTC>-<digest8>``; where it is taken the second moves on."""
    while True:
        stamp = datetime.fromtimestamp(now, timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        path = runs / f"{stamp}-{digest[:8]}"
        if not path.exists():
            return path
        now += 1


def write_inputs(folder: Path, files: Mapping[str, Any]) -> None:
    """Write a run's input files: text as it is, anything else as JSON.

    Raises ValueError for a name that is not a plain file name.
    """
    for name, content in files.items():
        if not name or "/" in name or name.startswith("."):
            raise ValueError(f"{name!r} is not a name for a file of a run")
        text = content if isinstance(content, str) else json.dumps(content, indent=1) + "\n"
        atomic_write(folder / name, text)


def fill(values: Sequence[str] | Mapping[str, str], run_dir: str, status: str) -> Any:
    """Put the run's folder and status file in place of their tokens, in a list or a mapping."""

    def one(text: str) -> str:
        return text.replace(RUN_DIR_TOKEN, run_dir).replace(STATUS_TOKEN, status)

    if isinstance(values, Mapping):
        return {name: one(value) for name, value in values.items()}
    return [one(value) for value in values]


def launch_script(
    run_id: str,
    command: Sequence[str],
    env: Mapping[str, str],
    inputs: Sequence[str],
    links: Mapping[str, str],
) -> str:
    """A POSIX script that repeats a run by hand, in a fresh folder beside its own."""
    names = " ".join(shlex.quote(name) for name in inputs)
    pairs = [_shell(f"{name}={env[name]}") for name in sorted(env) if name != "BENCHFLEET_STATUS"]
    pairs.append('"BENCHFLEET_STATUS=$work/progress"')
    lines = [
        "#!/bin/sh",
        f"# Repeats run {run_id}: the same command, environment and settings. The run's own files",
        "# stay as they are: everything new goes to a fresh folder beside this one.",
        "set -eu",
        'here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)',
        'work=$(mktemp -d "$here.by-hand.XXXXXX")',
        f'for name in {names}; do cp -- "$here/$name" "$work/$name"; done',
        *(
            f'mkdir -p -- "$work"/{shlex.quote(os.path.dirname(name) or ".")}; '
            f'ln -s -- {shlex.quote(target)} "$work"/{shlex.quote(name)}'
            for name, target in sorted(links.items())
        ),
        f'dd if=/dev/zero of="$work/progress" bs={STATUS_BYTES} count=1 2>/dev/null',
        'cd -- "$work"',
        'echo "running in $work" >&2',
        "exec env -i \\",
        *(f"  {pair} \\" for pair in pairs),
        "  " + " ".join(_shell(word) for word in command),
    ]
    return "\n".join(lines) + "\n"


def _shell(word: str) -> str:
    """Quote for sh; the two tokens become the script's own folder and status file."""
    quoted = shlex.quote(word)
    if RUN_DIR_TOKEN not in word and STATUS_TOKEN not in word:
        return quoted
    quoted = quoted if quoted.startswith("'") else f"'{quoted}'"
    quoted = quoted.replace(RUN_DIR_TOKEN, "'\"$work\"'")
    return quoted.replace(STATUS_TOKEN, "'\"$work/progress\"'")


def make_links(folder: Path, links: Mapping[str, str]) -> None:
    """Make links in a folder, or make them anew.

    Raises ValueError for a name that leads out of the folder, before any is made.
    """
    for name in links:
        if not name or name.startswith(("/", ".")) or ".." in name.split("/"):
            raise ValueError(f"{name!r} is not a name for a link of a run")
    for name, target in links.items():
        path = folder / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_symlink():
            path.unlink()
        path.symlink_to(target)


@contextlib.contextmanager
def linked(folder: Path, links: Mapping[str, str]) -> Iterator[None]:
    """Have links in a folder for a while; a finished run holds none. Raises as make_links."""
    try:
        make_links(folder, links)
        yield
    finally:
        for name in links:
            if (folder / name).is_symlink():
                (folder / name).unlink()


def regular_files(folder: Path) -> Iterator[Path]:
    """Every regular file under a folder, in order; links and special files are not followed."""
    for entry in sorted(os.scandir(str(folder)), key=lambda item: item.name):
        if entry.is_dir(follow_symlinks=False):
            yield from regular_files(Path(entry.path))
        elif entry.is_file(follow_symlinks=False):
            yield Path(entry.path)


def hash_and_sync(path: Path) -> Json:
    """sha256 and size of a file, which is on the disk when this returns. Raises OSError."""
    digest = hashlib.sha256()
    descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        os.fsync(descriptor)
        size = 0
        for chunk in iter(lambda: os.read(descriptor, 1 << 20), b""):
            digest.update(chunk)
            size += len(chunk)
    finally:
        os.close(descriptor)
    return {"sha256": digest.hexdigest(), "size": size}


def manifest(run_dir: Path) -> Json:
    """A run directory as it stands: {format, run_id, files: {path: {sha256, size}}}."""
    files = {}
    for path in regular_files(run_dir):
        name = path.relative_to(run_dir).as_posix()
        if name != "manifest.json" and not path.name.startswith(".result.json."):
            files[name] = hash_and_sync(path)
    return {"format": 1, "run_id": run_dir.name, "files": files}


def finalise(run_dir: Path, reserve: Reserve | None, result: Json) -> bool:
    """Write result.json (unless it is there) and then the manifest. True when both are written."""
    keeper = reserve or Reserve(run_dir / ".reserve")
    written = True
    if read_json(run_dir / "result.json") is None:
        written = keeper.write(run_dir / "result.json", result)
    return written and keeper.write(run_dir / "manifest.json", manifest(run_dir))
