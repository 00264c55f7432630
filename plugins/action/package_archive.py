# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fetch the packages that a connected host has collected into the controller's store."""

from __future__ import annotations

import posixpath
import shlex
import tempfile
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..module_utils.artifacts.store import Store
from ..module_utils.host_store import HostError, sha256_of
from ..plugin_utils import os_packages, transfer
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.session import Session
from ..plugin_utils.stage import printable

MODULE = "benchfleet.mlperf.package_archive"
display = Display()


class ActionModule(ActionBase):
    """Tell the host what the store has, take away what it collected."""

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's result with the `digest` of what the store holds."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={
                "names": {"type": "list", "elements": "str", "required": True},
                "store": {"type": "path", "default": "~/.cache/benchfleet"},
                "session": {"type": "str"},
                "home": {"type": "str", "default": "~/.benchfleet"},
            }
        )
        store, names = Store(given["store"]), given["names"]
        systems = os_packages.lacking(Session(given["session"])) if given["session"] else None
        if systems == []:
            return {"changed": False, "system": {}, "digest": ""}
        if not names:
            raise AnsibleActionFail(
                "how packages of this system are called is not known: name them, such as"
                " -e mirror_packages=python3-venv,g++"
            )
        arguments = {**given, "systems": systems, "held": os_packages.systems(store, names)}
        result: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=task_vars
        )
        if result.get("failed"):
            return result
        if result["archive"]:
            try:
                self._take(store, result, names)
            except (HostError, BenchfleetError) as e:
                raise AnsibleActionFail(str(e)) from None
        digest = os_packages.find(store, result["system"], names)
        return {**result, "digest": digest or ""}

    def _take(self, store: Store, result: dict[str, Any], names: list[str]) -> None:
        folder, name = posixpath.split(result["archive"])
        try:
            with tempfile.TemporaryDirectory(prefix="packages-", dir=store.part("").parent) as own:
                job = transfer.Job(name, 1 << 40, False)
                refusal = transfer.open_link(self._connection).get(folder, Path(own), [job])
                packed = Path(own, name)
                if refusal or sha256_of(str(packed)) != result["sha256"]:
                    why = refusal or "it came damaged"
                    raise BenchfleetError(f"{result['archive']} could not be fetched ({why}).")
                host = str(self._task.delegate_to or self._play_context.remote_addr)
                os_packages.keep(store, packed, result["system"], names, host)
        finally:
            self._low_level_execute_command(f"rm -rf {shlex.quote(folder)}")
        display.display(f"  {host}: {printable(os_packages.label(result['system']))} collected")
