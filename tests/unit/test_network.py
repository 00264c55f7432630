# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's proxies, authorities and indexes: the same for both sides, passwords apart."""

from __future__ import annotations

import base64
import ssl
import subprocess
import types
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils import network
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.errors import BenchfleetError

PEM = "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n"
CA = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT")


def settings(**options: Any) -> network.Settings:
    return network.Settings.of(network.OPTIONS | options)


@pytest.fixture(name="system")
def _system(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The controller's own authorities."""
    path = tmp_path / "system.pem"
    path.write_text(PEM.format("c3lzdGVt"))
    paths = types.SimpleNamespace(cafile=str(path), capath=None)
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    return path


def test_nothing_said_is_nothing_set(tmp_path: Path) -> None:
    assert settings().here(tmp_path / "ca") == {}
    assert settings().on_host("/h") == ({}, {})
    assert settings().ca_folder() is None
    assert not (tmp_path / "ca").exists()


def test_both_sides_get_proxies_in_both_spellings(tmp_path: Path) -> None:
    one = settings(proxy={"http": "http://p:1", "https": "http://p:2", "no": "localhost,.lab"})
    expected = {
        "http_proxy": "http://p:1",
        "https_proxy": "http://p:2",
        "no_proxy": "localhost,.lab",
    }
    expected |= {name.upper(): value for name, value in expected.items()}
    assert one.here(tmp_path) == expected
    assert one.on_host("/h") == (expected, {})


def test_pip_and_uv_get_the_same_indexes(tmp_path: Path) -> None:
    extra = ["https://b/simple", "https://c/simple"]
    one = settings(pip_index_url="https://a/simple", pip_extra_index_urls=extra)
    assert one.here(tmp_path) == {
        "PIP_INDEX_URL": "https://a/simple",
        "UV_DEFAULT_INDEX": "https://a/simple",
        "PIP_EXTRA_INDEX_URL": " ".join(extra),
        "UV_INDEX": " ".join(extra),
    }


def test_the_labs_own_variables_have_the_last_word(tmp_path: Path) -> None:
    proxy = {"https": "http://p:2"}
    one = settings(proxy=proxy, environment={"https_proxy": "http://mine", "DEPTH": 5})
    assert one.here(tmp_path)["https_proxy"] == "http://mine"
    assert one.here(tmp_path)["HTTPS_PROXY"] == "http://p:2"
    assert one.here(tmp_path)["DEPTH"] == "5"


def test_secrets_travel_apart() -> None:
    environment = {"HF_TOKEN": "t", "MY_SECRET": "s", "DB_PASSWORD": "p", "API_KEY": "k"}
    one = settings(
        proxy={"http": "http://eve:pass@p:1", "https": "http://p:2"},
        pip_index_url="https://user:pass@a/simple",
        environment={**environment, "KEYBOARD": "de", "SHOWN": "yes"},
    )
    plain, secret = one.on_host("/h")
    shown = {"https_proxy", "HTTPS_PROXY", "KEYBOARD", "SHOWN"}
    assert set(plain) == shown
    hidden = {"http_proxy", "HTTP_PROXY", "PIP_INDEX_URL", "UV_DEFAULT_INDEX"}
    assert set(secret) == {*environment, *hidden}
    assert not any("pass" in value for value in plain.values())
    assert "pass" not in repr(settings(pip_index_url="https://user:pass@a/simple"))


def test_the_labs_authorities_stand_beside_the_systems(tmp_path: Path, system: Path) -> None:
    own = tmp_path / "lab.pem"
    own.write_text(PEM.format("bGFi"))
    one = settings(ca_bundle=str(own))
    folder = one.ca_folder()
    assert folder is not None
    here = one.here(tmp_path / "store" / "ca")
    (path,) = set(here.values())
    assert set(here) == set(CA)
    assert Path(path).read_text() == system.read_text() + own.read_text()
    (entry,) = folder["files"]
    assert base64.b64decode(entry["content"]).decode() == Path(path).read_text()
    plain, secret = one.on_host("/h")
    assert (set(plain), secret) == (set(CA), {})
    assert set(plain.values()) == {f"/h/src/{folder['name']}/{entry['path']}"}
    before = Path(path).stat().st_mtime_ns
    assert one.here(tmp_path / "store" / "ca") == here
    assert Path(path).stat().st_mtime_ns == before
    own.write_text(PEM.format("bmV3"))
    assert settings(ca_bundle=str(own)).here(tmp_path / "store" / "ca") != here


def test_a_bundle_that_holds_the_systems_own_is_taken_as_it_is(
    tmp_path: Path, system: Path
) -> None:
    whole = tmp_path / "whole.pem"
    whole.write_text(system.read_text())
    assert settings(ca_bundle=str(whole)).certificates == system.read_text()


def test_system_authorities_may_be_a_folder_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = types.SimpleNamespace(cafile=None, capath=str(tmp_path / "certs"))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: folder)
    own = tmp_path / "lab.pem"
    own.write_text(PEM.format("bGFi"))
    assert settings(ca_bundle=str(own)).certificates.strip() == own.read_text().strip()
    (tmp_path / "certs").mkdir()
    for name in ("aa.0", "bb.0", "README"):
        (tmp_path / "certs" / name).write_text(PEM.format(name))
    merged = settings(ca_bundle=str(own)).certificates
    assert merged == PEM.format("aa.0") + PEM.format("bb.0") + PEM.format("bGFi")


def test_openssl_reads_the_merged_file(tmp_path: Path) -> None:
    own = tmp_path / "lab.pem"
    argv = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=lab"]
    argv += ["-keyout", "/dev/null", "-out", str(own)]
    try:
        subprocess.run(argv, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    (path,) = set(settings(ca_bundle=str(own)).here(tmp_path / "ca").values())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    subjects = [dict(part[0] for part in c["subject"]) for c in context.get_ca_certs()]
    assert {"commonName": "lab"} in subjects


@pytest.mark.parametrize("content", [None, "no certificate\n", "\xff\n"])
def test_a_bundle_that_is_none_is_refused(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "lab.pem"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(BenchfleetError, match=r"benchfleet_ca_bundle=.*lab\.pem is no file of PEM"):
        settings(ca_bundle=str(path))


def test_a_proxy_of_another_name_is_refused() -> None:
    with pytest.raises(BenchfleetError, match=r"benchfleet_proxy: no 'htps'\..*'https'"):
        settings(proxy={"htps": "http://p"})


def test_empty_settings_are_like_none(tmp_path: Path) -> None:
    empty = {"proxy": None, "ca_bundle": None, "pip_index_url": None, "environment": None}
    assert settings(**empty, pip_extra_index_urls=None).here(tmp_path) == {}
