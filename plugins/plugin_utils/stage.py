# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the controller halves of all stages share."""

from __future__ import annotations

import os
import re
import time
from abc import abstractmethod
from typing import Any, ClassVar

from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from .errors import BenchfleetError
from .session import Session

display = Display()
# of what a stage found, what its task returns; the rest stays in the session
_SHOWN = (
    *("fault", "todo", "settled", "built", "missing_packages", "packages_folder", "msg"),
    *("debug_dir", "command"),
)
KEEP_ALIVE = "-o ServerAliveInterval=15 -o ServerAliveCountMax=8"


class HostAction(ActionBase):
    """A controller half that speaks to its host beside running a module there."""

    TRANSFERS_FILES = False
    _supports_check_mode = True
    _supports_async = False

    def say(self, host: str, text: str) -> None:
        """Show one line of progress at once, under every callback and ansible-runner."""
        display.display(f"  {host}: {printable(text)}")

    def _keep_alive(self) -> None:
        """Let ssh notice a host that vanished silently: TCP alone takes a quarter of an hour."""
        if self._connection.transport == "ssh":
            arguments = str(self._connection.get_option("ssh_args") or "")
            if "ServerAliveInterval" not in arguments:
                self._connection.set_option("ssh_args", f"{arguments} {KEEP_ALIVE}")

    def command(self, text: str) -> tuple[int, str, str]:
        """Run one shell command on the host with neither module nor become; return (code, out,
        err)."""
        if not self._connection.connected:
            self._keep_alive()
            self._connection._connect()
        code, out, err = self._connection.exec_command(text, sudoable=False)
        return code, text_of(out), text_of(err)


class Stage(HostAction):
    """A stage for one host: reads its cells from the session, records what it found, returns
    little.

    A stage never fails a host, because a failed host would not reach the end of the play: it
    records a `fault` (a sentence) as data, and the judge turns outcomes into exit codes.
    """

    NAME = ""
    # Options of the module documentation with their defaults; `session` is always there.
    OPTIONS: ClassVar[dict[str, Any]] = {}

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run the stage for the current host."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        options = self.options()
        session = Session(options["session"])
        host = str(variables.get("inventory_hostname"))
        found: dict[str, Any]
        try:
            found = self.stage(session, host, options, variables)
        except (BenchfleetError, AnsibleConnectionFailure) as e:
            found = {
                "fault": printable(str(e)),
                "unreachable": isinstance(e, AnsibleConnectionFailure),
            }
        except OSError as e:
            found = {"fault": f"{e.filename or 'this controller'}: {e.strerror or e}."}
        session.record(host, self.NAME, found)
        shown: dict[str, Any] = {"changed": bool(found.get("changed"))}
        for name in _SHOWN:
            if name in found:
                shown[name] = found[name]
        return shown

    @abstractmethod
    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Do the stage's work for `host` and return what to record. Raises BenchfleetError."""

    def options(self) -> dict[str, Any]:
        """Return the task's arguments over the defaults; refuse unknown ones."""
        known = {"session": None, **self.OPTIONS}
        unknown = set(self._task.args) - set(known)
        if unknown:
            raise AnsibleActionFail(
                f"unknown options: {', '.join(sorted(unknown))}; known: {', '.join(known)}"
            )
        return {**known, **self._task.args}

    @staticmethod
    def pause(seconds: float, parent: int) -> None:
        """Sleep, but end this worker when the playbook that started it is gone: nobody reads its
        answer."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if orphaned(parent):
                os._exit(1)
            time.sleep(min(left, 0.5))


def printable(text: str) -> str:
    """Return text without control characters: what a host says must not steer a terminal."""
    return re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).strip()


def orphaned(parent: int) -> bool:
    """Return whether the playbook that started this worker is gone."""
    return os.getppid() != parent


def module_result(result: dict[str, Any]) -> dict[str, Any]:
    """Return a module's result, its failure as a `fault` that a person can act on."""
    if result.get("failed"):
        text = str(result.get("msg") or "the module failed")
        detail = (
            str(result.get("module_stderr") or result.get("exception") or "").strip().splitlines()
        )
        if (
            "interpreter" in text.lower()
            or "deserialization" in text.lower()
            or "pyenv" in " ".join(detail)
        ):
            text += " (the host's Python does not run; set ansible_python_interpreter for it)"
        raise BenchfleetError(" ".join([text, *detail[-1:]])[:600])
    return result


def text_of(raw: Any) -> str:
    """Return what a connection brought as text."""
    return raw.decode("utf-8", "replace") if isinstance(raw, bytes) else str(raw)
