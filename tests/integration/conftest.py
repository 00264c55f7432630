"""Fixtures for the tests that need hosts or installed copies of the collection."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fleet import Controller, Fleet, provision
from lab import Lab, LabError, start_lab
from tree import controller_environment, root


@pytest.fixture(scope="session")
def checkout() -> Path:
    """Root of the checkout under test."""
    return root()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab of four hosts; on a machine that cannot have one, skip (with CI set: fail)."""
    try:
        made = start_lab()
    except LabError as error:
        if os.environ.get("CI"):
            pytest.fail(f"no lab: {error}")
        pytest.skip(f"no lab: {error}")
    yield made
    made.close()


@pytest.fixture
def ansible_env(tmp_path: Path) -> dict[str, str]:
    """Environment of a controller of its own: a private home, none of the user's settings."""
    home = tmp_path / "home"
    home.mkdir()
    return controller_environment(home)


@pytest.fixture(scope="session")
def fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The lab after its first pass, which takes a minute: shared by the tests of runs."""
    home = tmp_path_factory.mktemp("fleet-home")
    return provision(lab, controller_environment(home), tmp_path_factory.mktemp("fleet"))


@pytest.fixture
def controller(fleet: Fleet, tmp_path: Path) -> Controller:
    """A controller with a results folder of its own."""
    return Controller(fleet.env, tmp_path / "controller")
