# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The detached job: what works through a host's cells while nobody is connected.

The folder is shipped to the machine under test as it is, so it knows only the standard library and
itself. ``supervisor.main`` is the process; ``state.submit``, ``state.recover`` and ``lock.holder``
are what a module calls to start one, to tidy up after a dead one and to ask who measures.
"""
