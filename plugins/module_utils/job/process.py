# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Processes: who is alive, how a harness is started and ended, how a job leaves its parent."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pwd
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Mapping, Sequence

PR_SET_PDEATHSIG = 1  # linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36
GRACE_S = 5.0  # between SIGTERM and SIGKILL
KEPT_ENV = ("PATH", "HOME", "XDG_RUNTIME_DIR", "TMPDIR")


def boot_id() -> str:
    """The kernel's id of this boot; empty where /proc is not Linux's."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def start_ticks(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (field 22 of its stat); None: no process.

    With the pid it names one process for the whole boot, however often pids are used again.
    """
    fields = _stat(pid)
    return int(fields[19]) if fields and fields[0] not in ("Z", "X") else None


def alive(pid: int | None, ticks: int | None) -> bool:
    """Whether the process that had this pid and start time still runs (a zombie does not)."""
    return pid is not None and ticks is not None and start_ticks(pid) == ticks


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/<pid>/stat from the third (state) on; names may hold anything."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def _all_pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "?"


def base_env(extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a harness: a few variables of the user's own, then what the plan says."""
    account = pwd.getpwuid(os.geteuid())
    env = {"HOME": account.pw_dir, "USER": account.pw_name, "LOGNAME": account.pw_name}
    env.update({"PATH": os.defpath, "LANG": "C.UTF-8"})
    env.update({name: os.environ[name] for name in KEPT_ENV if os.environ.get(name)})
    env.update(extra)
    return env


def become_subreaper() -> None:
    """Orphaned descendants become our children, so that none escapes the end of its run."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def start(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    console: Path,
    printout: Path | None = None,
) -> int:
    """Start a harness in a session of its own; it is killed when this process dies.

    stdin is /dev/null, stdout and stderr go to ``console``, or stdout to ``printout``. Raises
    OSError when it cannot start (no such program, no permission, no memory, no disk).
    """
    supervisor = os.getpid()
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: the child only calls it

    def in_child() -> None:
        libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL), 0, 0, 0)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        if os.getppid() != supervisor:
            os._exit(127)

    with contextlib.ExitStack() as opened:
        stream = opened.enter_context(console.open("ab"))
        stdout = opened.enter_context(printout.open("ab")) if printout else stream
        child = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
            list(argv),
            cwd=str(cwd),
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stream,
            start_new_session=True,
            preexec_fn=in_child,
        )
    pid = child.pid
    child.returncode = 0  # the caller reaps it with wait4; Popen is not to look for it again
    return pid


def signal_group(pid: int, number: int) -> None:
    """Signal a harness's process group; gone already is fine."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def kill_orphans(deadline_s: float = GRACE_S) -> list[str]:
    """Kill and reap every child this process has left; return their names with pids.

    As a subreaper this process inherits the children of what it kills, so it goes on until there
    are none, for ``deadline_s`` seconds at most.
    """
    own = str(os.getpid())
    found: list[str] = []
    seen: set[int] = set()
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        reap_all()
        children = [pid for pid in _all_pids() if (_stat(pid) or ["", ""])[1] == own]
        if not children:
            break
        for pid in children:
            if pid not in seen:
                seen.add(pid)
                found.append(f"{_name(pid)} ({pid})")
            _kill(pid)
        time.sleep(0.005)
    return found


def reap_all() -> None:
    """Collect every child that has ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0] != 0:
            pass
    except ChildProcessError:
        pass


def kill_marked(mark: str) -> list[int]:
    """Kill this user's processes whose environment holds ``mark`` (``NAME=value``).

    What a harness left behind when its supervisor was killed is found this way. Returns the pids.
    """
    killed = []
    wanted = mark.encode()
    for pid in _all_pids():
        try:
            entries = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if wanted in entries and pid != os.getpid():
            _kill(pid)
            killed.append(pid)
    return killed


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def detach(argv: Sequence[str], log_path: Path, unit: str | None = None) -> None:
    """Start ``argv`` so that it outlives this process, its session and its connection.

    Returns once the program runs. Double fork, own session, no inherited descriptor, standard
    output to ``log_path``. As root under systemd it also gets a scope of its own (``unit``), as
    a login session's end would otherwise take it along. Raises OSError when it cannot be started.
    """
    command = list(argv)
    if unit and _has_systemd():
        command = ["systemd-run", "--scope", "--quiet", "--collect", f"--unit={unit}", *command]
    reader, writer = os.pipe()  # closed by exec: end of file is success
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _exec_detached(command, log_path, writer)
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader, "rb") as stream:
        failure = stream.read()
    if failure:
        number = int(failure)
        raise OSError(number, os.strerror(number), command[0])


def _exec_detached(command: list[str], log_path: Path, writer: int) -> None:
    """In the grandchild: drop everything inherited and become the program; report errno if not."""
    try:
        null = os.open(os.devnull, os.O_RDONLY)
        log = os.open(str(log_path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            if descriptor > 2 and descriptor != writer:
                _close(descriptor)
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.chdir("/")
        os.execvp(command[0], command)
    except OSError as error:
        os.write(writer, str(error.errno or errno.EINVAL).encode())


def _close(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _has_systemd() -> bool:
    """Whether a system scope can be made: root, systemd is process 1, and systemd-run works.

    systemd-run may be installed where systemd does not run, and fails there.
    """
    if os.geteuid() != 0 or not Path("/run/systemd/system").is_dir() or _name(1) != "systemd":
        return False
    if shutil.which("systemd-run") is None:
        return False
    try:
        trial = subprocess.run(
            ["systemd-run", "--scope", "--quiet", "--collect", "true"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return trial.returncode == 0


def oom_kills() -> int:
    """How many processes the kernel has killed for lack of memory since boot (0: not counted)."""
    try:
        lines = Path("/proc/vmstat").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
