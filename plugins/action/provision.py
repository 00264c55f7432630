# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Push what a host lacks and run the target half of provisioning once."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from ..plugin_utils import host_logs, origin, transfer
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, module_result

MODULE = "benchfleet.mlperf.provision"


class ActionModule(Stage):
    """Make a host ready for the cells that must run on it."""

    NAME = "provision"
    OPTIONS = {
        "python": "auto",
        "environment": {},
        "store": "~/.cache/benchfleet",
        "hf_endpoint": "https://huggingface.co",
    }

    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what was done; `missing_packages` asks for packages of the operating system
        first."""
        found = session.read(host, "probe")
        items = [i for i in session.work(host) or () if i["action"] == "run"]
        if not items:
            return {"changed": False}
        common = session.common()
        transfer.check_sftp(self._connection)
        local = dict(common["local"]) | {d: p for p, d in common["paths"].items()}
        downloaded = self._download(items, options)
        local |= dict(downloaded.values())
        home = found["probe"]["home"]
        arguments = self._arguments(items, common, found["probe"], options)
        arguments["artifacts"] = sorted(
            {*arguments["artifacts"], *(d for d, _path in downloaded.values())}
        )
        first = self._module(dict(arguments, parts={}), variables)
        missing = first.get("missing_artifacts", [])
        if missing and not self._task.check_mode and "fault" not in first:
            parts = self._push(home, {d: local[d] for d in missing})
            self.say(host, f"{len(missing)} files pushed")
            second = self._module(dict(arguments, parts=parts), variables)
            second["changed"] = True
            first = second
        if first.get("log"):
            where = host_logs.folder(Path(common["results"]), host)
            copy = host_logs.keep_one(self.command, first["log"], home, where)
            first["fault"] += f" (its end is here: {copy})" if copy else ""
        first["downloaded"] = {identity: d for identity, (d, _path) in downloaded.items()}
        return first

    def _arguments(
        self,
        items: list[dict[str, Any]],
        common: dict[str, Any],
        probe: dict[str, Any],
        options: dict[str, Any],
    ) -> dict[str, Any]:
        home = probe["home"]
        payloads = {i["cell"]["payload"]: common["payloads"][i["cell"]["payload"]] for i in items}
        folders = {
            f["name"]: f["files"]
            for f in [common["job"], *(p["folder"] for p in payloads.values())]
        }
        places = [p for i in items for p in (i["model"], i["dataset"]) if p]
        return {
            "session": options["session"],
            "home": home,
            "host_dir": probe["host_dir"],
            "python": options["python"],
            "environment": options["environment"],
            "folders": [
                {"path": f"{home}/src/{n}", "files": files} for n, files in folders.items()
            ],
            "artifacts": sorted({p["sha256"] for p in places if p["sha256"]}),
            "paths": sorted({p["path"] for p in places if p["path"] and not p["sha256"]}),
            "envs": list({p["env"]["name"]: p["env"] for p in payloads.values()}.values()),
        }

    def _download(
        self, items: list[dict[str, Any]], options: dict[str, Any]
    ) -> dict[str, tuple[str, str]]:
        """Bring the models that come from elsewhere to this controller; return identity -> (sha256,
        path)."""
        found = {}
        for item in items:
            source = item["cell"]["model"]
            if source["origin"] in ("url", "hf") and not self._task.check_mode:
                store = Path(options["store"]).expanduser()
                sha256, path = origin.fetch(source, store, options["hf_endpoint"])
                found[item["model"]["identity"]] = (sha256, str(path))
        return found

    def _push(self, home: str, files: dict[str, str]) -> dict[str, str]:
        folder = f"{home}/artifacts"
        code, _out, err = self.command(f"umask 022; mkdir -p '{folder}'")
        if code:
            raise BenchfleetError(f"{folder} cannot be made on the host: {err.strip()[-200:]}")
        parts = {d: f"{folder}/.{d[:16]}-{secrets.token_hex(4)}" for d in files}
        arrived = transfer.push(self._connection, [(Path(p), parts[d]) for d, p in files.items()])
        return dict(zip(parts, arrived, strict=True))

    def _module(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        result = self._execute_module(
            module_name=MODULE, module_args=arguments, task_vars=variables
        )
        return module_result(result)
