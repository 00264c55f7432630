# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Each origin with what it can do wrong, from servers and folders of this machine."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.base import (
    Access,
    ArtifactError,
)
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.obtain import (
    _canonical,
    resolve,
)
from ansible_collections.benchfleet.mlperf.plugins.module_utils.artifacts.store import Store

CONTENT = bytes(range(256)) * 4000
SHA = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()
COMMIT = "c0" * 20


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


# -- single files ---------------------------------------------------------------------------------


def test_an_md5_is_enough_and_its_sha256_is_kept(bring: Any, server: Any, store: Store) -> None:
    origin = {"url": f"{server.url}/m", "md5": MD5}
    first = bring(origin, tags=["x"])
    assert (first.digest, first.changed, first.checked_by) == (SHA, True, "md5")
    again = bring(origin)
    assert (again.changed, again.path, len(server.asked)) == (False, first.path, 1)
    assert resolve(store, {"name": "it", "origins": [origin]}) == SHA
    store.remove(SHA)
    server.files["/m"] = b"other content with the same address"
    with pytest.raises(ArtifactError, match=f"expected {SHA}; it was discarded"):
        bring(origin)


def test_what_an_origin_gave_first_holds_until_the_lab_names_another(
    bring: Any, server: Any, store: Store
) -> None:
    body = gzip.compress(CONTENT)
    server.files = {"/m": body}
    origin = {"url": f"{server.url}/m", "md5": md5(body), "unpack": "gz"}
    assert bring(origin).digest == SHA
    pin = next((store.base / "origins").iterdir())
    pin.write_text(json.dumps({"origin": origin, "sha256": "cd" * 32}))
    with pytest.raises(ArtifactError, match=f"{SHA}, expected {'cd' * 32}"):
        bring(origin)
    store.remove(SHA)
    assert bring(origin, sha256=SHA).changed


def test_nothing_is_downloaded_without_any_digest(bring: Any, server: Any) -> None:
    with pytest.raises(ArtifactError, match="give the sha256 of it"):
        bring({"url": f"{server.url}/m"})
    assert server.asked == []


def test_the_next_origin_is_tried_and_all_faults_are_told(bring: Any, server: Any) -> None:
    server.answers["/gone"] = (404, {})
    gone = {"url": f"{server.url}/gone"}
    assert bring(gone, {"url": f"{server.url}/m"}, sha256=SHA).changed
    assert "Trying the next origin" in bring.said[0]
    with pytest.raises(ArtifactError) as caught:
        bring(gone, {"path": "/nowhere/at/all"}, sha256="ab" * 32)
    assert "answered 404" in str(caught.value)
    assert "/nowhere/at/all is not on this host" in str(caught.value)


def test_a_password_of_an_address_reaches_its_server_and_nobody_else(
    bring: Any, server: Any, cdn: Any, store: Store
) -> None:
    address = server.url.replace("//", "//eve:s3cret@") + "/m"
    server.answers["/m"] = (302, {"Location": f"{cdn.url}/blob"})
    bring({"url": address, "md5": MD5})
    assert server.asked[0][3] == "Basic ZXZlOnMzY3JldA=="
    assert cdn.asked[0][3] is None
    server.answers["/m"] = (503, {})
    with pytest.raises(ArtifactError) as caught:
        bring({"url": address}, sha256="ab" * 32)
    kept = "".join(p.read_text() for p in store.base.rglob("*.json"))
    assert "s3cret" not in str(caught.value) + kept + "".join(bring.said)
    assert f"{server.url}/m" in kept


def test_passwords_of_submodules_are_not_recorded() -> None:
    part = {"third/part": {"git": "https://eve:s3cret@host/part", "paths": ["x"]}}
    clean = _canonical({"git": "https://eve:s3cret@host/top", "submodules": part})
    assert clean == {
        "git": "https://host/top",
        "submodules": {"third/part": {"git": "https://host/part", "paths": ["x"]}},
    }


