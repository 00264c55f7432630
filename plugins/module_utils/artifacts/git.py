# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Source trees by commit: fetched shallow and without contents, of which the wanted ones follow.

Nothing of a repository is executed: contents are read as objects, so neither hooks nor filters nor
attributes have a say, and a clone of the lab's is only read.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Iterator, Mapping, Sequence, cast
from urllib.parse import unquote, urlsplit, urlunsplit

from .base import Access, ArtifactError, shown
from .errand import Errand, Taken
from .store import Store
from .tree import Files, entry, follow, leads_out, safe_path

_LIMIT_S = 3600
_BLOCK = 1 << 20
# answers git's question for a password, for this one server only
_ASK = """#!/bin/sh
case "$1" in *"//$BENCHFLEET_GIT_HOST': " | *"@$BENCHFLEET_GIT_HOST': ") ;; *) exit 1 ;; esac
case "$1" in
  Username*) printf '%s\\n' "$BENCHFLEET_GIT_USER" ;;
  *) printf '%s\\n' "$BENCHFLEET_GIT_PASSWORD" ;;
esac
"""


def take(errand: Errand, origin: Mapping[str, Any]) -> Taken:
    """Bring the wanted paths of a commit into the store. Raises ArtifactError."""
    files = _export(errand, origin["git"], origin["commit"], origin.get("paths") or [])
    for path, submodule in (origin.get("submodules") or {}).items():
        files.update(_submodule(errand, origin, safe_path(path), submodule or {}))
    return Taken(files, "git commit")


