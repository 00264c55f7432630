# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put what a bug report needs into one redacted archive; connects to nothing, sends nothing."""

from __future__ import annotations

import getpass
import platform
import re
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.release import __version__ as ansible_version
from ansible.utils.display import Display

from ..plugin_utils import bundle
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.payload import COLLECTION
from ..plugin_utils.redact import Redactor
from ..plugin_utils.results import Results
from ..plugin_utils.table import count

_HOST_VARIABLES = ("ansible_host", "ansible_ssh_host")
_USER_VARIABLES = ("ansible_user", "ansible_ssh_user")
_MOST_LINES = 40
display = Display()


class ActionModule(ActionBase):
    """Collect, redact, list, write."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Make the bundle of all hosts' latest request."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={"results": {"type": "str", "required": True}}
        )
        root = Results(given["results"]).root
        try:
            files = {"versions.txt": _versions(), **bundle.collect(root)}
            redactor = _redactor(task_vars or {}, root)
            clean = bundle.redacted(files, redactor)
            now = int(time.time())
            name = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
            path = root / "support" / f"{name}.tar.gz"
            if not self._task.check_mode:
                bundle.write(path, clean, now)
        except (BenchfleetError, OSError) as e:
            raise AnsibleActionFail(str(e)) from None
        self._show(path, clean, redactor.counts)
        counts = dict(sorted(redactor.counts.items()))
        return {"changed": True, "path": str(path), "files": list(clean), "redacted": counts}

    def _show(self, path: Path, clean: Mapping[str, str], counts: Mapping[str, int]) -> None:
        for name, text in list(clean.items())[:_MOST_LINES]:
            display.display(f"  {len(text):>9,}  {name}")
        if len(clean) > _MOST_LINES:
            display.display(f"  … and {len(clean) - _MOST_LINES} more")
        taken = ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()) if n) or "nothing"
        word = "would be written to" if self._task.check_mode else "in"
        display.display(f"{count(len(clean), 'file')} {word} {path}. Taken out: {taken}.")
        display.display("Nothing was sent. Look through it before you pass it on.")


def _redactor(variables: Mapping[str, Any], root: Path) -> Redactor:
    """Return a redactor that knows this controller and the inventory."""
    redactor = Redactor()
    redactor.learn("user", getpass.getuser(), Path.home().name)
    redactor.learn("host", socket.gethostname(), socket.getfqdn())
    for host in variables["groups"]["all"]:
        own = variables["hostvars"][host]
        redactor.learn("host", host, *(str(own[n]) for n in _HOST_VARIABLES if n in own))
        redactor.learn("user", *(str(own[n]) for n in _USER_VARIABLES if n in own))
        redactor.learn("host", *(str(s["name"]) for s in own.get("benchfleet_suts") or ()))
    redactor.discover(str(root))
    return redactor


def _versions() -> str:
    return "".join(
        f"{name}: {value}\n"
        for name, value in (
            ("collection", _version()),
            ("ansible-core", ansible_version),
            ("python", sys.version.replace("\n", " ")),
            ("controller", platform.platform()),
        )
    )


def _version() -> str:
    """Return the collection's version, from the file that its form of delivery has."""
    for name in ("MANIFEST.json", "galaxy.yml"):
        path = COLLECTION / name
        if path.is_file():
            text = path.read_text(encoding="utf-8")
            found = re.search(r"^\s*\"?version\"?\s*:\s*\"?([\w.+-]+)", text, re.M)
            if found:
                return found[1]
    return "unknown"