def test_a_server_that_lies_about_the_length(bring: Any, server: Any, store: Store) -> None:
    server.stated = len(CONTENT) + 5
    with pytest.raises(ArtifactError, match="of 1024005 bytes came"):
        bring({"url": f"{server.url}/m"}, sha256=SHA)
    server.stated = None
    assert bring({"url": f"{server.url}/m"}, sha256=SHA).digest == SHA
    assert server.asked[-1][2] == f"bytes={len(CONTENT)}-", "the part was whole"


def test_an_answer_with_another_range_is_not_appended(
    bring: Any, server: Any, store: Store
) -> None:
    store.part(SHA).write_bytes(CONTENT[:1000])
    server.shift = 10
    with pytest.raises(ArtifactError, match="another range"):
        bring({"url": f"{server.url}/m"}, sha256=SHA)
    server.shift = 0
    assert bring({"url": f"{server.url}/m"}, sha256=SHA).digest == SHA


def test_a_redirect_away_from_encryption_is_a_fault(bring: Any, server: Any) -> None:
    server.answers["/m"] = (302, {"Location": "file:///etc/passwd"})
    with pytest.raises(ArtifactError, match="the server answered 302"):
        bring({"url": f"{server.url}/m"}, sha256=SHA)
    with pytest.raises(ArtifactError, match="no http"):
        bring({"url": "ftp://127.0.0.1/m"}, sha256=SHA)


def test_a_proxy_of_the_labs_is_used(bring: Any, server: Any, monkeypatch: Any) -> None:
    monkeypatch.delenv("no_proxy")
    bring.access = Access(environment={"http_proxy": server.url})
    bring({"url": "http://model.invalid/m"}, sha256=SHA)
    assert server.asked[0][1] == "http://model.invalid/m"


# -- places of the lab's --------------------------------------------------------------------------


def test_a_copy_of_the_labs_own_stays_in_its_place(
    bring: Any, tmp_path: Path, store: Store
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "a").write_bytes(b"1")
    first = bring({"path": str(own)})
    assert (first.path, store.file_path(sha(b"1")).exists()) == (own, False)
    assert (first.changed, bring({"path": str(own)}).changed) == (True, False)
    assert store.verify(first.digest) == []
    (own / "a").write_bytes(b"22")
    assert not store.has(first.digest), "what changed is no longer what its digest says"
    with pytest.raises(ArtifactError, match=f"expected {first.digest}"):
        bring({"path": str(own)}, sha256=first.digest)
    assert bring({"path": str(own)}).digest != first.digest
    store.remove(bring({"path": str(own)}).digest)
    assert (own / "a").read_bytes() == b"22"


def test_a_copy_can_go_into_the_store(bring: Any, tmp_path: Path, store: Store) -> None:
    (tmp_path / "m").write_bytes(b"model")
    found = bring({"path": str(tmp_path / "m"), "copy": True}, sha256=sha(b"model"))
    assert found.path == store.file_path(sha(b"model"))
    url = (tmp_path / "m").as_uri()
    assert bring({"url": url}, sha256=sha(b"model"), name="again").changed is False
    assert bring({"path": str(tmp_path / "m"), "copy": True}).changed is False
    with pytest.raises(ArtifactError, match=r"m: md5 .*, expected 0000"):
        bring({"url": url, "md5": "0" * 32})
    assert bring({"url": url, "md5": md5(b"model")}).checked_by == "md5"


# -- archives -------------------------------------------------------------------------------------


