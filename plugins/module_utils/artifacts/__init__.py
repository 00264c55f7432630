# Copyright (c) 2026, benchfleet contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Artifacts by content: one store per host, and every way an artifact can come into it.

`store` keeps files and trees under their digests, `obtain` brings one there from where its spec
says; `download`, `archive`, `git`, `huggingface`, `mlcommons`, `mirror` and `paths` are its
origins. `pack` carries many small files as one, `layout` checks a lab's own copy, `worktree` takes
a developer's checkout, `entries` lists what a host keeps. Standard library only, Python 3.8 and
later: all of it runs on targets and on the controller.
"""
