# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the locked environment on the controller and let the host build it."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ..plugin_utils import network, payload
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.errors import BenchfleetError

MODULE = "benchfleet.mlperf.python_env"
HOME = "@home@"  # the host knows what ~ is there
FOR_HOST = ("home", "python", "wheels_folder")


class ActionModule(ActionBase):
    """Resolve rounds and locks, which lie on the controller, and run the module."""

    _supports_check_mode = True
    _supports_async = False

    def run(
        self, tmp: str | None = None, task_vars: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the module's result."""
        super().run(tmp, task_vars)
        _options, given = self.validate_argument_spec(
            argument_spec={
                "locks": {"type": "list", "elements": "str", "default": []},
                "requirements": {"type": "dict", "default": {}},
                "round": {"type": "str", "default": ""},
                "loadgen_version": {"type": "str", "default": ""},
                "loadgen_source": {"type": "str", "default": ""},
                "wheels_folder": {"type": "str", "default": ""},
                "home": {"type": "str", "default": "~/.benchfleet"},
                "python": {"type": "str", "default": "auto"},
                **network.SPEC,
                "catalog_path": {"type": "str", "default": ""},
            }
        )
        try:
            env = environment(given)
            settings = network.Settings.of(given)
        except BenchfleetError as e:
            raise AnsibleActionFail(str(e)) from None
        variables, secrets = settings.on_host(HOME)
        arguments = {name: given[name] for name in FOR_HOST} | env
        arguments |= {"environment": variables, "secrets": secrets, "ca": settings.ca_folder()}
        result: dict[str, Any] = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=task_vars
        )
        return result


def environment(given: dict[str, Any]) -> dict[str, Any]:
    """Return the environment that the options ask for. Raises BenchfleetError."""
    version = given["loadgen_version"]
    if given["round"] and not version:
        catalog = Catalog(given["catalog_path"])
        version = catalog.get("rounds", given["round"])["loadgen"]["version"]
    return payload.environment(
        given["locks"], version, given["loadgen_source"], given["requirements"]
    )
