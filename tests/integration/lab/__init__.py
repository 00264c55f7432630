"""A lab of ssh hosts on this machine, for tests: containers that have what machines have.

Each host has its own root file system, network namespace, IP address, machine id, boot id and
sshd; users `bench` (may use sudo) and `plain` (may not) log in with a key made for the session.
Host key checking stays on: the keys stand in the session's own known_hosts.

The lab needs root (network namespaces are entered from outside), podman and debootstrap.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lab.image import ImageError, image, podman
from lab.pipconf import CA_IN_HOST, PipAccess, pip_access

LABEL = "benchfleet.lab"
# A container's first process: sshd, once the host has been set up.
BOOT = "until [ -e /var/lib/lab/ready ]; do sleep 0.05; done; exec /usr/sbin/sshd -D"
SFTP = {
    "server": "/usr/lib/openssh/sftp-server",  # Debian's; runs through the login shell
    "internal": "internal-sftp",  # inside sshd; a shell that prints text cannot disturb it
}


class LabError(Exception):
    """The lab, or a host of it, cannot be used; the message says why."""


@dataclass(frozen=True)
class HostSpec:
    """One host to start.

    venv: python3-venv is installed. shell: `chatty` prints text and takes 0.3 s at each login.
    sftp: `server`, `internal` or `none` (no sftp subsystem). home_mb: size in MB of a tmpfs at
    bench's home, None for the container's disk. port: of sshd; 22 keeps listening beside it.
    groups: inventory groups. offline: the host opens no connection and has no package index of
    this machine; it is reached by ssh only. variables: inventory variables of this host.
    """

    name: str
    venv: bool = True
    shell: str = "plain"
    sftp: str = "server"
    home_mb: int | None = None
    port: int = 22
    groups: tuple[str, ...] = ("suts",)
    offline: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)


DEFAULT_HOSTS = (
    HostSpec("sut1"),
    HostSpec("sut2"),
    HostSpec("sut3", shell="chatty", sftp="internal", port=2222),
    HostSpec("sut4", venv=False),
)


@dataclass
class Host:
    """A host that runs; `address` is its IP address, `container` podman's name for it."""

    spec: HostSpec
    container: str
    address: str
    boots: int = 0


def why_not() -> str | None:
    """Reason why the lab cannot start on this machine, None when nothing speaks against it."""
    if os.geteuid() != 0:
        return "the lab needs root"
    needed = ("podman", "debootstrap", "ssh", "ssh-keyscan", "ssh-keygen", "nsenter", "iptables")
    missing = [tool for tool in needed if not shutil.which(tool)]
    return "the lab needs " + ", ".join(missing) if missing else None


