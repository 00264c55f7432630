"""The quality bars: what each one runs, and where."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

COLLECTION = Path("ansible_collections") / "benchfleet" / "mlperf"
MINUTE = 60
TYPED = ("modules", "module_utils", "plugin_utils")
# The tests that need a lab, in parts that may run side by side: only those of no part here measure
# on this machine itself, under its measurement lock.
PARTS = {
    "provisioning": ("reference", "offline", "roles", "system_roles", "cache", "upstream"),
    "fleet": ("control_faults", "fleet", "lab"),
    "packaging": ("packaging",),
}


@dataclass(frozen=True)
class Bar:
    """One check. argv starts with a program of the test environment; cwd is where it runs:
    `checkout`, `copy` (a plain copy of the collection) or `above` (the folder that holds its
    ansible_collections). `limit_s` ends it. `needs` is a program without which it is skipped."""

    name: str
    argv: tuple[str, ...]
    cwd: str = "copy"
    limit_s: int = 10 * MINUTE
    needs: str | None = None
    pytest: bool = False


ENVIRONMENT = Bar(
    "environment", ("python", "tests/quality/onnx_env.py", ".", ".cache/onnx"), cwd="checkout"
)


def _pytest(name: str, limit_s: int, *words: str) -> Bar:
    argv = ("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *words)
    return Bar(name, argv, cwd="checkout", limit_s=limit_s, pytest=True)


def bars(checkout: Path) -> list[Bar]:
    """Every bar, the long ones first: they decide when the last one ends."""
    cache = str(checkout / ".cache")
    typed = [str(COLLECTION / "plugins" / part) for part in TYPED]
    parts = {
        part: [f"tests/integration/test_{name}.py" for name in names]
        for part, names in PARTS.items()
    }
    apart = [f"--ignore={path}" for paths in parts.values() for path in paths]
    scripts = (".ci/run", ".ci/venv")
    return [
        _pytest("integration", 15 * MINUTE, "tests/integration", *apart),
        *(_pytest(part, 15 * MINUTE, *paths) for part, paths in parts.items()),
        Bar("sanity", ("python", "tests/quality/sanity.py"), limit_s=15 * MINUTE),
        _pytest("unit", 10 * MINUTE, "tests/unit"),
        Bar("ansible-lint", ("ansible-lint", "--offline", "--profile", "production", "-q")),
        Bar(
            "mypy",
            (
                *("mypy", "--config-file", str(COLLECTION / "pyproject.toml")),
                *("--cache-dir", f"{cache}/mypy", "--no-error-summary"),
                *typed,
            ),
            cwd="above",
        ),
        Bar(
            "docs",
            (
                *("antsibull-docs", "lint-collection-docs", "--plugin-docs"),
                *("--validate-collection-refs", "all", "."),
            ),
        ),
        Bar("changelog", ("antsibull-changelog", "lint")),
        Bar("ruff", ("ruff", "check", "--no-cache", "-q", ".")),
        Bar("format", ("ruff", "format", "--no-cache", "--check", "-q", ".")),
        Bar("yamllint", ("yamllint", "-s", ".")),
        Bar("shellcheck", ("shellcheck", *scripts), needs="shellcheck"),
    ]


def runnable_pythons() -> list[str]:
    """Folders with interpreters that run, newest first; pyenv's own before its wrappers."""
    found = []
    for minor in range(13, 7, -1):
        name = f"python3.{minor}"
        pyenv = sorted((Path.home() / ".pyenv" / "versions").glob(f"3.{minor}.*/bin/{name}"))
        on_path = shutil.which(name)
        for candidate in [*map(str, pyenv[-1:]), *([on_path] if on_path else [])]:
            works = subprocess.run([candidate, "-c", ""], capture_output=True, check=False)
            if works.returncode == 0:
                found.append(str(Path(candidate).parent))
                break
    return list(dict.fromkeys(found))


def program(name: str) -> str:
    """A program of the environment that this process runs in, or one from PATH."""
    if name == "python":
        return sys.executable
    own = Path(sys.executable).parent / name
    return str(own) if own.exists() else name
