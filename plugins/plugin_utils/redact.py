# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Take out of a text what names people and machines or lets somebody in.

Names get aliases that are the same everywhere, so that a report can still be followed; secrets get
none. When in doubt, something is taken out.
"""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from collections.abc import Callable

# Names that say nothing of anybody, and the words of the aliases themselves.
PLAIN = frozenset(
    (
        *("root", "localhost", "user", "admin", "administrator", "ubuntu", "debian", "centos"),
        *("rocky", "ec2-user", "host", "ip", "mac", "serial", "secret", "email", "credentials"),
    )
)
_SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"
    r"|\b(?:ssh-(?:rsa|dss|ed25519)|ecdsa-sha2-\w+|sk-\S+@openssh\.com) +AAAA[\w+/=]+"
    r"|\bhf_\w{8,}|\bgh[pousr]_\w{16,}|\bgithub_pat_\w{16,}|\bglpat-[\w-]{16,}"
    r"|\bxox[abprs]-[\w-]{8,}|\bsk-[\w-]{16,}|\bnvapi-[\w-]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[\w-]{8,}\.[\w-]+\.[\w-]*",
    re.S,
)
_BEARER = re.compile(r"\b(Bearer|Basic)(\s+)[^\s\"'<>,;]{6,}", re.I)
_KEYED = re.compile(
    r"((?<![\w.-])[\w.-]*(?:password|passwd|passphrase|_pass|secret|api_?key|access_?key|secret_?key|token))"
    r"(\\?[\"']?\s*[:=]\s*)"
    r"(\\\"(?:[^\"\\]|\\(?!\"))*\\\"|\"(?:\\.|[^\"\\\n])*\"|'[^'\n]*'|[^\s\"',;}\])&]+)",
    re.I,
)
_SIGNED = re.compile(r"([?&](?:X-Amz-[\w-]+|sig|signature|se|sv|key)=)[^&\s\"'<>]+", re.I)
_URL = re.compile(r"\b([a-z][a-z0-9+.-]{0,15}://)[^/\s@\"'<>]{1,1000}@", re.I)
_EMAIL = re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")
_SERIAL = re.compile(
    r"(\b[\w -]{0,40}?(?:serial|asset[ _-]?tag|machine[ _-]?id|unique[ _-]?id|\buuid)[\w ]{0,12}?)"
    r"(\\?[\"']?\s*[:=]\s*\\?[\"']?)([A-Za-z0-9][A-Za-z0-9._-]{3,})",
    re.I,
)
_GPU = re.compile(r"\b(?:GPU|MIG)-[0-9a-f]{8}-[0-9a-f-]{20,}\b", re.I)
_MAC = re.compile(r"(?<![0-9A-Fa-f:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![0-9A-Fa-f:-])")
# A four-part version of a package is left: name==1.2.3.4, name-1.2.3.4-py3.
_IPV4 = re.compile(
    r"(?<![\w.])(?<!==)\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)(?!-(?:py|cp|manylinux)\w*)"
)
_IPV6 = re.compile(r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?:\.\d{1,3}){0,3}(?!\w)")
_NOT_SECRET = re.compile(r"(?:null|none|true|false|\d+(?:\.\d+)?|<secret>|N/A)", re.I)
_HOME = re.compile(r"/(?:home|Users)/([A-Za-z0-9][\w.-]*)")
_LOGIN = re.compile(r"(?<![\w.+/:-])([a-z_][a-z0-9_-]{1,31})@([A-Za-z0-9][\w-]*)(?=[:\s\"'/,;)]|$)")
_HOST_ID = re.compile(r"/hosts/([A-Za-z0-9][\w.-]*?)-([0-9a-f]{8})\b")
_NAMED = re.compile(
    r"\b(hostname|nodename|user|username)\"?\s*[:=]\s*\"?([A-Za-z0-9_][\w.-]*)", re.I
)

Match = re.Match[str]


class Redactor:
    """Redacts texts of one bundle. `counts` says how many of each kind were taken out.

    Tell it what is known (`learn`) and show it every text once (`discover`) before the first is
    redacted, so that a name that one file reveals is taken out of all.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._names: dict[str, str] = {}
        self._aliases: dict[tuple[str, str], str] = {}
        self._pattern: re.Pattern[str] | None = None

    def learn(self, kind: str, *names: str) -> None:
        """Note names of hosts or users; a host's short name too."""
        for name in names:
            for form in dict.fromkeys((name, name.partition(".")[0] if kind == "host" else name)):
                plain = form.lower() in PLAIN or len(form) < 2 or form.isdigit()
                if not plain and not _is_address(form) and form.lower() not in self._names:
                    self._names[form.lower()] = self._alias(kind, form.lower())
                    self._pattern = None

    def discover(self, text: str) -> None:
        """Note the users and hosts that a text reveals: homes, logins, folders of hosts."""
        self.learn("user", *_HOME.findall(text))
        for user, host in _LOGIN.findall(text):
            self.learn("user", user)
            self.learn("host", host)
        self.learn("host", *(name for name, _machine in _HOST_ID.findall(text)))
        for key, name in _NAMED.findall(text):
            self.learn("user" if key.lower().startswith("user") else "host", name)

    def text(self, text: str) -> str:
        """Return a text without what is private."""
        text = self._sub(_SECRETS, "secret", lambda _m: "<secret>", text)
        text = self._sub(_BEARER, "secret", lambda m: f"{m[1]}{m[2]}<secret>", text)
        text = self._sub(_KEYED, "secret", _keyed, text)
        text = self._sub(_SIGNED, "secret", lambda m: f"{m[1]}<secret>", text)
        text = self._sub(_URL, "credentials", lambda m: f"{m[1]}<credentials>@", text)
        text = self._sub(_EMAIL, "email", lambda m: self._alias("email", m[0].lower()), text)
        text = self._sub(_GPU, "serial", lambda m: self._alias("serial", m[0]), text)
        text = self._sub(_SERIAL, "serial", self._serial, text)
        text = self._sub(_MAC, "mac", lambda m: self._alias("mac", m[0].lower()), text)
        text = self._sub(_IPV6, "ip", self._address, text)
        text = self._sub(_IPV4, "ip", self._address, text)
        text = self._sub(_HOST_ID, "serial", lambda m: f"/hosts/{m[1]}-{self._short(m[2])}", text)
        return self._known(text)

    def _known(self, text: str) -> str:
        if not self._names:
            return text
        if self._pattern is None:
            longest = sorted(self._names, key=len, reverse=True)
            words = "|".join(map(re.escape, longest))
            self._pattern = re.compile(rf"(?<![A-Za-z0-9])(?:{words})(?![A-Za-z0-9])", re.I)

        def alias(found: Match) -> str:
            name = self._names[found[0].lower()]
            self.counts[name.partition("-")[0]] += 1
            return name

        return self._pattern.sub(alias, text)

    def _sub(
        self, pattern: re.Pattern[str], kind: str, replace: Callable[[Match], str], text: str
    ) -> str:
        def counted(found: Match) -> str:
            new = replace(found)
            self.counts[kind] += new != found[0]
            return new

        return pattern.sub(counted, text)

    def _alias(self, kind: str, value: str) -> str:
        number = sum(k == kind for k, _value in self._aliases) + 1
        return self._aliases.setdefault((kind, value), f"{kind}-{number}")

    def _serial(self, found: Match) -> str:
        value = found[3]
        if value.startswith("serial-") or (_NOT_SECRET.fullmatch(value) and not value.isdigit()):
            return found[0]
        return f"{found[1]}{found[2]}{self._alias('serial', value)}"

    def _short(self, machine: str) -> str:
        return self._alias("serial", machine)

    def _address(self, found: Match) -> str:
        try:
            address = ipaddress.ip_address(found[0])
        except ValueError:
            return found[0]
        if address.is_loopback or address.is_unspecified:
            return found[0]
        return self._alias("ip", str(address))


def _keyed(found: Match) -> str:
    value = found[3].strip("\\\"'")
    if not value or _NOT_SECRET.fullmatch(value):
        return found[0]
    quote = found[3][: len(found[3]) - len(found[3].lstrip("\\\"'"))]
    return f"{found[1]}{found[2]}{quote}<secret>{quote}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
