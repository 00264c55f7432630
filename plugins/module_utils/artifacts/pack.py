# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many small files of a store as one file, for connections where each file costs a round trip."""

from __future__ import annotations

import tarfile
import tempfile
from pathlib import Path
from typing import Sequence

from ..host_store import sha256_of
from .base import ArtifactError
from .store import Store, is_digest

MOST_BYTES = 4 << 20  # larger files travel on their own: they can be resumed


def pack(store: Store, digests: Sequence[str], target: str | Path) -> list[str]:
    """Write the small ones of these files into a plain tar, each named by its digest; return which.

    Raises ArtifactError for a digest that is not in the store.
    """
    packed = []
    # Python's usual format adds a kilobyte to each file for the fraction of a second
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as tar:
        for digest in dict.fromkeys(digests):
            path = store.file_path(digest)
            if not path.is_file():
                raise ArtifactError(f"{store.root} holds no file {digest}.")
            if path.stat().st_size < MOST_BYTES:
                tar.add(str(path), arcname=digest, recursive=False)
                packed.append(digest)
    return packed


def unpack(store: Store, packfile: str | Path) -> list[str]:
    """Verify each file of a pack and publish it; return the digests.

    Raises ArtifactError for a file that is not what its name says, or that does not belong there.
    """
    folder = store.part("").parent
    found = []
    try:
        with tarfile.open(packfile, "r:") as tar:
            for member in tar:
                source = tar.extractfile(member) if member.isreg() else None
                if source is None or not is_digest(member.name) or member.size >= MOST_BYTES:
                    raise ArtifactError(f"{member.name!r} does not belong in a pack of files.")
                store.room(member.size, "a pack of files")
                with tempfile.NamedTemporaryFile(dir=folder, prefix="file-", delete=False) as part:
                    part.write(source.read())
                if sha256_of(part.name) != member.name:
                    Path(part.name).unlink()
                    raise ArtifactError(
                        f"a transferred file is damaged: {member.name}; run the command again."
                    )
                store.publish(Path(part.name), member.name)
                found.append(member.name)
    except tarfile.TarError as e:
        raise ArtifactError(f"{packfile} is damaged ({e}); run the command again.") from None
    return found
