#!/usr/bin/env python3
# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LoadGen from nothing on a clean host, beside venv and pip by hand.

    python tests/bench/loadgen.py [--pairs 5]

Needs an interpreter with ansible-core and a way to the package index. Ours is `ansible-playbook`
with role loadgen for this machine: the whole command, the check that LoadGen can be loaded
included. By hand are `python -m venv`, `pip install` of the same version and one import. Both start
from an empty folder without pip's cache. Printed: the pairs, the median ratio and the median
seconds. Exit 1 when ours takes longer than 15 s.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import statistics
import sys
import tempfile
from pathlib import Path

from common import ROOT, BenchError, Cost, copy_checkout, pairs, timed

GOAL_S = 15.0
PLAY = "- hosts: all\n  gather_facts: false\n  roles:\n    - benchfleet.mlperf.loadgen\n"
BY_HAND = """set -e
"$1" -m venv "$2"
"$2/bin/pip" install --quiet --disable-pip-version-check "mlcommons-loadgen==$3"
"$2/bin/python" -c 'import mlperf_loadgen'
"""


def version() -> str:
    """The version of LoadGen of the role's default round."""
    defaults = (ROOT / "roles" / "loadgen" / "defaults" / "main.yml").read_text("utf-8")
    name = defaults.partition("loadgen_round: ")[2].split()[0]
    text = (ROOT / "catalog" / "rounds" / f"{name}.yml").read_text("utf-8")
    found = re.search(r'\bversion: *"?([\d.]+)', text)
    if found is None:
        raise BenchError(f"{name}.yml has no version of LoadGen")
    return found[1]


def main() -> int:
    """Measure the pairs and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    program = str(Path(sys.executable).parent / "ansible-playbook")
    environ = {**os.environ, "PIP_NO_CACHE_DIR": "1"}
    numbers = itertools.count()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        copy_checkout(folder / "checkout")
        (folder / "checkout" / "bench.yml").write_text(PLAY)
        (folder / "by_hand.sh").write_text(BY_HAND)

        def ours() -> Cost:
            home = folder / f"home{next(numbers)}"
            argv = [program, "-i", "localhost,", "-c", "local", "bench.yml"]
            argv += ["-e", f"ansible_python_interpreter={sys.executable}"]
            cost = timed(
                [*argv, "-e", f"benchfleet_home={home} benchfleet_python={sys.executable}"],
                folder / "checkout",
                environ,
            )
            if cost.hosts().get("localhost", {}).get("changed") != 1:
                raise BenchError(f"LoadGen was not installed:\n{cost.output[-3000:]}")
            return cost

        def by_hand() -> Cost:
            target = folder / f"venv{next(numbers)}"
            argv = ["sh", str(folder / "by_hand.sh"), sys.executable, str(target), version()]
            return timed(argv, folder, environ)

        found = pairs(options.pairs, ours, by_hand, "loadgen")
    seconds = statistics.median(cost.wall for cost in found.ours)
    beside = statistics.median(cost.wall for cost in found.other)
    ratio, low, high = found.ratio("wall")
    print(
        f"LoadGen {version()} from nothing: {seconds:.1f} s (goal <= {GOAL_S:g} s), by hand"
        f" {beside:.1f} s; ratio {ratio:.2f} [{low:.2f} to {high:.2f}]"
    )
    return 0 if seconds <= GOAL_S else 1


if __name__ == "__main__":
    sys.exit(main())