def tar_of(*members: tuple[str, bytes | None, dict[str, Any]]) -> bytes:
    """Return a gzipped tar of (name, content, other properties)."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content, more in members:
            info = tarfile.TarInfo(name)
            info.size = len(content or b"")
            for key, value in more.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content or b""))
    return out.getvalue()


def zip_of(*members: tuple[str, bytes, int]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as whole:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            whole.writestr(info, content)
    return out.getvalue()


LINK = {"type": tarfile.SYMTYPE, "linkname": "a"}


def unpacked(bring: Any, server: Any, body: bytes, kind: str = "tar") -> Any:
    server.files["/x"] = body
    return bring({"url": f"{server.url}/x", "md5": md5(body), "unpack": kind})


def test_a_tar_becomes_a_tree(bring: Any, server: Any, store: Store) -> None:
    hard = {"type": tarfile.LNKTYPE, "linkname": "./d/a"}
    body = tar_of(
        ("d/", None, {"type": tarfile.DIRTYPE}),
        ("./d/a", b"1", {"mode": 0o755}),
        ("d/soft", None, LINK),
        ("hard", None, hard),
    )
    found = unpacked(bring, server, body)
    assert sorted((store.record(found.digest) or {})["files"]) == ["d/a", "d/soft", "hard"]
    assert all(p.read_bytes() == b"1" for p in found.path.rglob("*") if p.is_file())
    assert not store.file_path(sha(body)).exists(), "the archive itself is not kept"


def test_a_zip_becomes_a_tree_and_a_gz_a_file(bring: Any, server: Any, store: Store) -> None:
    body = zip_of(("d/a", b"1", 0o100755), ("l", b"d/a", stat.S_IFLNK | 0o777))
    found = unpacked(bring, server, body, "zip")
    assert (found.path / "l").read_bytes() == b"1"
    assert (found.path / "d/a").stat().st_mode & 0o100
    assert unpacked(bring, server, gzip.compress(b"model"), "gz").digest == sha(b"model")


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (tar_of(("../x", b"1", {})), "tar", "refused as the path"),
        (tar_of(("/etc/x", b"1", {})), "tar", "refused as the path"),
        (
            tar_of(("a", b"1", {}), ("l", None, LINK | {"linkname": "/etc/passwd"})),
            "tar",
            "leads out",
        ),
        (tar_of(("a", b"1", {}), ("l", None, LINK | {"linkname": "../../x"})), "tar", "leads out"),
        (
            tar_of(("a", b"1", {}), ("l", None, LINK | {"linkname": "no"})),
            "tar",
            "points to nothing",
        ),
        (
            tar_of(("l", None, {"type": tarfile.LNKTYPE, "linkname": "z"})),
            "tar",
            "nothing before it",
        ),
        (tar_of(("dev", None, {"type": tarfile.CHRTYPE})), "tar", "is a device"),
        (tar_of(("pipe", None, {"type": tarfile.FIFOTYPE})), "tar", "is a device"),
        (tar_of(("a", bytes(90 << 20), {})), "tar", "unpacks to more than"),
        (gzip.compress(bytes(90 << 20)), "gz", "unpacks to more than"),
        (zip_of(("../x", b"1", 0)), "zip", "refused as the path"),
        (zip_of(("l", b"../../x", stat.S_IFLNK)), "zip", "leads out"),
        (zip_of(("a", bytes(90 << 20), 0)), "zip", "unpacks to more than"),
        (b"no archive at all", "tar", "no sound tar archive"),
        (b"no archive at all", "zip", "no sound zip archive"),
        (gzip.compress(b"x" * 100)[:-9], "gz", "no sound gz archive"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_a_hostile_archive_is_refused_and_leaves_nothing(
    bring: Any, server: Any, store: Store, body: bytes, kind: str, words: str
) -> None:
    with pytest.raises(ArtifactError, match=words):
        unpacked(bring, server, body, kind)
    assert not list((store.base / "trees").rglob("*"))
    assert store.records() == []
    assert store.loose() == []


# -- the Hub --------------------------------------------------------------------------------------


def hub(server: Any, files: dict[str, bytes], large: tuple[str, ...] = ()) -> dict[str, Any]:
    """Let the server be a Hub with these files, in two pages; return the origin."""
    rows: list[dict[str, Any]] = [{"type": "directory", "path": "d", "oid": "x", "size": 0}]
    for path, body in files.items():
        git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
        row = {"type": "file", "path": path, "oid": git, "size": len(body)}
        rows.append({**row, "lfs": {"oid": sha(body)}} if path in large else row)
        server.files[f"/org/repo/resolve/{COMMIT}/{path}"] = body
    base = f"/api/models/org/repo/tree/{COMMIT}?recursive=true"
    server.files[base] = json.dumps(rows).encode()
    return {"hf": "org/repo", "revision": COMMIT}


def test_a_repository_of_the_hub_becomes_a_tree(
    bring: Any, server: Any, store: Store, monkeypatch: Any
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    bring.access = Access(hf_endpoint=server.url)
    files = {"config.json": b"{}", "d/model.bin": b"large" * 99, "README.md": b"no"}
    origin = hub(server, files, ("d/model.bin",)) | {"files": ["*.json", "d/*"]}
    found = bring(origin)
    assert (found.path / "d/model.bin").read_bytes() == files["d/model.bin"]
    assert not (found.path / "README.md").exists()
    assert {a[3] for a in server.asked} == {"Bearer hf_secret"}
    assert not list((store.base / ".parts").glob("*.done"))
    with pytest.raises(ArtifactError, match="none of"):
        bring(origin | {"files": ["*.gguf"]}, name="other")


def test_files_of_the_hub_that_are_not_what_it_lists(bring: Any, server: Any) -> None:
    bring.access = Access(hf_endpoint=server.url)
    for name, large in (("small", ()), ("large", ("large",))):
        origin = hub(server, {name: b"right"}, large)
        server.files[f"/org/repo/resolve/{COMMIT}/{name}"] = b"wrong"
        with pytest.raises(ArtifactError, match="it was discarded"):
            bring(origin)


@pytest.mark.parametrize(
    "rows",
    ["{", '[{"type": "file"}]', '[{"type": "file", "path": "a", "oid": "zz", "size": 1}]', "5"],
)
def test_an_odd_list_of_the_hub(bring: Any, server: Any, rows: str) -> None:
    bring.access = Access(hf_endpoint=server.url)
    server.files[f"/api/models/org/repo/tree/{COMMIT}?recursive=true"] = rows.encode()
    with pytest.raises(ArtifactError, match="cannot be read"):
        bring({"hf": "org/repo", "revision": COMMIT})


def test_a_small_file_of_the_hub_is_checked_by_its_name_in_git(bring: Any, server: Any) -> None:
    bring.access = Access(hf_endpoint=server.url)
    body = b"vocabulary"
    git = hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()
    path = f"/org/repo/resolve/{COMMIT}/vocab.txt"
    server.files[path] = body
    server.etags[path] = f'"{git}"'
    origin = {"hf": "org/repo", "revision": COMMIT, "files": ["vocab.txt"]}
    assert bring(origin).digest == sha(body)
    server.files[path] = b"changed on the way"
    bring.store = Store(bring.store.root / "another")
    with pytest.raises(ArtifactError, match=r"git sha1 is .* it was discarded"):
        bring(origin)


# -- the MLCommons store --------------------------------------------------------------------------


def bucket(server: Any, files: dict[str, bytes], blank: tuple[str, ...] = ()) -> dict[str, Any]:
    lines = [f"{' ' * 32 if p in blank else md5(b)}  {p}" for p, b in files.items()]
    server.files["/metadata/x.uri"] = f"{server.url}/base/x\n".encode()
    server.files["/metadata/x.md5"] = ("\n".join(lines) + "\n").encode()
    server.files.update({f"/base/x/{p}": b for p, b in files.items()})
    return {"mlcommons": f"{server.url}/metadata/x.uri"}


def test_a_manifest_becomes_a_tree_with_what_is_unverified_counted(
    bring: Any, server: Any, store: Store
) -> None:
    origin = bucket(server, {"a": b"1", "d/b": b"2", "d/c": b"3"}, blank=("d/c",))
    found = bring(origin)
    record = store.record(found.digest) or {}
    assert (sorted(record["files"]), record["unverified"]) == (["a", "d/b", "d/c"], 1)
    assert any("no digest of 1 files" in line for line in bring.said)
    one = bring(origin | {"files": ["d/b"]}, name="one")
    assert (one.digest, one.path.read_bytes()) == (sha(b"2"), b"2")


def test_many_files_go_on_where_they_stopped(bring: Any, server: Any, store: Store) -> None:
    origin = bucket(server, {f"f{n}": b"%d" % n for n in range(6)})
    server.answers["/base/x/f5"] = (503, {})
    with pytest.raises(ArtifactError, match="503"):
        bring(origin)
    done = {a[1] for a in server.asked if a[1].startswith("/base")} - {"/base/x/f5"}
    server.answers.clear()
    before = len(server.asked)
    bring(origin)
    again = {a[1] for a in server.asked[before:]}
    assert "/base/x/f5" in again
    assert not again & done
    assert store.loose() == []


@pytest.mark.parametrize("line", ["../x", "/etc/passwd", "a/../../b"])
def test_a_manifest_that_leads_out_is_refused(bring: Any, server: Any, line: str) -> None:
    origin = bucket(server, {"a": b"1"})
    server.files["/metadata/x.md5"] = f"{'0' * 32}  {line}\n".encode()
    with pytest.raises(ArtifactError, match="refused as the path"):
        bring(origin)


def test_a_manifest_that_is_none_or_has_no_digest(bring: Any, server: Any) -> None:
    origin = bucket(server, {"a": b"1"}, blank=("a",))
    with pytest.raises(ArtifactError, match="no digest of any file"):
        bring(origin)
    manifest = server.files["/metadata/x.md5"]
    server.files["/metadata/x.md5"] = b"<html>\n"
    with pytest.raises(ArtifactError, match="line 1"):
        bring(origin)
    server.files["/metadata/x.md5"] = manifest
    assert bring(origin, sha256=sha(b"1")).digest == sha(b"1")


def test_a_members_bucket_takes_a_service_token(bring: Any, server: Any, monkeypatch: Any) -> None:
    origin = bucket(server, {"a": b"1", "b": b"2"})

    def gate(_path: str, headers: dict[str, str]) -> Any:
        if headers.get("cookie") == "CF_Authorization=jwt":
            return None
        if headers.get("cf-access-client-secret") == "sec":
            return (200, {"Set-Cookie": "CF_Authorization=jwt; Path=/; Secure"})
        return (302, {"Location": f"{server.url}/cdn-cgi/access/login/x"})

    server.gate = gate
    with pytest.raises(ArtifactError, match="members of MLCommons: set CF_ACCESS_CLIENT_ID"):
        bring(origin)
    monkeypatch.setenv("CF_ACCESS_CLIENT_ID", "id")
    monkeypatch.setenv("CF_ACCESS_CLIENT_SECRET", "wrong")
    with pytest.raises(ArtifactError, match="not accepted"):
        bring(origin)
    monkeypatch.setenv("CF_ACCESS_CLIENT_SECRET", "sec")
    assert bring(origin).changed
    sent = [h for h in server.headers if "cf-access-client-secret" in h]
    assert len(sent) == 2, "the secret is exchanged once for a cookie"


# -- the mirror -----------------------------------------------------------------------------------


def test_a_store_served_over_http_is_a_mirror(
    bring: Any, server: Any, store: Store, tmp_path: Path
) -> None:
    origin = bucket(server, {"a": b"1", "d/b": b"2"})
    found = bring(origin)
    for path in store.base.rglob("*"):
        if path.is_file():
            server.files[f"/lab/artifacts/{path.relative_to(store.base)}"] = path.read_bytes()
    server.answers |= {p: (503, {}) for p in list(server.files) if not p.startswith("/lab")}
    bring.store, bring.access = Store(tmp_path / "two"), Access(mirror=f"{server.url}/lab/")
    again = bring(origin)
    assert (again.digest, bring.store.verify(again.digest)) == (found.digest, [])
    evil = f"/lab/artifacts/records/{found.digest}.json"
    record = json.loads(server.files[evil])
    record["files"]["../../x"] = record["files"].pop("a")
    server.files[evil] = json.dumps(record).encode()
    bring.store = Store(tmp_path / "three")
    with pytest.raises(ArtifactError, match="refused as the path"):
        bring(origin)


def test_what_a_mirror_lacks_comes_from_its_origin(bring: Any, server: Any) -> None:
    server.answers[f"/lab/artifacts/records/{SHA}.json"] = (404, {})
    bring.access = Access(mirror=f"{server.url}/lab")
    assert bring({"url": f"{server.url}/m"}, sha256=SHA).digest == SHA
