# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Nothing private leaves in a bundle, and what is left can still be read."""

from __future__ import annotations

import json
import random
import string
import time

import pytest
from ansible_collections.benchfleet.mlperf.plugins.plugin_utils.redact import PLAIN, Redactor

SECRETS = [
    "hf_" + "aB3dE5fG7h" * 3,
    "ghp_" + "x1Y2" * 9,
    "github_pat_" + "11ABCDEFG0" * 4,
    "glpat-" + "abc-DEF_12" * 2,
    "AKIA" + "IOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJqYW5lIn0.c2lnbmF0dXJl",
    "nvapi-" + "Ab-3_" * 6,
]
FORMS = [
    "{}",
    "export HF_TOKEN={} && run",
    '{{"token": "{}"}}',
    "Authorization: Bearer {}\r\n",
    "https://jane:{}@example.org/x",
    "pip install --index-url https://{}@pypi.example.org/simple",
    "https://example.org/file?token={}&x=1",
    "password='{}'",
    'env: {{"AWS_SECRET_ACCESS_KEY": "{}"}}',
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("secret", SECRETS, ids=lambda s: s[:5])
def test_a_known_kind_of_secret_is_taken_out_in_every_place(form: str, secret: str) -> None:
    redactor = Redactor()
    out = redactor.text(form.format(secret))
    assert secret not in out
    assert sum(redactor.counts.values()) >= 1
    assert Redactor().text(out) == out


def test_any_secret_with_a_telling_name_is_taken_out() -> None:
    chance = random.Random(2026)
    for _trial in range(500):
        size = chance.randrange(6, 30)
        secret = chance.choice(string.ascii_letters) + "".join(
            chance.choices(string.ascii_letters + string.digits + "+-_.!%^", k=size)
        )
        for form in (FORMS[2], FORMS[3], FORMS[4], FORMS[7], FORMS[8], "api_key={}", "passwd: {}"):
            assert secret not in Redactor().text(form.format(secret))


def test_json_stays_json() -> None:
    record = {
        "HF_TOKEN": 'hf_abc"def',
        "ansible_become_pass": "p, w",
        "result_first_token_99.00": 1.5,
        "use_token_latencies": False,
        "token": None,
        "serial": "CN7792",
        "address": "10.1.2.3",
        "argv": ["--password=xy", "--user", "jane"],
    }
    redactor = Redactor()
    redactor.learn("user", "jane")
    out = json.loads(redactor.text(json.dumps(record)))
    assert set(out) == set(record)
    for name in ("result_first_token_99.00", "use_token_latencies", "token"):
        assert out[name] == record[name]
    assert (out["address"], out["serial"], out["argv"][2]) == ("ip-1", "serial-1", "user-1")
    assert "p, w" not in json.dumps(out)


def test_a_private_key_is_taken_out_even_when_it_is_cut_off() -> None:
    key = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXk\nAAAA\n"
    for text in (key + "-----END OPENSSH PRIVATE KEY-----\nnext", key):
        assert "b3BlbnNzaC1rZXk" not in Redactor().text(text)
    public = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ0 jane@lab"
    assert "AAAAC3" not in Redactor().text(public)


def test_names_get_the_same_alias_everywhere() -> None:
    redactor = Redactor()
    redactor.learn("host", "gpu-node7.lab.example.org", "10.0.0.7")
    redactor.learn("user", "jane")
    texts = ["ssh jane@GPU-NODE7 ls /home/jane/x", "gpu-node7.lab.example.org: jane's 10.0.0.7"]
    for text in texts:
        redactor.discover(text)
    first, second = (redactor.text(t) for t in texts)
    user = first.split("/home/")[1].split("/")[0]
    assert user.startswith("user-")
    assert f"{user}'s" in second and second.endswith("ip-1")
    assert first.startswith(f"ssh {user}@host-")
    for private in ("jane", "node7", "example.org", "10.0.0.7"):
        assert private not in (first + second).lower()


def test_what_one_text_reveals_is_taken_out_of_all() -> None:
    redactor = Redactor()
    for text in ("/home/bob/.benchfleet/hosts/atlas-1a2b3c4d/runs", "hostname=vega"):
        redactor.discover(text)
    out = redactor.text("bob ran it on atlas and vega: /h/hosts/atlas-1a2b3c4d/x")
    for private in ("bob", "atlas", "vega", "1a2b3c4d"):
        assert private not in out


def test_random_names_never_stay() -> None:
    chance = random.Random(7)
    letters = string.ascii_lowercase + string.digits
    for _trial in range(300):
        names = ["".join(chance.choices(letters, k=chance.randrange(2, 9))) for _name in range(4)]
        names = [n for n in names if n not in PLAIN and not n.isdigit()]
        redactor = Redactor()
        for name in names:
            redactor.learn(chance.choice(["host", "user"]), name)
        joint = chance.choice([" ", "/", "@", ":", "-", "_", '"', ","])
        out = redactor.text(joint.join(names) + joint)
        words = "".join(c if c.isalnum() else " " for c in out).split()
        assert not set(names) & set(words)
        again = redactor.text(out)
        assert again == out


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("inet 192.168.1.20/24 brd 192.168.1.255", ["192.168.1.20", "192.168.1.255"]),
        ("to [2001:db8::12]:22 and fe80::1ff:fe23:4567:890a", ["2001:db8::12", "fe80::1ff"]),
        ("ether 00:1B:44:11:3a:b7 txqueuelen", ["00:1B:44:11:3a:b7"]),
        ('"Serial Number": "692139000119"', ["692139000119"]),
        ("asic_serial: 0x6F1F0A2B3C4D5E6F", ["6F1F0A2B3C4D5E6F"]),
        ("GPU-1f9de095-7d13-7942-aaaa-0123456789ab", ["1f9de095"]),
        ("system-uuid=4C4C4544-0043-3510", ["4C4C4544"]),
        ("Jane.Doe+x@mail.example.org wrote", ["Jane.Doe", "example.org"]),
    ],
)
def test_addresses_and_serials_are_taken_out(text: str, gone: list[str]) -> None:
    out = Redactor().text(text)
    assert not [private for private in gone if private in out], out


@pytest.mark.parametrize(
    "text",
    [
        "nvidia-cublas==13.10.0.20 ; python_full_version >= '3.11'",
        "nvidia_cublas-13.10.0.20-py3-none-manylinux_2_27_x86_64.whl",
        "2026-01-02T10:11:12.000Z cell 1 of 2, loadgen 6.0.17",
        "listens on 127.0.0.1 and ::1",
        "mlperf::QuerySampleLatency std::vector",
        '{"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}',
        "*.*.target_latency = 12.5",
        "99.00 percentile first token latency (ns)   : 12345",
    ],
)
def test_what_a_bug_report_needs_stays(text: str) -> None:
    redactor = Redactor()
    redactor.discover(text)
    assert redactor.text(text) == text


@pytest.mark.parametrize("word", ["y", "a b ", "1", "x.", "-", "a@", ":", '"token', "/home/", "1."])
def test_long_lines_take_no_long_time(word: str) -> None:
    text = word * (200_000 // len(word))
    began = time.monotonic()
    redactor = Redactor()
    redactor.discover(text)
    redactor.text(text)
    assert time.monotonic() - began < 5
