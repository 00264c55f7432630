# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong, said for people: what, where, and what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchfleetError(Exception):
    """A fault that a person can mend; its text is the whole message that they see."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Say what `word` might have meant and what is valid, as the tail of an error message."""
    names = sorted({str(v) for v in valid})
    folded = {n.casefold(): n for n in names}
    close = difflib.get_close_matches(str(word).casefold(), folded, n=1, cutoff=0.5)
    hint = f" Did you mean '{folded[close[0]]}'?" if close else ""
    return f"{hint} Valid: {', '.join(names) or 'none'}."