@dataclass
class Lab:
    """The hosts of one session and the keys to them. Made by `start_lab`."""

    folder: Path
    pip: PipAccess
    tag: str
    hosts: dict[str, Host] = field(default_factory=dict)

    @property
    def key(self) -> Path:
        """The private key that opens both users of every host."""
        return self.folder / "id_ed25519"

    @property
    def known_hosts(self) -> Path:
        """File with the host keys of every host."""
        return self.folder / "known_hosts"

    @property
    def ssh_options(self) -> list[str]:
        """Options that make ssh use the session's key and known_hosts, nothing of the user's."""
        options = {
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "IdentitiesOnly": "yes",
            "IdentityFile": str(self.key),
            "BatchMode": "yes",
            "ConnectTimeout": "10",
        }
        pairs = [["-o", f"{name}={value}"] for name, value in options.items()]
        return ["-F", "/dev/null", *(word for pair in pairs for word in pair)]

    # -- hosts ------------------------------------------------------------------------------

    def add(self, spec: HostSpec) -> Host:
        """Start one more host. Raises LabError."""
        container = f"benchfleet-{self.tag}-{spec.name}"
        tmpfs = []
        if spec.home_mb is not None:
            tmpfs = ["--tmpfs", f"/home/bench:rw,exec,mode=0755,size={spec.home_mb}m"]
        mounts = [f"--volume={p}:{p}:ro" for p in self.pip.mounts if not spec.offline]
        if self.pip.ca:
            mounts.append(f"--volume={self.pip.ca}:{CA_IN_HOST}:ro")
        try:
            podman(
                *("run", "--detach", "--name", container, "--hostname", spec.name),
                *("--label", f"{LABEL}={os.getpid()}"),
                *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=8192:8192"),
                *(*tmpfs, *mounts, image(venv=spec.venv)),
                *("/bin/sh", "-c", BOOT),
            )
            self.hosts[spec.name] = host = Host(spec, container, "")
            podman("exec", "-i", container, "/bin/sh", "-s", stdin=self._setup(spec))
        except (ImageError, subprocess.TimeoutExpired) as error:
            raise LabError(f"{spec.name}: {error}") from error
        self._booted(host)
        return host

    def _setup(self, spec: HostSpec) -> str:
        """Shell text that makes a container of the image this host."""
        public = self.key.with_suffix(".pub").read_text().strip()
        lines = [
            "set -eu",
            *(() if spec.offline else self._package_index()),
            f"echo {uuid.uuid4().hex} > /etc/machine-id",
            "ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/ssh_host_ed25519_key",
            "sed -i '/^Subsystem/d' /etc/ssh/sshd_config",
            "printf 'Port 22\\n' >> /etc/ssh/sshd_config",
        ]
        if spec.port != 22:
            lines.append(f"printf 'Port {spec.port}\\n' >> /etc/ssh/sshd_config")
        if spec.sftp in SFTP:
            lines.append(f"echo 'Subsystem sftp {SFTP[spec.sftp]}' >> /etc/ssh/sshd_config")
        if spec.home_mb is not None:
            lines.append("cp -a /etc/skel/. /home/bench/ && chown -R bench:bench /home/bench")
        for user in ("bench", "plain"):
            home = f"/home/{user}"
            lines += [
                f"install -d -m 700 -o {user} -g {user} {home}/.ssh",
                f"echo '{public}' > {home}/.ssh/authorized_keys",
                f"chown {user}:{user} {home}/.ssh/authorized_keys",
            ]
            if spec.shell == "chatty":
                lines.append(
                    f"sed -i '1i sleep 0.3; echo Welcome to {spec.name}, be kind' {home}/.bashrc"
                )
        return "\n".join([*lines, "touch /var/lib/lab/ready", ""])

    def _package_index(self) -> list[str]:
        return [
            f"printf '%s' '{self.pip.conf}' > /etc/pip.conf",
            f"printf '%s' '{self.pip.environment}' >> /etc/environment",
        ]

    def _booted(self, host: Host) -> None:
        """What each start of a container changes: the address, the boot id, what ssh knows."""
        shape = "{{.State.Pid}} {{.NetworkSettings.IPAddress}}"
        pid, _, host.address = podman("inspect", host.container, "--format", shape).partition(" ")
        host.boots += 1
        boot_id = "/var/lib/lab/boot_id"
        podman("exec", host.container, "/bin/sh", "-c", f"echo {uuid.uuid4()} > {boot_id}")
        mount = ["mount", "--bind", boot_id, "/proc/sys/kernel/random/boot_id"]
        subprocess.run(["nsenter", "-t", pid, "-m", *mount], check=True, capture_output=True)
        if host.spec.offline:
            answers = ["-p", "tcp", "--sport", str(host.spec.port), "-j", "ACCEPT"]
            for rule in (answers, ["!", "-o", "lo", "-j", "DROP"]):
                self._iptables(host, "-A", "OUTPUT", *rule)
        self._learn_keys(host)

    def _learn_keys(self, host: Host) -> None:
        deadline = time.monotonic() + 20
        while True:
            scan = ["ssh-keyscan", "-T", "2", "-t", "ed25519", "-p", str(host.spec.port)]
            found = subprocess.run(
                [*scan, host.address], capture_output=True, text=True, check=False
            ).stdout.strip()
            if found:
                break
            if time.monotonic() > deadline:
                raise LabError(f"{host.spec.name}: sshd does not answer at {host.address}")
            time.sleep(0.1)
        others = self.known_hosts.read_text().splitlines() if self.known_hosts.exists() else []
        self.known_hosts.write_text("\n".join(dict.fromkeys([*others, found])) + "\n")

    def remove(self, name: str) -> None:
        """End a host for good."""
        podman("rm", "--force", "--time", "0", self.hosts.pop(name).container)

    def stop(self, name: str) -> None:
        """Pull the plug: every process of the host is killed."""
        podman("stop", "--time", "0", self.hosts[name].container)

    def start(self, name: str) -> None:
        """Start a stopped host: same disk and keys, new boot id, perhaps a new address."""
        podman("start", self.hosts[name].container)
        self._booted(self.hosts[name])

    def reboot(self, name: str) -> None:
        """Stop and start."""
        self.stop(name)
        self.start(name)

    def cut(self, name: str) -> None:
        """Drop all traffic of a host; its processes and connections stay as they are."""
        self._firewall(name, "-I")

    def restore(self, name: str) -> None:
        """Undo `cut`."""
        self._firewall(name, "-D")

    @contextlib.contextmanager
    def disconnected(self, name: str) -> Iterator[None]:
        """A host without network for the length of a `with` block."""
        self.cut(name)
        try:
            yield
        finally:
            self.restore(name)

    def _firewall(self, name: str, action: str) -> None:
        for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
            self._iptables(self.hosts[name], action, chain, "!", way, "lo", "-j", "DROP")

    def _iptables(self, host: Host, *rule: str) -> None:
        pid = podman("inspect", host.container, "--format", "{{.State.Pid}}")
        argv = ["nsenter", "-t", pid, "-n", "iptables", *rule]
        subprocess.run(argv, check=True, capture_output=True)

    # -- use --------------------------------------------------------------------------------

    def ssh(
        self, name: str, command: str, *, user: str = "bench", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on a host through ssh; the result has returncode, stdout, stderr."""
        host = self.hosts[name]
        argv = ["ssh", *self.ssh_options, "-p", str(host.spec.port), f"{user}@{host.address}"]
        return subprocess.run(
            [*argv, command],
            text=True,
            capture_output=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def inventory(
        self,
        *names: str,
        user: str = "bench",
        variables: Mapping[str, str] | None = None,
        path: Path | None = None,
    ) -> Path:
        """Write an inventory of some hosts (all by default) and return its path.

        `variables` are set for all hosts. `path` is `lab.ini` in a folder of its own by default,
        so that no group_vars are read.
        """
        chosen = [self.hosts[name] for name in names or self.hosts]
        groups: dict[str, list[str]] = {}
        lines = []
        for host in chosen:
            words = [f"ansible_host={host.address}", f"ansible_port={host.spec.port}"]
            words += [f"{name}={value}" for name, value in host.spec.variables.items()]
            lines.append(" ".join([host.spec.name, *words]))
            for group in host.spec.groups:
                groups.setdefault(group, []).append(host.spec.name)
        for group, members in groups.items():
            lines += ["", f"[{group}]", *members]
        lines += ["", "[all:vars]", f"ansible_user={user}"]
        lines.append(f"ansible_ssh_private_key_file={self.key}")
        lines.append(f"ansible_ssh_common_args='{' '.join(self.ssh_options)}'")
        lines.append("ansible_python_interpreter=/usr/bin/python3")
        lines += [f"{name}={value}" for name, value in (variables or {}).items()]
        if path is None:
            path = Path(tempfile.mkdtemp(dir=self.folder, prefix="inventory-")) / "lab.ini"
        path.write_text("\n".join(lines) + "\n")
        return path

    def close(self) -> None:
        """End every host and remove the session's folder. May be called twice."""
        names = [host.container for host in self.hosts.values()]
        self.hosts.clear()
        if names:
            subprocess.run(
                ["podman", "rm", "--force", "--ignore", "--time", "0", *names],
                capture_output=True,
                check=False,
            )
        shutil.rmtree(self.folder, ignore_errors=True)


def _remove_leftovers() -> None:
    """Containers of sessions whose process is gone (killed before it could tidy up)."""
    shape = '{{.ID}} {{index .Labels "' + LABEL + '"}}'
    listing = podman("ps", "--all", "--filter", f"label={LABEL}", "--format", shape)
    for line in listing.splitlines():
        container, _, pid = line.partition(" ")
        if not Path(f"/proc/{pid}").exists():
            podman("rm", "--force", "--time", "0", container)


def start_lab(specs: Sequence[HostSpec] = DEFAULT_HOSTS) -> Lab:
    """Start a lab. Raises LabError with the reason; nothing is left running then."""
    reason = why_not()
    if reason:
        raise LabError(reason)
    folder = Path(tempfile.mkdtemp(prefix="benchfleet-lab-"))
    lab = Lab(folder=folder, pip=pip_access(), tag=uuid.uuid4().hex[:8])
    atexit.register(lab.close)
    try:
        _remove_leftovers()
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "lab", "-f", str(lab.key)],
            check=True,
        )
        for spec in specs:
            lab.add(spec)
    except (ImageError, LabError, subprocess.SubprocessError) as error:
        lab.close()
        raise LabError(str(error)) from error
    return lab
