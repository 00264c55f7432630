# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""LoadGen where there is no wheel of it, or where the lab has its own sources: built once and
kept."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from .commands import Commands
from .installer import Pip
from .interpreter import Interpreter
from .locks import NEWEST
from .spec import Spec, tree_digest

WHEELS_FOR = "x86_64"  # the only Linux machine type that PyPI has wheels of LoadGen for


def must_build(spec: Spec, python: Interpreter) -> bool:
    """Return whether LoadGen is to be compiled."""
    if not spec.loadgen:
        return False
    return bool(spec.loadgen_source) or platform.machine() != WHEELS_FOR or python.version > NEWEST


def wheel(home: str, spec: Spec, pip: Pip, commands: Commands) -> str:
    """Build LoadGen's wheel from the lab's sources or the locked source package, unless it was
    built before; return its path."""
    lock = pip.env / "requirements" / spec.loadgen
    source = spec.loadgen_source
    name = f"loadgen-{tree_digest(source)[:12]}" if source else lock.stem
    version = "".join(map(str, pip.python.version))
    folder = Path(home, "wheels", f"{name}-cp{version}-{platform.machine()}")
    if not folder.is_dir():
        staging = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        origin = ["--no-index", "--find-links", spec.wheels_folder] if spec.wheels_folder else []
        argv = [*pip.command(), "wheel", *origin, "--no-deps", "-w", str(staging / "wheel")]
        if source:
            # the compiler's output must not land in the sources, which may be read-only
            copy = shutil.copytree(Path(source).expanduser(), staging / "loadgen")
            argv.append(str(copy))
        else:
            argv += ["--require-hashes", "--no-binary", "mlcommons-loadgen", "-r", str(lock)]
        commands.run(argv, pip.environment(spec.environment))
        (staging / "wheel").rename(folder)
        shutil.rmtree(staging)
    return str(sorted(folder.iterdir())[0])