def commit_of(store: Store, url: str, ref: str, access: Access) -> str:
    """Return the commit that a branch or tag of a repository is at now; a commit is itself.

    Raises ArtifactError when the server does not answer or has no such name.
    """
    if re.fullmatch(r"[0-9a-f]{40}", ref):
        return ref
    errand = Errand(store, shown(url), access, lambda _line: None)
    with tempfile.TemporaryDirectory() as folder:
        asker = Repository(errand, url, Path(folder), _credentials(errand, url))
        asker.run("init", "-q", "--bare", folder)
        lines = asker.ask("ls-remote", asker.address(), ref, f"{ref}^{{}}").decode().splitlines()
    names = {name: oid for oid, tab, name in (line.partition("\t") for line in lines) if tab}
    order = (f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/heads/{ref}", ref)
    found = next((names[name] for name in order if name in names), None)
    if found is None:
        raise ArtifactError(f"{shown(url)} has neither a branch nor a tag {ref!r}.")
    return found


def _submodule(
    errand: Errand, origin: Mapping[str, Any], path: str, about: Mapping[str, Any]
) -> Files:
    """Return the files of a submodule at the commit that its parent records, below `path`.

    `about` may say where it comes from (`git`) and which `paths` of it are wanted.
    """
    parent = _opened(errand, origin["git"], origin["commit"])
    lines = parent.run("ls-tree", "-z", origin["commit"], "--", path).split(b"\0")
    found = re.match(rb"160000 commit ([0-9a-f]{40})\t", lines[0])
    if not found:
        raise ArtifactError(f"{errand.name}: {path} is no submodule in {origin['commit'][:12]}.")
    url = about.get("git") or _submodule_url(parent, origin, path)
    files = _export(errand, url, found[1].decode(), about.get("paths") or [])
    return {f"{path}/{name}": e for name, e in files.items()}


def _submodule_url(parent: Repository, origin: Mapping[str, Any], path: str) -> str:
    """Return where .gitmodules says that a submodule comes from."""
    blobs, _links = parent.listing(origin["commit"], [".gitmodules"])
    parent.bring({oid for oid, _executable in blobs.values()})
    text = parent.run("config", "--blob", f"{origin['commit']}:.gitmodules", "--list").decode()
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    name = next((k[: -len(".path")] for k, v in values.items() if v == path), "")
    url = values.get(f"{name}.url", "")
    if url.startswith(("./", "../")):
        base = origin["git"].rstrip("/")
        for step in url.split("/"):
            base = base.rsplit("/", 1)[0] if step == ".." else base
        url = f"{base}/{url.replace('../', '').replace('./', '')}"
    if "://" not in url:
        raise ArtifactError(f"{path}: .gitmodules names no address; give one in `submodules`.")
    return url


def _export(errand: Errand, url: str, commit: str, paths: Sequence[str]) -> Files:
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise ArtifactError(f"{errand.name}: {commit!r} is no commit (40 hexadecimal digits).")
    repository = _opened(errand, url, commit)
    blobs, links = repository.listing(commit, [safe_path(p) for p in paths])
    if not blobs:
        raise ArtifactError(f"{errand.name}: {commit[:12]} of {shown(url)} has none of {paths}.")
    repository.bring({oid for oid, _executable in blobs.values()} | {*links.values()})
    contents = repository.contents(errand, [oid for oid, _executable in blobs.values()])
    files = {
        path: entry(contents[oid]["sha256"], contents[oid]["bytes"], executable)
        for path, (oid, executable) in blobs.items()
    }
    targets = {p: repository.run("cat-file", "blob", oid).decode() for p, oid in links.items()}
    # of a repository only a part is wanted: a link to what is not, or to nothing, is left out
    inside = {p: t for p, t in targets.items() if not leads_out(p, t)}
    made, _dangling = follow(inside, files)
    return {**files, **made}


def _opened(errand: Errand, url: str, commit: str) -> Repository:
    """Return a repository that has the commit: the lab's clone, or our mirror of the address."""
    if not shutil.which("git"):
        raise ArtifactError(f"{errand.name}: git is not installed on this host.")
    plain = url[len("file://") :] if url.startswith("file://") else url
    if "://" not in plain and (plain.startswith("/") or ":" not in plain):
        clone = Path(plain).expanduser()
        folder = clone / ".git" if (clone / ".git").exists() else clone
        repository = Repository(errand, str(clone), folder.resolve(), {})
        if not clone.is_dir():
            raise ArtifactError(f"{errand.name}: {plain} is no folder on this host.")
        if not repository.holds(commit):
            raise ArtifactError(f"{errand.name}: {plain} has no commit {commit}; fetch it there.")
        return repository
    key = hashlib.sha256(shown(url).encode()).hexdigest()
    folder = errand.store.root / "git" / key[:16]
    with errand.store.lock(f"git-{key}", errand.say):
        mirror = Repository(errand, url, folder, _credentials(errand, url))
        if not (folder / "HEAD").exists():
            folder.mkdir(parents=True, exist_ok=True)
            mirror.run("init", "-q", "--bare", str(folder))
        if not mirror.holds(commit):
            mirror.fetch_commit(commit)
    return mirror


def _credentials(errand: Errand, url: str) -> dict[str, str]:
    """Return the variables that hand a password of the address to git: never an argument."""
    parts = urlsplit(url)
    if parts.password is None:
        return {}
    ask = errand.store.root / "git" / "ask"
    ask.parent.mkdir(parents=True, exist_ok=True)
    ask.write_text(_ASK, encoding="utf-8")
    ask.chmod(0o755)
    return {
        "GIT_ASKPASS": str(ask),
        "BENCHFLEET_GIT_HOST": parts.netloc.rpartition("@")[2],
        "BENCHFLEET_GIT_USER": unquote(parts.username or ""),
        "BENCHFLEET_GIT_PASSWORD": unquote(parts.password),
    }


@dataclass(frozen=True)
class Repository:
    """A git directory, and the only way we call git on it."""

    errand: Errand
    url: str
    folder: Path
    secrets: Mapping[str, str]

    def holds(self, commit: str) -> bool:
        """Return whether the commit is here, asking no server."""
        return self._call(["cat-file", "-e", f"{commit}^{{commit}}"], local=True).returncode == 0

    def fetch_commit(self, commit: str) -> None:
        """Fetch a commit without contents and history; everything from servers that refuse that."""
        self.errand.say(f"fetching {commit[:12]} from {shown(self.url)}")
        address = self.address()
        slim = ["fetch", "-q", "--no-tags", "--depth", "1", "--filter=blob:none"]
        self.run("config", "remote.origin.url", address)
        self.run("config", "remote.origin.promisor", "true")
        self.run("config", "remote.origin.partialclonefilter", "blob:none")
        first = self._call([*slim, "origin", commit])
        if first.returncode == 0 and self.holds(commit):
            return
        every = ["+refs/heads/*:refs/benchfleet/heads/*", "+refs/tags/*:refs/benchfleet/tags/*"]
        shallow = (self.folder / "shallow").exists()
        deepen = ["--unshallow"] if shallow else []
        whole = self._call(["fetch", "-q", "--no-tags", "--no-filter", *deepen, "origin", *every])
        if whole.returncode:
            raise ArtifactError(f"{shown(self.url)} cannot be fetched: {_last(whole.stderr)}")
        if not self.holds(commit):
            raise ArtifactError(f"{shown(self.url)} has no commit {commit}.")

    def listing(
        self, commit: str, paths: Sequence[str]
    ) -> tuple[dict[str, tuple[str, bool]], dict[str, str]]:
        """Return ({path: (blob, executable)}, {link: blob}) of a commit, below `paths` if given."""
        wanted = ["--", *paths] if paths else []
        out = self.run("ls-tree", "-r", "-z", "--full-tree", commit, *wanted)
        blobs, links = {}, {}
        for line in out.split(b"\0"):
            found = re.match(rb"(\d{6}) blob ([0-9a-f]{40})\t(.+)", line, re.S)
            if found:
                path = safe_path(found[3].decode("utf-8", "surrogateescape"))
                if found[1] == b"120000":
                    links[path] = found[2].decode()
                else:
                    blobs[path] = (found[2].decode(), found[1] == b"100755")
        return blobs, links

    def bring(self, blobs: set[str]) -> None:
        """Fetch the contents that are missing, all at once."""
        if not self._is_mirror():
            return
        asked = "".join(f"{b}\n" for b in sorted(blobs)).encode()
        found = self._call(["cat-file", "--batch-check"], asked, local=True).stdout.decode()
        missing = [line.split()[0] for line in found.splitlines() if line.endswith(" missing")]
        if len(found.splitlines()) < len(blobs):  # an older git ends at the first missing one
            missing = sorted(blobs)
        if not missing:
            return
        self.errand.say(f"fetching {len(missing)} files from {shown(self.url)}")
        words = ["-c", "fetch.negotiationAlgorithm=noop", "fetch", "-q", "origin", "--no-tags"]
        more = ["--no-write-fetch-head", "--recurse-submodules=no", "--filter=blob:none", "--stdin"]
        done = self._call([*words, *more], "".join(f"{m}\n" for m in missing).encode())
        if done.returncode:
            raise ArtifactError(f"{shown(self.url)} cannot be fetched: {_last(done.stderr)}")

    def contents(self, errand: Errand, blobs: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Write blobs into the store, each checked by its own name; return blob -> entry."""
        names = list(dict.fromkeys(blobs))
        argv, env = self._command(["cat-file", "--batch"], local=True)
        found = {}
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env
        ) as git:
            asked, stream = cast("IO[bytes]", git.stdin), cast("IO[bytes]", git.stdout)
            for name in names:
                asked.write(f"{name}\n".encode())
                asked.flush()
                header = stream.readline().split()
                if len(header) != 3:
                    git.kill()
                    said = _last(cast("IO[bytes]", git.stderr).read())
                    raise ArtifactError(
                        f"{self.folder} lacks the content of a wanted file ({said});"
                        " fetch it there, or use the address."
                    )
                count = int(header[2])
                found[name] = self._content(errand, stream, name, count)
                stream.read(1)
            asked.close()
        return found

    @staticmethod
    def _content(errand: Errand, stream: IO[bytes], name: str, count: int) -> dict[str, Any]:
        check = hashlib.sha1(b"blob %d\0" % count)

        def blocks() -> Iterator[bytes]:
            left = count
            while left:
                block = stream.read(min(left, _BLOCK))
                if not block:
                    raise ArtifactError(f"git ended within the content of {name}.")
                left -= len(block)
                check.update(block)
                yield block

        sha256, size = errand.store.take_stream(blocks(), count)
        if check.hexdigest() != name:
            raise ArtifactError(f"{errand.name}: the content of {name} is damaged in the clone.")
        return entry(sha256, size, False)

    def run(self, *words: str) -> bytes:
        """Run git and return what it says. Raises ArtifactError with its last line."""
        done = self._call(list(words), local=True)
        if done.returncode:
            raise ArtifactError(f"git {words[0]} in {self.folder}: {_last(done.stderr)}")
        return done.stdout

    def ask(self, *words: str) -> bytes:
        """Run git with leave to reach the server; return what it says. Raises ArtifactError."""
        done = self._call(list(words))
        if done.returncode:
            raise ArtifactError(f"{shown(self.url)} cannot be reached: {_last(done.stderr)}")
        return done.stdout

    def _call(
        self, words: Sequence[str], given: bytes = b"", local: bool = False
    ) -> subprocess.CompletedProcess[bytes]:
        argv, env = self._command(words, local)
        try:
            return subprocess.run(
                argv, input=given, capture_output=True, env=env, timeout=_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise ArtifactError(
                f"{shown(self.url)}: git did not end within {_LIMIT_S // 60} min."
            ) from None

    def _command(self, words: Sequence[str], local: bool) -> tuple[list[str], dict[str, str]]:
        """Return argv and environment; a local call can reach no server, whatever a clone's own
        configuration says."""
        settings = ("core.hooksPath=/dev/null", "core.fsmonitor=false", "safe.directory=*")
        options = ["gc.auto=0", "http.followRedirects=initial", *settings]
        argv = ["git", f"--git-dir={self.folder}", *(a for o in options for a in ("-c", o))]
        variables = self.errand.access.variables()
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"):
            variables.pop(name, None)
        own = {
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_ALLOW_PROTOCOL": "none" if local else "https:http:ssh:git",
            "GIT_SSH_COMMAND": variables.get("GIT_SSH_COMMAND", "ssh -o BatchMode=yes"),
            "GIT_HTTP_LOW_SPEED_LIMIT": "1000",
            "GIT_HTTP_LOW_SPEED_TIME": "120",
            "LC_ALL": "C",
        }
        return [*argv, *words], {**variables, **own, **({} if local else self.secrets)}

    def address(self) -> str:
        """Return the address as git may keep it: with the user's name, never the password."""
        parts = urlsplit(self.url)
        if parts.password is None:
            return self.url
        user = f"{parts.username}@" if parts.username else ""
        return urlunsplit(parts._replace(netloc=user + parts.netloc.rpartition("@")[2]))

    def _is_mirror(self) -> bool:
        return self.folder.parent == self.errand.store.root / "git"


def _last(stderr: bytes) -> str:
    """Return the last line of what git said, without a password."""
    lines = [line for line in stderr.decode("utf-8", "replace").splitlines() if line.strip()]
    return re.sub(r"//[^/@\s]*@", "//", lines[-1].strip())[:300] if lines else "git said nothing."
