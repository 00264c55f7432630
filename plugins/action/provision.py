# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring to a host what it lacks and run the target half of provisioning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..module_utils.artifacts.base import Access
from ..module_utils.artifacts.store import Store
from ..plugin_utils import derived, host_logs, network, os_packages, supply, transfer
from ..plugin_utils.catalog import Catalog
from ..plugin_utils.delivery import Goods, Run, deliver
from ..plugin_utils.errors import BenchfleetError
from ..plugin_utils.session import Session
from ..plugin_utils.stage import Stage, module_result
from ..plugin_utils.wheelhouse import Target, have

MODULE = "benchfleet.mlperf.provision"
FILL = "On a controller without internet, use a store that mirror.yml has filled elsewhere."


class ActionModule(Stage):
    """Make a host ready for the cells that must run on it."""

    NAME = "provision"
    OPTIONS = {
        "internet": True,
        "python": "auto",
        "store": "~/.cache/benchfleet",
        "downloads": "controller",
        **network.OPTIONS,
    }

    def stage(
        self, session: Session, host: str, options: dict[str, Any], variables: dict[str, Any]
    ) -> dict[str, Any]:
        """Return what was done; `missing_packages` asks for packages of the operating system
        first (from files in `packages_folder` on the host, if that is there), `artifacts` tells by
        identity where each artifact lies on the host."""
        found = session.read(host, "probe")
        items = [i for i in session.work(host) or () if i["action"] == "run"]
        if not items:
            return {"changed": False}
        transfer.check_sftp(self._connection)
        settings = network.Settings.of(options)
        goods = Goods(Store(options["store"]))
        arguments = self._arguments(items, session.common(), found["probe"], options, settings)
        arguments["wanted"] = self._wanted(host, items, session.common(), goods, options, settings)
        arguments["derived"] = _derived(items, session.common())
        self._keep_alive()

        def run(sent: Mapping[str, Any]) -> dict[str, Any]:
            return module_result(
                self._execute_module(
                    module_name=MODULE, module_args={**arguments, **sent}, task_vars=variables
                )
            )

        home = found["probe"]["home"]
        first = run({})
        if self._task.check_mode:
            return first
        answer = deliver(self._connection, home, goods, first, run)
        access = network.access(options, settings, goods.store.root)
        more = {} if "fault" in answer else self._kits(host, answer, arguments, goods.store, access)
        if more:
            answer = self._with_kits(more, answer, arguments, goods, home, run)
        for identity, place in answer["artifacts"].items():
            place["new"] |= first["artifacts"].get(identity, {"new": True})["new"]
        if answer.get("log"):
            where = host_logs.folder(Path(session.common()["results"]), host)
            copy = host_logs.keep_one(self.command, answer["log"], home, where)
            answer["fault"] += f" (its end is here: {copy})" if copy else ""
        return answer

    def _with_kits(
        self,
        more: dict[str, str],
        before: Mapping[str, Any],
        arguments: dict[str, Any],
        goods: Goods,
        home: str,
        run: Run,
    ) -> dict[str, Any]:
        """Deliver what a host without internet builds with, and let it build."""
        arguments["wheelhouses"] = {n: d for n, d in more.items() if n}
        for digest in more.values():
            goods.add(digest)
            arguments["wanted"].append({"identity": digest, "sha256": digest, "spec": None})
        again = deliver(self._connection, home, goods, run({}), run)
        again["changed"] |= before["changed"]
        if more.get("") in again.get("artifacts", {}):
            again["packages_folder"] = again["artifacts"][more[""]]["path"]
        return again

    def _kits(
        self,
        host: str,
        answer: Mapping[str, Any],
        arguments: Mapping[str, Any],
        store: Store,
        access: Access,
    ) -> dict[str, str]:
        """Return the digests of what a host without internet builds with: wheels by environment,
        packages of its operating system by ""."""
        if arguments["internet"]:
            return {}
        envs = {e["name"]: e for e in arguments["envs"]}
        found = {}
        for name, target in answer["targets"].items():
            with _with_advice():
                found[name], _new = have(
                    store, envs[name], Target.of(target), access, lambda line: self.say(host, line)
                )
        missing = answer["missing_packages"]
        packages = os_packages.find(store, answer["system"], missing) if missing else None
        return found | ({"": packages} if packages else {})

    def _arguments(
        self,
        items: list[dict[str, Any]],
        common: dict[str, Any],
        probe: dict[str, Any],
        options: dict[str, Any],
        settings: network.Settings,
    ) -> dict[str, Any]:
        home = probe["home"]
        environment, secrets = settings.on_host(home)
        payloads = {i["cell"]["payload"]: common["payloads"][i["cell"]["payload"]] for i in items}
        own = [common["job"], *(p["folder"] for p in payloads.values()), settings.ca_folder()]
        folders = {f["name"]: f["files"] for f in own if f}
        envs = {e["name"]: e for p in payloads.values() for e in p["envs"].values()}
        return {
            "session": options["session"],
            "home": home,
            "host_dir": probe["host_dir"],
            "internet": options["internet"],
            "python": options["python"],
            "environment": environment,
            "secrets": secrets,
            "hf_endpoint": options["hf_endpoint"],
            "mirror": options["mirror"],
            "folders": [
                {"path": f"{home}/src/{n}", "files": files} for n, files in folders.items()
            ],
            "envs": list(envs.values()),
        }

    def _wanted(
        self,
        host: str,
        items: list[dict[str, Any]],
        common: dict[str, Any],
        goods: Goods,
        options: dict[str, Any],
        settings: network.Settings,
    ) -> list[dict[str, Any]]:
        """Return each artifact that the host must have: {"identity", "sha256", "spec", "layout"}.

        Without `spec` the host waits for what the controller sends.
        """
        catalog = Catalog(common["catalog_path"])
        access = network.access(options, settings, goods.store.root)
        downloads = options["downloads"] if options["internet"] else "controller"
        wanted: dict[str, dict[str, Any]] = {}
        for place, what in _artifacts(items):
            if place["identity"] in wanted or what["origin"] == "derived":
                continue
            entry = supply.entry(what, place, downloads)
            if not entry["spec"] and not self._task.check_mode:
                with _with_advice():
                    entry["sha256"] = supply.bring(
                        what, goods, catalog, access, lambda line: self.say(host, line)
                    )
            wanted[place["identity"]] = entry
        for digest in {i["cell"]["loadgen_digest"] for i in items} - {None}:
            goods.add(digest)
            wanted[digest] = {"identity": digest, "sha256": digest, "spec": None}
        return list(wanted.values())


@contextmanager
def _with_advice() -> Iterator[None]:
    try:
        yield
    except BenchfleetError as e:
        raise BenchfleetError(f"{e} {FILL}") from None


def _artifacts(items: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each artifact of the cells as (place on the host, need of the cell)."""
    for item in items:
        needs = _needs(item["cell"])
        for word, place in item["places"].items():
            yield place, needs[word]


def _needs(cell: Mapping[str, Any]) -> dict[str, Any]:
    return {"model": cell["model"], "dataset": cell["dataset"], **cell["needs"]}


def _derived(items: list[dict[str, Any]], common: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the cells need that is made on the host, each once."""
    found = {}
    for item in items:
        cell, envs = item["cell"], common["payloads"][item["cell"]["payload"]]["envs"]
        folder = (cell["recipe"]["source"] or {}).get("folder", "")
        for entry in derived.for_host(_needs(cell), item["places"], envs, folder):
            found[entry["identity"]] = entry
    return list(found.values())
