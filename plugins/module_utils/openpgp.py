# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fingerprints of OpenPGP keys (RFC 4880, version 4), so that a host needs no gpg to check one."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import Iterator

_ARMOR = re.compile(
    rb"-----BEGIN PGP PUBLIC KEY BLOCK-----\r?\n(.*?)-----END PGP PUBLIC KEY BLOCK-----", re.S
)
_PUBLIC_KEY = 6


class KeyFormatError(ValueError):
    """The bytes are no OpenPGP public key."""


def armored(data: bytes) -> bool:
    """Whether a key file is text, which apt wants to know from the file's name."""
    return bool(_ARMOR.search(data))


def fingerprints(data: bytes) -> list[str]:
    """Return the fingerprint (40 upper-case hex digits) of each primary key in a key file.

    Raises KeyFormatError when there is none, or one of another version than 4.
    """
    blocks = [_unarmored(block) for block in _ARMOR.findall(data)] or [data]
    found = []
    for tag, body in (packet for block in blocks for packet in _packets(block)):
        if tag == _PUBLIC_KEY:
            if body[:1] != b"\x04":
                raise KeyFormatError("a key of another version than 4")
            framed = b"\x99" + len(body).to_bytes(2, "big") + body
            found.append(hashlib.new("sha1", framed).hexdigest().upper())
    if not found:
        raise KeyFormatError("no OpenPGP public key")
    return found


def _unarmored(block: bytes) -> bytes:
    lines = block.replace(b"\r", b"").split(b"\n")
    # headers (Version: …) end with an empty line, the checksum begins with =
    start = lines.index(b"") + 1 if b"" in lines[:-1] else 0
    text = b"".join(line for line in lines[start:] if not line.startswith(b"="))
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise KeyFormatError("a damaged key") from None


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and body of each packet; sections 4.2.1 and 4.2.2 of the RFC."""
    at = 0
    while at < len(data):
        header, at = data[at], at + 1
        if not header & 0x80:
            raise KeyFormatError("no OpenPGP public key")
        if header & 0x40:
            tag = header & 0x3F
            first = data[at] if at < len(data) else 255
            if first < 192:
                length, at = first, at + 1
            elif first < 224:
                length, at = (
                    ((first - 192) << 8) + int.from_bytes(data[at + 1 : at + 2], "big"),
                    at + 2,
                )
                length += 192
            elif first == 255:
                length, at = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
            else:
                raise KeyFormatError("a key with packets of partial length")
        else:
            tag, size = (header >> 2) & 0x0F, 1 << (header & 3)
            if size == 8:
                raise KeyFormatError("a key with a packet of indeterminate length")
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise KeyFormatError("a damaged key")
        yield tag, data[at : at + length]
        at += length
