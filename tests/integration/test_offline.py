# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host that opens no connection and lacks python3-venv, and a controller whose ways out are
closed, after mirror.yml has filled the store."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fleet import Controller, Done
from lab import HostSpec, Lab
from models import dense
from tree import controller_environment, root

HOST = "air"
CLOSED = "http://127.0.0.1:9"
WAYS_OUT = ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "PIP_INDEX_URL")


@dataclass
class Site:
    """An air-gapped host, an inventory of it and of a connected host, a controller's store."""

    lab: Lab
    inventory: Path
    folder: Path
    env: dict[str, str]

    def mirror(self, *words: str) -> Done:
        """Run mirror.yml for digits on the air-gapped host."""
        asked = {
            "benchmark": "digits",
            "scenario": "Offline",
            "mode": "accuracy",
            "mirror_packages_from": "sut1",
            "mirror_packages": "python3-venv",
        }
        argv = ["ansible-playbook", str(root() / "mirror.yml"), "-i", str(self.inventory)]
        done = subprocess.run(
            [*argv, "--limit", HOST, "-e", json.dumps(asked), *words],
            cwd=self.folder,
            env=self.env | {"ANSIBLE_CONFIG": str(root() / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def bench(self, name: str, **request: Any) -> tuple[Done, dict[str, Any]]:
        """Run one cell with every way out of the controller closed; return its outcome too."""
        closed = {n: v for n, v in self.env.items() if not n.startswith("PIP_")}
        closed |= dict.fromkeys(WAYS_OUT, CLOSED) | {"PIP_CONFIG_FILE": "/dev/null"}
        controller = Controller(closed, self.folder / name)
        done = controller.run(self.inventory, "--limit", HOST, **request)
        (cell,) = controller.outcomes()
        return done, cell


@pytest.fixture(name="site", scope="module")
def _site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("offline")
    (folder / "home").mkdir()
    lab.add(HostSpec(HOST, venv=False, offline=True, variables={"benchfleet_internet": "false"}))
    store = {"benchfleet_store": str(folder / "store")}
    inventory = lab.inventory(HOST, "sut1", variables=store)
    yield Site(lab, inventory, folder, controller_environment(folder / "home"))
    lab.remove(HOST)


def test_a_store_without_the_wheels_says_what_to_do(site: Site) -> None:
    assert site.lab.ssh(HOST, "python3 -m venv try").returncode != 0
    done, cell = site.bench("empty")
    assert (done.code, cell["outcome"]) == (2, "failed")
    (reason,) = cell["reasons"]
    assert "wheels of onnxruntime-cpu-" in reason["what"]
    assert "not in the store" in reason["what"] and "mirror.yml" in reason["what"]


def test_the_store_is_filled_once(site: Site) -> None:
    tried = site.mirror("--check")
    assert tried.code == 0, tried.text
    assert "to fetch" in tried.text
    first = site.mirror()
    assert first.code == 0, first.text
    rows = {line.split()[0]: line for line in first.text.splitlines() if "  fetched" in line}
    assert len(rows) == 2 and "os-packages" in rows, first.text
    assert any("for cp311-x86_64" in line for line in rows.values())
    again = site.mirror()
    assert again.code == 0, again.text
    assert again.recap[HOST]["changed"] == 0
    assert again.text.count("  had it") == 4  # a model and a dataset of the catalog, and these two


def test_digits_runs_without_internet(site: Site) -> None:
    done, cell = site.bench("digits")
    assert (done.code, cell["outcome"]) == (0, "valid"), done.text
    assert site.lab.ssh(HOST, "dpkg -s python3-venv").returncode == 0
    other = site.lab.hosts["sut1"].address
    assert site.lab.ssh(HOST, f"timeout 3 bash -c '</dev/tcp/{other}/22'").returncode != 0
    again, cell = site.bench("digits")
    assert again.code == 0 and again.recap[HOST]["changed"] == 0


def test_a_model_of_the_controllers_runs_without_internet(site: Site) -> None:
    model = dense(site.folder / "own.onnx", (16, 4))
    asked = {"benchmark": "custom", "mode": "performance", "target_qps": 5e6}
    done, cell = site.bench("custom", model_path=str(model), **asked)
    assert (done.code, cell["outcome"]) == (0, "valid"), done.text
