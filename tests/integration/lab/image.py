"""Root file systems for the lab's hosts: Debian by debootstrap, cached by their recipe's digest."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

SUITE = "bookworm"
MIRROR = "http://deb.debian.org/debian"
PACKAGES = ("ca-certificates", "iproute2", "openssh-server", "procps", "python3", "sudo")
VENV_PACKAGES = ("python3-venv",)
# Once, in the image: what every host of the lab has in common.
SETUP = """
set -eu
rm -f /etc/ssh/ssh_host_*_key* /etc/machine-id
for user in bench plain; do
    useradd --create-home --shell /bin/bash $user
    install -d -m 700 -o $user -g $user /home/$user/.ssh
done
echo 'bench ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/bench
chmod 440 /etc/sudoers.d/bench
printf 'PasswordAuthentication no\\nPermitRootLogin no\\n' > /etc/ssh/sshd_config.d/lab.conf
printf 'UseDNS no\\nMaxStartups 200:30:400\\nMaxSessions 100\\n' >> /etc/ssh/sshd_config.d/lab.conf
mkdir -p /run/sshd /var/lib/lab
rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
"""


class ImageError(Exception):
    """The image cannot be made here; the message says why."""


def podman(*args: str, stdin: str | None = None, timeout: float = 120) -> str:
    """Run podman with the runtime that works without systemd; return its stdout, stripped.

    Raises ImageError with podman's own words.
    """
    runtime = ["--runtime", "runc"] if shutil.which("runc") else []
    done = subprocess.run(
        ["podman", *runtime, *args],
        input=stdin,
        text=True,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip()[-800:]
        raise ImageError(f"podman {args[0]} failed: {words}")
    return done.stdout.strip()


def cache_folder() -> Path:
    """Where archives of root file systems are kept between sessions."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "benchfleet-tests"


def image(*, venv: bool) -> str:
    """Name of an image in podman's store; made when it is not there. Raises ImageError.

    `venv` says whether python3-venv (and with it ensurepip) is installed.
    """
    packages = PACKAGES + (VENV_PACKAGES if venv else ())
    recipe = "\n".join((SUITE, MIRROR, *packages, SETUP))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:16]
    name = f"localhost/benchfleet-lab:{digest}"
    if subprocess.run(["podman", "image", "exists", name], check=False).returncode == 0:
        return name
    archive = cache_folder() / f"rootfs-{digest}.tar"
    if not archive.exists():
        _build(archive, packages)
    podman("import", str(archive), name, timeout=300)
    return name


def _build(archive: Path, packages: tuple[str, ...]) -> None:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=archive.parent, prefix="build-") as folder:
        root = Path(folder) / "root"
        include = "--include=" + ",".join(packages)
        _logged(
            ["debootstrap", "--variant=minbase", include, SUITE, str(root), MIRROR],
            Path(folder) / "debootstrap.log",
        )
        _logged(["chroot", str(root), "/bin/sh", "-c", SETUP], Path(folder) / "setup.log")
        part = Path(folder) / "rootfs.tar"
        _logged(["tar", "-C", str(root), "-cf", str(part), "."], Path(folder) / "tar.log")
        part.replace(archive)


def _logged(argv: list[str], log: Path) -> None:
    with log.open("wb") as out:
        done = subprocess.run(argv, stdout=out, stderr=subprocess.STDOUT, timeout=600, check=False)
    if done.returncode:
        tail = log.read_text(errors="replace").strip()[-800:]
        raise ImageError(f"{argv[0]} ended with {done.returncode}: {tail}")
