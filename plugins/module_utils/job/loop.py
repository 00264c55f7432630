# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The supervisor's one event loop: child exits, deadlines, stop signals, askers of the lock.

It sleeps in one ``select`` until one of them happens; while a harness runs it takes no CPU time.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from dataclasses import dataclass
from types import FrameType
from typing import Callable

from . import lock

LONGEST_S = 86400.0  # one sleep; epoll counts milliseconds in 31 bits


@dataclass(frozen=True)
class ChildEnd:
    """How a child ended: exit_code or signal, and the CPU time it took, in seconds."""

    exit_code: int | None
    signal: int | None
    cpu_s: float


class Loop:
    """Create one per process, in its main thread: it owns the signal handlers."""

    def __init__(self) -> None:
        self.stopped_by: str | None = None  # the signal that asked us to stop
        self._selector = selectors.DefaultSelector()
        self._wakeup, writer = socket.socketpair()
        self._writer = writer
        for end in (self._wakeup, writer):
            end.setblocking(False)
        signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGHUP):
            signal.signal(number, self._ignore)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        self._selector.register(self._wakeup, selectors.EVENT_READ, self._drain)

    def serve(self, listener: socket.socket, facts: Callable[[], lock.Holder]) -> None:
        """Answer everybody who connects; the connections stay open until this process ends."""

        def accept(_source: socket.socket) -> None:
            try:
                connection, _address = listener.accept()
            except OSError:
                return
            connection.setblocking(False)
            lock.answer(connection, facts())
            self._selector.register(connection, selectors.EVENT_READ, self._read_or_close)

        self._selector.register(listener, selectors.EVENT_READ, accept)

    def wait_child(self, pid: int, deadline: float, heed_stop: bool = True) -> ChildEnd | None:
        """Wait until the child ends; None at the deadline (monotonic) or when asked to stop."""
        while True:
            end = _reap(pid)
            if end is not None:
                return end
            if (heed_stop and self.stopped_by) or time.monotonic() >= deadline:
                return None
            self._turn(deadline)

    def wait_closed(self, peer: socket.socket, deadline: float) -> bool:
        """Wait until the other side ends. False at the deadline or when asked to stop."""
        closed = []

        def on_read(source: socket.socket) -> None:
            if self._ended(source):
                closed.append(True)

        peer.setblocking(False)
        self._selector.register(peer, selectors.EVENT_READ, on_read)
        try:
            while not closed and not self.stopped_by and time.monotonic() < deadline:
                self._turn(deadline)
        finally:
            self._selector.unregister(peer)
            peer.close()
        return bool(closed)

    def _turn(self, deadline: float) -> None:
        left = min(LONGEST_S, max(0.0, deadline - time.monotonic()))
        for key, _events in self._selector.select(left):
            key.data(key.fileobj)

    def _read_or_close(self, connection: socket.socket) -> None:
        if self._ended(connection):
            self._selector.unregister(connection)
            connection.close()

    @staticmethod
    def _ended(connection: socket.socket) -> bool:
        try:
            return connection.recv(4096) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _drain(self, _source: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            self._wakeup.recv(4096)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self.stopped_by = signal.Signals(number).name

    @staticmethod
    def _ignore(_number: int, _frame: FrameType | None) -> None:
        """A handler, as an ignored signal would stay ignored in the harness."""


def _reap(pid: int) -> ChildEnd | None:
    """Collect ended children until ``pid`` is among them; orphans are collected in passing."""
    while True:
        try:
            ended, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ChildEnd(None, None, 0.0)
        if ended == 0:
            return None
        if ended == pid:
            cpu = usage.ru_utime + usage.ru_stime
            if os.WIFSIGNALED(status):
                return ChildEnd(None, os.WTERMSIG(status), cpu)
            return ChildEnd(os.WEXITSTATUS(status), None, cpu)
