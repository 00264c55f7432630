# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host-wide measurement lock: an abstract Unix socket that its holder listens on.

The name lives in the network namespace, not in a file system: every user of the host sees it, a
shared home does not confuse it, and the kernel removes it with its holder. A container with a
network namespace of its own has a lock of its own.
"""

from __future__ import annotations

import contextlib
import errno
import json
import pwd
import socket
import struct
import time
from typing import Any, Dict

NAME = "benchfleet.measurement"
ANSWER_LIMIT = 4096  # bytes of a holder's answer; more is not one of ours
ANSWER_TIMEOUT_S = 2.0

Holder = Dict[str, Any]


def acquire(name: str = NAME) -> socket.socket | None:
    """Take the lock. Return the listening socket that holds it, None when somebody has it.

    Raises OSError for anything but "in use" (no AF_UNIX, for instance).
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        listener.bind("\0" + name)
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return listener


def answer(connection: socket.socket, facts: Holder) -> None:
    """Send the one line that says who measures; a peer that has gone is no error."""
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps(facts, sort_keys=True).encode() + b"\n")


def connect(name: str = NAME) -> tuple[socket.socket, Holder] | None:
    """Connect to the holder: (socket that reaches end of file when the holder ends, its facts).

    None when nobody holds the lock. The user's name and uid and the process id are the kernel's
    word (SO_PEERCRED), whatever the answer says.
    """
    peer = _reach(name)
    if peer is None:
        return None
    facts = _read_line(peer)
    pid, uid, _gid = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    facts.update(pid=pid, uid=uid, user=user_name(uid))
    return peer, facts


def holder(name: str = NAME) -> Holder | None:
    """Ask who measures on this host: {user, uid, pid, job_id, controller, what, until} or None."""
    reached = connect(name)
    if reached is None:
        return None
    reached[0].close()
    return reached[1]


def user_name(uid: int) -> str:
    """The account name of a uid, or the number where the host does not know it."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _reach(name: str) -> socket.socket | None:
    """Connect; the holder may be between bind and listen for a moment, which looks like refusal."""
    for attempt in range(3):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        peer.settimeout(ANSWER_TIMEOUT_S)
        try:
            peer.connect("\0" + name)
            return peer
        except OSError as error:
            peer.close()
            if error.errno not in (errno.ECONNREFUSED, errno.EAGAIN):
                raise
        if attempt < 2:
            time.sleep(0.01)
    return None


def _read_line(peer: socket.socket) -> Holder:
    """Read the holder's line; a silent or strange holder gives an empty answer, never an error."""
    data = b""
    try:
        while b"\n" not in data and len(data) < ANSWER_LIMIT:
            chunk = peer.recv(ANSWER_LIMIT - len(data))
            if not chunk:
                break
            data += chunk
        facts = json.loads(data.decode())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}
