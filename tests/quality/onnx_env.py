"""Build the environment that the ONNX harness is tested in, as a host would get it.

The locked requirements and the builder are the collection's own. The environment's name holds the
digest of its requirements, so that a cached one is used until they change.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def interpreter(checkout: Path, home: Path) -> Path:
    """Return the environment's Python, built below `home` if it is not there.

    Raises what the builder raises: HostError with the line of pip's output that matters.
    """
    sys.path.insert(0, str(checkout / "collections"))
    from ansible_collections.benchfleet.mlperf.plugins.module_utils import python_env
    from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import (
        catalog,
        payload,
        planner,
        request,
    )

    known = catalog.Catalog()
    (cell, *_others) = planner.plan(request.parse({"benchmark": "digits"}), {"here": {}}, known)
    wanted = payload.harness(known, cell)["envs"]["python"]
    spec = python_env.Spec(**wanted, python=sys.executable)
    home.mkdir(parents=True, exist_ok=True)
    folder = home / "envs" / spec.name
    python = folder / "bin" / "python"
    if python_env.ready(str(home), spec) and not _works(python):
        (folder / "benchfleet.json").unlink()
    python_env.build(str(home), spec)
    return python


def _works(python: Path) -> bool:
    """Whether the environment outlived the Python that it was made with."""
    try:
        done = subprocess.run(
            [python, "-c", "import onnxruntime"], capture_output=True, check=False
        )
    except FileNotFoundError:
        return False
    return done.returncode == 0


if __name__ == "__main__":
    print(interpreter(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()))
