"""Run ansible-test sanity in the current folder, which is a plain copy of the collection.

Its virtual environments lie below $HOME, which the caller makes a private one.

ansible-test makes its environments with a get-pip script from a site that not every network
reaches. It takes one from its cache first, so this puts one there that installs the same pip from
the package index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import ansible_test

GET_PIP = """
import os, sys
wheel = {wheel!r}
sys.path.insert(0, wheel)
from pip._internal.cli.main import main
dropped = ("--no-setuptools", "--no-wheel")
args = [arg for arg in sys.argv[1:] if arg not in dropped and not arg.startswith("pip==")]
sys.exit(main(["install", "--upgrade", "--force-reinstall", *args, wheel]))
"""


# Programs that Ansible never imports; ruff and the tests look after them.
NOT_PLUGINS = ("tests", "catalog/data", "roles/*/files", "roles/*/templates")


def excluded() -> list[str]:
    """Arguments that keep ansible-test to what Ansible loads."""
    folders = [path for pattern in NOT_PLUGINS for path in sorted(Path().glob(pattern))]
    return [word for folder in folders for word in ("--exclude", f"{folder}/")]


def pip_version() -> str:
    """The pip that this ansible-core's ansible-test pins."""
    source = Path(ansible_test.__path__[0]) / "_internal" / "python_requirements.py"
    found = re.search(r"pip='([0-9.]+)'", source.read_text())
    if not found:
        sys.exit(f"no pip version found in {source}: ansible-test has changed")
    return found.group(1)


def seed_get_pip(cache: Path) -> None:
    """Put a get-pip of the pinned version where ansible-test looks first."""
    version = pip_version()
    script = cache / f"get_pip_{version.replace('.', '_')}.py"
    wheel = cache / f"pip-{version}-py3-none-any.whl"
    if script.exists() and wheel.exists():
        return
    cache.mkdir(parents=True, exist_ok=True)
    download = ["-m", "pip", "download", "-q", "--no-deps", "-d", str(cache), f"pip=={version}"]
    subprocess.run([sys.executable, *download], check=True)
    script.write_text(GET_PIP.format(wheel=str(wheel)))


def main() -> int:
    """Compile and import tests for every Python at hand, the others for this one."""
    home = Path(os.environ["HOME"])
    seed_get_pip(home / ".ansible" / "test" / "cache")
    ansible_test_program = str(Path(sys.executable).parent / "ansible-test")
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    every = ["sanity", "--color", "no", "--truncate", "0", *excluded()]
    first = subprocess.run([ansible_test_program, *every, "--python", own], check=False)
    targets = ["--test", "compile", "--test", "import"]
    second = subprocess.run([ansible_test_program, *every, *targets], check=False)
    return first.returncode or second.returncode


if __name__ == "__main__":
    sys.exit(main())
