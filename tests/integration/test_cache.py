"""The cache playbook on a small fleet: two homes on this machine and a host that is down."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store

Play = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(name="stores")
def _stores(tmp_path: Path) -> dict[str, Store]:
    """The same dataset on both hosts and the controller, an environment on one host."""
    stores = {name: Store(tmp_path / name) for name in ("one", "two", "controller")}
    data = tmp_path / "data"
    data.mkdir()
    (data / "list").write_bytes(bytes(1000))
    for store in stores.values():
        store.add_tree(data, {"name": "imagenet", "type": "dataset", "tags": ["mlperf"]})
    env = stores["one"].root / "envs" / "onnx-cpu-0123"
    env.mkdir(parents=True)
    (env / "python").write_bytes(bytes(500))
    return stores


@pytest.fixture(name="play")
def _play(
    checkout: Path, ansible_env: dict[str, str], stores: dict[str, Store], tmp_path: Path
) -> Play:
    lines = [
        f"{name} ansible_connection=local benchfleet_home={stores[name].root}"
        f" ansible_python_interpreter={sys.executable}"
        for name in ("one", "two")
    ]
    inventory = tmp_path / "lab.ini"
    inventory.write_text("\n".join([*lines, "down ansible_host=127.0.0.1 ansible_port=9", ""]))

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        settings = [f"benchfleet_store={stores['controller'].root}", *words]
        extra = [a for s in settings if "=" in s for a in ("-e", s)]
        flags = [w for w in words if "=" not in w]
        argv = ["ansible-playbook", "cache.yml", "-i", str(inventory), *extra, *flags]
        return subprocess.run(
            argv, cwd=checkout, env=ansible_env, capture_output=True, text=True, check=False
        )

    return run


def test_the_fleet_is_shown_verified_and_cleared(play: Play, stores: dict[str, Store]) -> None:
    shown = play()
    assert shown.returncode == 0, shown.stdout + shown.stderr
    (row,) = [line for line in shown.stdout.splitlines() if line.startswith("dataset")]
    assert row.endswith("one, two, controller")
    assert "down: UNREACHABLE" in shown.stdout
    assert "2 things, 3.5 kB on 4 stores." in shown.stdout

    tried = play("cache=remove", "tags=mlperf", "--check")
    assert "3 kB would be freed." in tried.stdout
    assert all(store.records() for store in stores.values())

    (record,) = stores["two"].records()
    damaged = stores["two"].path(record["digest"]) / "list"
    damaged.chmod(0o644)
    damaged.write_bytes(b"rot")
    verified = play("cache=verify", "tags=mlperf")
    assert verified.returncode != 0
    assert "DAMAGED on two" in verified.stdout

    cleared = play("cache=remove", "names=image*,onnx*")
    assert cleared.returncode == 0, cleared.stdout + cleared.stderr
    assert not any(store.records() for store in stores.values())
    assert not list((stores["one"].root / "envs").iterdir())


def test_nothing_is_removed_without_a_choice(play: Play, stores: dict[str, Store]) -> None:
    refused = play("cache=remove")
    assert refused.returncode != 0
    assert "cache=remove needs tags or names" in refused.stdout + refused.stderr
    assert all(store.records() for store in stores.values())
