# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One locked virtual environment per set of locks, never the system's Python."""

from __future__ import annotations

from .builder import build, facts, missing_packages, ready, target, waiting
from .installer import pip_settings
from .interpreter import interpreters
from .loadgen import WHEELS_FOR as LOADGEN_WHEELS_FOR
from .locks import NEWEST, Lock, read
from .spec import Spec

__all__ = [
    "LOADGEN_WHEELS_FOR",
    "NEWEST",
    "Lock",
    "Spec",
    "build",
    "facts",
    "interpreters",
    "missing_packages",
    "pip_settings",
    "read",
    "ready",
    "target",
    "waiting",
]
